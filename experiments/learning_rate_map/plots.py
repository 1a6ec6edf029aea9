"""The learning-rate map's plot: a grid of differences from ReLU per measure and optimiser."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.lab.analysis.learning_rate_map_cells import MEASURES, Cells, Measure, relu_of
from experiments.lab.analysis.paired import is_shown
from experiments.lab.show import plots

_NOT_SHOWN: Any = {"facecolor": "#f1f3f5", "edgecolor": "#d3d9de", "linewidth": 0}
_HEIGHT = 0.42  # of a cell, in inches
_LINEAR = 50  # the colours are linear as far as a fiftieth of their range, and logarithmic beyond


def maps(cells: Cells) -> Any:
    """A row per measure, a column per optimiser; slope over learning rate."""
    optimizers = cells.optimizers
    height = 1.6 + len(MEASURES) * (0.75 + _HEIGHT * max(3, len(cells.slopes)))
    figure, axes = plots.panels(
        len(MEASURES),
        len(optimizers),
        "LeakyReLU against ReLU, over learning rate and slope",
        f"mean difference of pairs, {cells.seeds}, {cells.steps:,} steps\n"
        "colour and *: shown after correction for the number of comparisons; hatched: not shown",
        width=max(7.5, 1.6 + 4.6 * len(optimizers)),
        height=height,
    )
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 1.0 / height))  # the subtitle has two lines
    for row, (name, measure) in enumerate(MEASURES.items()):
        norm = _norm(cells, name)
        for column, optimizer in enumerate(optimizers):
            panel = axes[row, column]
            image = _panel(panel, cells, optimizer, name, norm)
            panel.set_title(f"{optimizer}: {measure.title}", loc="left")
            if column == 0:
                panel.set_ylabel("negative slope")
            if row == len(MEASURES) - 1:
                panel.set_xlabel("learning rate")
        _bar(figure.colorbar(image, ax=list(axes[row]), aspect=14, pad=0.015), cells, name)
    return figure


def _norm(cells: Cells, name: str) -> Any:
    """Colours as far as the largest difference that is shown, or that there is where none is shown.

    Logarithmic but around 0, so that a shown difference is seen as one beside another that is many times as large.
    """
    from matplotlib.colors import SymLogNorm

    every = [cells.against_relu(cell, name) for cell in cells.lives if cell[2] != 0]
    found = [one for one in every if is_shown(one)] or [one for one in every if one.values]
    limit = max([abs(one.mean) for one in found], default=0.0) * MEASURES[name].scale or 1.0
    return SymLogNorm(limit / _LINEAR, linscale=0.5, vmin=-limit, vmax=limit)


def _bar(bar: Any, cells: Cells, name: str) -> None:
    """The colour bar of a measure, with what is better and how wide its intervals are."""
    limit, measure = bar.norm.vmax, MEASURES[name]
    powers = [10.0**power for power in range(-9, 9) if limit / _LINEAR <= 10.0**power <= limit]
    ticks = [*(-power for power in reversed(powers)), 0.0, *powers]
    bar.set_ticks(ticks, labels=[f"{tick:+g}" if tick else "0" for tick in ticks], minor=False)
    bar.minorticks_off()
    bar.ax.tick_params(length=0, labelcolor=plots.INK, labelsize=9)
    bar.outline.set_visible(False)
    typical = cells.typical_half_width(name)
    label = f"{measure.unit}, {'more' if measure.more_is_better else 'fewer'} is better"
    width = "" if np.isnan(typical) else f"\ntypical interval ± {typical:.{measure.digits}f}"
    bar.set_label(label + width, color=plots.INK)


def _panel(panel: Any, cells: Cells, optimizer: str, name: str, norm: Any) -> Any:
    """Colours and figures of one measure and optimiser; the image, for its colour bar."""
    from matplotlib.patches import Rectangle

    measure, rates = MEASURES[name], cells.rates(optimizer)
    shown = np.full((len(cells.slopes), len(rates)), np.nan)
    for (y, x), _ in np.ndenumerate(shown):
        cell = optimizer, rates[x], cells.slopes[y]
        found = cells.against_relu(cell, name).scaled(measure.scale)
        if is_shown(found):
            shown[y, x] = found.mean
        else:
            panel.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, hatch="//", **_NOT_SHOWN))
        figures, remark = _words(cells, cell, measure, found.mean, is_shown(found))
        dark = is_shown(found) and abs(float(norm(found.mean)) - 0.5) > 0.3
        color = "white" if dark else plots.INK if is_shown(found) else plots.SOFT
        style = {"ha": "center", "color": color, "fontweight": "bold" if is_shown(found) else "normal"}
        both = bool(figures and remark)
        panel.text(x, y + 0.14 * both, figures, va="center", fontsize=8.5, **style)
        panel.text(x, y - 0.27 * both, remark, va="center", fontsize=6.5, **{**style, "fontweight": "normal"})
    image = panel.imshow(
        shown,
        cmap="BrBG" if measure.more_is_better else "BrBG_r",
        norm=norm,
        aspect="auto",
        origin="lower",
    )
    panel.grid(visible=False)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    panel.set_yticks(range(len(cells.slopes)), [f"{slope:g}" for slope in cells.slopes])
    panel.set_xticks(np.arange(len(rates) - 1) + 0.5, minor=True)
    panel.set_yticks(np.arange(len(cells.slopes) - 1) + 0.5, minor=True)
    panel.tick_params(which="minor", length=0)
    panel.grid(visible=True, which="minor", color="white", linewidth=1.2)
    panel.set_axisbelow(False)
    return image


def _words(
    cells: Cells, cell: tuple[str, float, float], measure: Measure, mean: float, shown: bool
) -> tuple[str, str]:
    """The difference, and how many networks diverged if any did."""
    figures = "" if np.isnan(mean) else f"{mean:+.{measure.digits}f}{'*' if shown else ''}"
    (ours, of), (theirs, of_relu) = cells.diverged(cell), cells.diverged(relu_of(cell))
    if ours:
        return figures, f"{ours}/{of} diverged"
    if theirs:
        return figures, f"ReLU: {theirs}/{of_relu} div."
    return figures or "\N{EN DASH}", ""

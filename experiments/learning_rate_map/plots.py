"""The learning-rate map's plot: a grid of differences from ReLU per measure and optimiser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.lab.analysis import DASH, Cell, Estimate, Measure, Runs
from experiments.lab.show import plots

_NOT_SHOWN: Any = {"facecolor": "#f1f3f5", "edgecolor": "#d3d9de", "linewidth": 0}
_HEIGHT = 0.42  # of a cell, in inches
_LINEAR = 50  # the colours are linear as far as a fiftieth of their range, and logarithmic beyond


def maps(runs: Runs, measures: Sequence[Measure], steps: int) -> Any:
    """A row per measure, a column per optimiser; slope over learning rate, after so many steps."""
    optimizers = list(dict.fromkeys(setting[0] for setting in runs.settings))
    height = 1.6 + len(measures) * (0.75 + _HEIGHT * max(3, len(runs.arms) - 1))
    figure, axes = plots.panels(
        len(measures),
        len(optimizers),
        "LeakyReLU against ReLU, over learning rate and slope",
        f"mean difference of pairs, {runs.seeds}, {steps:,} steps\n"
        "colour and *: shown after correction for the number of comparisons; hatched: not shown",
        width=max(7.5, 1.6 + 4.6 * len(optimizers)),
        height=height,
    )
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 1.0 / height))  # the subtitle has two lines
    for line, measure in zip(axes, measures, strict=True):
        found = [runs.difference(cell, measure).scaled(measure.scale) for cell in runs.cells if cell[-1]]
        norm = _norm(found)
        for panel, optimizer in zip(line, optimizers, strict=True):
            image = _panel(panel, runs, optimizer, measure, norm)
            panel.set_title(f"{optimizer}: {measure.title}", loc="left")
        line[0].set_ylabel("negative slope")
        _bar(figure.colorbar(image, ax=list(line), aspect=14, pad=0.015), found, measure)
    for panel in axes[-1]:
        panel.set_xlabel("learning rate")
    return figure


def typical_half_width(found: Sequence[Estimate]) -> float:
    """The median over the differences that have an interval; NaN without any."""
    widths = [one.half_width for one in found if one.values >= 3]
    return float(np.median(widths)) if widths else math.nan


def _norm(found: Sequence[Estimate]) -> Any:
    """Colours as far as the largest difference that is shown, or that there is where none is shown.

    Logarithmic but around 0, so that a shown difference is seen as one beside another that is many times as large.
    """
    from matplotlib.colors import SymLogNorm

    counted = [one for one in found if one.shown] or [one for one in found if one.values]
    limit = max([abs(one.mean) for one in counted], default=0.0) or 1.0
    return SymLogNorm(limit / _LINEAR, linscale=0.5, vmin=-limit, vmax=limit)


def _bar(bar: Any, found: Sequence[Estimate], measure: Measure) -> None:
    """The colour bar of a measure, with what is better and how wide its intervals are."""
    limit = bar.norm.vmax
    powers = [10.0**power for power in range(-9, 9) if limit / _LINEAR <= 10.0**power <= limit]
    ticks = [*(-power for power in reversed(powers)), 0.0, *powers]
    bar.set_ticks(ticks, labels=[f"{tick:+g}" if tick else "0" for tick in ticks], minor=False)
    bar.minorticks_off()
    bar.ax.tick_params(length=0, labelcolor=plots.INK, labelsize=9)
    bar.outline.set_visible(False)
    typical = typical_half_width(found)
    unit, better = (
        "points" if measure.scale == 100 else "steps",
        "more" if measure.more_is_better else "fewer",
    )
    label = f"{unit}, {better} is better"
    width = "" if math.isnan(typical) else f"\ntypical interval ± {typical:.{measure.digits}f}"
    bar.set_label(label + width, color=plots.INK)


def _panel(panel: Any, runs: Runs, optimizer: str, measure: Measure, norm: Any) -> Any:
    """Colours and figures of one measure and optimiser; the image, for its colour bar."""
    from matplotlib.patches import Rectangle

    rates = sorted(rate for name, rate in runs.settings if name == optimizer)
    slopes = sorted(slope for slope in runs.arms if slope)
    shown = np.full((len(slopes), len(rates)), np.nan)
    for (y, x), _ in np.ndenumerate(shown):
        cell = optimizer, rates[x], slopes[y]
        found = runs.difference(cell, measure).scaled(measure.scale)
        if found.shown:
            shown[y, x] = found.mean
        else:
            panel.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, hatch="//", **_NOT_SHOWN))
        figures, remark = _words(runs, cell, measure, found)
        dark = found.shown and abs(float(norm(found.mean)) - 0.5) > 0.3
        color = "white" if dark else plots.INK if found.shown else plots.SOFT
        style = {"ha": "center", "color": color, "fontweight": "bold" if found.shown else "normal"}
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
    panel.set_yticks(range(len(slopes)), [f"{slope:g}" for slope in slopes])
    panel.set_xticks(np.arange(len(rates) - 1) + 0.5, minor=True)
    panel.set_yticks(np.arange(len(slopes) - 1) + 0.5, minor=True)
    panel.tick_params(which="minor", length=0)
    panel.grid(visible=True, which="minor", color="white", linewidth=1.2)
    panel.set_axisbelow(False)
    return image


def _words(runs: Runs, cell: Cell, measure: Measure, found: Estimate) -> tuple[str, str]:
    """The difference, and how many networks diverged if any did."""
    figures = f"{found.mean:+.{measure.digits}f}{'*' if found.shown else ''}" if found.values else ""
    (ours, of), (theirs, of_relu) = runs.diverged(cell), runs.diverged(runs.base_of(cell))
    if ours:
        return figures, f"{ours}/{of} diverged"
    if theirs:
        return figures, f"ReLU: {theirs}/{of_relu} div."
    return figures or DASH, ""

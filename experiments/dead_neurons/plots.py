"""The three plots of the dead-neuron experiment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.lab.analysis.cells import Cell, Measure, Units, accuracy
from experiments.lab.show import plots


def figures(
    cells: Sequence[Cell], hidden: Sequence[int], samples: int
) -> list[tuple[str, str, Callable[[], Any]]]:
    """File name, caption, and what draws it."""
    plots_of = (
        (
            "over_learning_rate.png",
            "Final share of never-active units and test accuracy over the learning rate; bars are 95 % intervals "
            "over seeds, and an open marker says that some seeds diverged.",
            over_learning_rate,
        ),
        (
            "over_steps.png",
            "Share of never-active units during training; bands are 95 % intervals over seeds.",
            over_steps,
        ),
        (
            "in_depth.png",
            "Share of never-active units per hidden layer at the last step, mean over seeds.",
            in_depth,
        ),
    )
    return [
        (name, caption, functools.partial(plot, cells, hidden, samples)) for name, caption, plot in plots_of
    ]


def over_learning_rate(cells: Sequence[Cell], hidden: Sequence[int], samples: int) -> Any:
    """Two rows, what is lost and what is learned; a column per optimiser."""
    optimizers, styles = _optimizers(cells), plots.activation_styles(_slopes(cells))
    figure, axes = plots.panels(
        2,
        len(optimizers),
        "Never-active units and accuracy, by learning rate",
        f"{_setting(hidden)}; after {_last_step(cells):,} steps, on {samples:,} test images; 95 % intervals over seeds",
        width=max(8.5, 0.5 + 4.5 * len(optimizers)),
        height=6.6,
        sharey="row",
        sharex="col",
    )
    measures: list[Measure] = [Units(hidden).share("never_active"), accuracy]
    for (row, column), panel in np.ndenumerate(axes):
        for place, (slope, style) in enumerate(styles.items()):
            line = [cell for cell in cells if (cell.optimizer, cell.slope) == (optimizers[column], slope)]
            estimates = [cell.estimate(measures[row]).scaled(100) for cell in line]
            # Side by side, so that the bars of one learning rate can be told apart.
            rates = [cell.learning_rate * 1.06 ** (place - (len(styles) - 1) / 2) for cell in line]
            plots.points_with_bars(panel, rates, estimates, style, [cell.diverged > 0 for cell in line])
        rates = sorted({cell.learning_rate for cell in cells if cell.optimizer == optimizers[column]})
        panel.set_xscale("log")
        panel.set_xticks(rates, [f"{rate:g}" for rate in rates])
        panel.minorticks_off()
        panel.set_ylim(-2, 102)
    for column, optimizer in enumerate(optimizers):
        axes[0, column].set_title(_optimizer_name(optimizer), fontweight="bold", loc="left")
        axes[1, column].set_xlabel("learning rate")
    axes[0, 0].set_ylabel("never-active units, %")
    axes[1, 0].set_ylabel("test accuracy, %")
    plots.legend(figure, axes[0, 0])
    return figure


def over_steps(cells: Sequence[Cell], hidden: Sequence[int], samples: int) -> Any:
    """A row per optimiser, a panel per learning rate, a line per activation."""
    optimizers, styles = _optimizers(cells), plots.activation_styles(_slopes(cells))
    rates = [sorted({cell.learning_rate for cell in cells if cell.optimizer == name}) for name in optimizers]
    figure, axes = plots.panels(
        len(optimizers),
        max(map(len, rates)),
        "Never-active units during training",
        f"{_setting(hidden)}; share of units that are negative on all {samples:,} test images; bands: 95 % intervals",
        width=max(8.5, 0.8 + 2.5 * max(map(len, rates))),
        height=1.2 + 2.4 * len(optimizers),
        sharex=True,
        sharey="row",
    )
    for (row, column), panel in np.ndenumerate(axes):
        if column >= len(rates[row]):
            panel.set_axis_off()
            continue
        rate = rates[row][column]
        here = [cell for cell in cells if (cell.optimizer, cell.learning_rate) == (optimizers[row], rate)]
        _lives(panel, here, Units(hidden), styles)
        panel.set_title(f"{optimizers[row]}, learning rate {rate:g}", loc="left")
    for row in range(len(optimizers)):
        # The intervals of a few seeds may reach below 0 and far above all means: the axis follows the means.
        highest = max(
            np.nanmax(line.get_ydata(), initial=1) for panel in axes[row] for line in panel.get_lines()
        )
        axes[row, 0].set_ylim(0, min(100, 1.25 * highest))
        axes[row, 0].set_ylabel("units, %")
    for panel in axes[-1]:
        panel.set_xlabel("training step")
    plots.legend(figure, axes[0, 0])
    return figure


def _lives(panel: Any, cells: Sequence[Cell], units: Units, styles: dict[float, dict[str, Any]]) -> None:
    """One panel: the share over the steps for each activation, and a word on what is not there."""
    steps = [record["step"] for record in next(iter(cells[0].lives.values()))]
    gone = []
    for cell in cells:
        shares = [
            cell.estimate(units.share("never_active", place)).scaled(100) for place in range(len(steps))
        ]
        plots.line_with_band(panel, steps, shares, styles[cell.slope])
        if cell.diverged:
            gone.append(f"{plots.activation_name(cell.slope)}: {cell.diverged} of {len(cell.lives)} diverged")
    panel.text(0.04, 0.96, "\n".join(gone), transform=panel.transAxes, va="top", fontsize=8, color=plots.SOFT)
    # Linear up to step 1, so that step 0 has a place; logarithmic from there.
    panel.set_xscale("symlog", linthresh=1, linscale=0.5)
    panel.set_xlim(0, steps[-1])
    powers = [0, *(10**power for power in range(6) if 10**power <= steps[-1])]
    panel.set_xticks(powers, [f"{step:,}" for step in powers])
    panel.minorticks_off()


def in_depth(cells: Sequence[Cell], hidden: Sequence[int], samples: int) -> Any:
    """A row per optimiser, a map of layer and learning rate per activation, the shares written in."""
    optimizers, slopes = _optimizers(cells), _slopes(cells)
    figure, axes = plots.panels(
        len(optimizers),
        len(slopes),
        "Where in depth units are never active",
        f"{_setting(hidden)}; % of units after {_last_step(cells):,} steps, n = {samples:,} test images",
        width=max(6.0, 0.8 + 3.2 * len(slopes)),
        height=1.2 + (0.9 + 0.38 * len(hidden)) * len(optimizers),
    )
    for row, optimizer in enumerate(optimizers):
        for column, slope in enumerate(slopes):
            panel = axes[row, column]
            line = [cell for cell in cells if (cell.optimizer, cell.slope) == (optimizer, slope)]
            shares = 100 * np.array(
                [[cell.estimate(_layer(layer)).mean for cell in line] for layer in range(len(hidden))]
            )
            panel.imshow(shares, cmap="YlOrBr", vmin=0, vmax=100, aspect="auto")
            for (layer, rate), share in np.ndenumerate(shares):
                text = "\N{EN DASH}" if np.isnan(share) else f"{share:.0f}"
                panel.text(
                    rate, layer, text, ha="center", va="center", color="white" if share > 60 else plots.INK
                )
            panel.grid(visible=False)
            panel.tick_params(length=0)
            panel.spines[:].set_visible(False)
            panel.set_title(f"{optimizer}, {plots.activation_name(slope)}", loc="left")
            panel.set_xticks(range(len(line)), [f"{cell.learning_rate:g}" for cell in line])
            panel.set_yticks(range(len(hidden)), [str(layer + 1) for layer in range(len(hidden))])
            if column == 0:
                panel.set_ylabel("hidden layer")
            if row == len(optimizers) - 1:
                panel.set_xlabel("learning rate")
    return figure


def _layer(layer: int) -> Measure:
    return lambda life: life[-1]["never_active"][layer]


def _optimizers(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.optimizer for cell in cells))


def _slopes(cells: Sequence[Cell]) -> list[float]:
    return list(dict.fromkeys(cell.slope for cell in cells))


def _last_step(cells: Sequence[Cell]) -> int:
    return next(iter(cells[0].lives.values()))[-1]["step"]


def _optimizer_name(optimizer: str) -> str:
    return {"sgd": "SGD with momentum 0.9", "adam": "Adam"}.get(optimizer, optimizer)


def _setting(hidden: Sequence[int]) -> str:
    widths = f"{len(hidden)} x {hidden[0]}" if len(set(hidden)) == 1 else "-".join(map(str, hidden))
    return f"MLP with {widths} hidden units"

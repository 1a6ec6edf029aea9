"""The three plots of the dead-neuron experiment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.lab.analysis import DASH, Measure, Runs, last, share
from experiments.lab.show import plots


def figures(runs: Runs, hidden: Sequence[int], samples: int) -> list[tuple[str, str, Callable[[], Any]]]:
    """File name, caption, and what draws it."""
    plots_of = (
        (
            "over_learning_rate.png",
            "Final share of never-active units and test accuracy over the learning rate; bars are 95 % intervals "
            "over three seeds or more; an open marker says that some seeds diverged, a missing one that all did.",
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
        (name, caption, functools.partial(plot, runs, hidden, samples)) for name, caption, plot in plots_of
    ]


def over_learning_rate(runs: Runs, hidden: Sequence[int], samples: int) -> Any:
    """Two rows, what is lost and what is learned; a column per optimiser."""
    optimizers, styles = _optimizers(runs), plots.activation_styles(runs.arms)
    figure, axes = plots.panels(
        2,
        len(optimizers),
        "Never-active units and accuracy, by learning rate",
        f"{_setting(hidden)}; after {_last_step(runs):,} steps, on {samples:,} test images; 95 % intervals over seeds",
        width=max(8.5, 0.5 + 4.5 * len(optimizers)),
        height=6.6,
        sharey="row",
        sharex="col",
    )
    measures = [
        Measure("never active", last(share("never_active"))),
        Measure("accuracy", last("test_accuracy")),
    ]
    for (row, column), panel in np.ndenumerate(axes):
        optimizer, measure = optimizers[column], measures[row]
        rates = _rates(runs, optimizer)
        for place, (slope, style) in enumerate(styles.items()):
            line = [(optimizer, rate, slope) for rate in rates if (optimizer, rate, slope) in runs.cells]
            estimates = [runs.mean(cell, measure).scaled(measure.scale) for cell in line]
            # Side by side, so that the bars of one learning rate can be told apart.
            beside = [cell[1] * 1.06 ** (place - (len(styles) - 1) / 2) for cell in line]
            hollow = [runs.diverged(cell)[0] > 0 for cell in line]
            plots.points_with_bars(panel, beside, estimates, style, hollow)
        panel.set_xscale("log")
        panel.set_xticks(rates, [f"{rate:g}" for rate in rates])
        panel.minorticks_off()
        panel.set_ylim(-2, 102)
    for column, optimizer in enumerate(optimizers):
        axes[0, column].set_title(_optimizer_name(optimizer), fontweight="bold", loc="left")
        axes[1, column].set_xlabel("learning rate")
    axes[0, 0].set_ylabel("never-active units, %")
    axes[1, 0].set_ylabel("test accuracy, %")
    plots.legend(figure)
    return figure


def over_steps(runs: Runs, hidden: Sequence[int], samples: int) -> Any:
    """A row per optimiser, a panel per learning rate, a line per activation."""
    optimizers, styles = _optimizers(runs), plots.activation_styles(runs.arms)
    rates = [_rates(runs, name) for name in optimizers]
    figure, axes = plots.panels(
        len(optimizers),
        max(map(len, rates)),
        "Never-active units during training",
        f"{_setting(hidden)}; share of units that are active on none of {samples:,} test images; bands: 95 % intervals",
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
        _over_steps(panel, runs, (optimizers[row], rate), styles)
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
    plots.legend(figure)
    return figure


def _over_steps(
    panel: Any, runs: Runs, setting: tuple[str, float], styles: dict[float, dict[str, Any]]
) -> None:
    """One panel: the share over the steps for each activation, and a word on what is not there."""
    plots.curves(panel, runs, setting, share("never_active"), styles, 100)
    gone = [
        f"{plots.activation_name(slope)}: {diverged} of {of} diverged"
        for slope in styles
        for diverged, of in [runs.diverged((*setting, slope))]
        if diverged
    ]
    panel.text(0.04, 0.96, "\n".join(gone), transform=panel.transAxes, va="top", fontsize=8, color=plots.SOFT)
    end = _last_step(runs)
    # Linear up to step 1, so that step 0 has a place; logarithmic from there.
    panel.set_xscale("symlog", linthresh=1, linscale=0.5)
    panel.set_xlim(0, end)
    powers = [0, *(10**power for power in range(6) if 10**power <= end)]
    panel.set_xticks(powers, [f"{step:,}" for step in powers])
    panel.minorticks_off()


def in_depth(runs: Runs, hidden: Sequence[int], samples: int) -> Any:
    """A row per optimiser, a map of layer and learning rate per activation, the shares written in."""
    optimizers, slopes = _optimizers(runs), runs.arms
    figure, axes = plots.panels(
        len(optimizers),
        len(slopes),
        "Where in depth units are never active",
        f"{_setting(hidden)}; % of units after {_last_step(runs):,} steps, n = {samples:,} test images",
        width=max(6.0, 0.8 + 3.2 * len(slopes)),
        height=1.2 + (0.9 + 0.38 * len(hidden)) * len(optimizers),
    )
    for row, optimizer in enumerate(optimizers):
        for column, slope in enumerate(slopes):
            panel = axes[row, column]
            rates = _rates(runs, optimizer)
            found = [runs.layers((optimizer, rate, slope), "never_active") for rate in rates]
            means = [[one.mean for one in layers] or [np.nan] * len(hidden) for layers in found]
            shares = 100 * np.array(means).T
            panel.imshow(shares, cmap="YlOrBr", vmin=0, vmax=100, aspect="auto")
            for (layer, rate), value in np.ndenumerate(shares):
                text = DASH if np.isnan(value) else f"{value:.0f}"
                panel.text(
                    rate, layer, text, ha="center", va="center", color="white" if value > 60 else plots.INK
                )
            panel.grid(visible=False)
            panel.tick_params(length=0)
            panel.spines[:].set_visible(False)
            panel.set_title(f"{optimizer}, {plots.activation_name(slope)}", loc="left")
            panel.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
            panel.set_yticks(range(len(hidden)), [str(layer + 1) for layer in range(len(hidden))])
            if column == 0:
                panel.set_ylabel("hidden layer")
            if row == len(optimizers) - 1:
                panel.set_xlabel("learning rate")
    return figure


def _optimizers(runs: Runs) -> list[str]:
    return list(dict.fromkeys(setting[0] for setting in runs.settings))


def _rates(runs: Runs, optimizer: str) -> list[float]:
    return sorted(rate for name, rate in runs.settings if name == optimizer)


def _last_step(runs: Runs) -> int:
    return int(runs.records["step"].max())


def _optimizer_name(optimizer: str) -> str:
    return {"sgd": "SGD with momentum 0.9", "adam": "Adam"}.get(optimizer, optimizer)


def _setting(hidden: Sequence[int]) -> str:
    widths = f"{len(hidden)} x {hidden[0]}" if len(set(hidden)) == 1 else "-".join(map(str, hidden))
    return f"MLP with {widths} hidden units"

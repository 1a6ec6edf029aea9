"""The mode experiment's plots: differences from ReLU, training over its steps, and generated samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.gan_modes import mixtures
from experiments.lab.analysis.paired import is_shown
from experiments.lab.analysis.statistics import estimate
from experiments.lab.show import plots

_COLORS = {
    "relu": "#D55E00",
    "discriminator_0.01": "#56B4E9",
    "discriminator_0.2": "#0072B2",
    "generator_0.01": "#E69F00",
    "generator_0.2": "#CC79A7",
    "both_0.2": "#009E73",
}


def changes_plot(lives: Any, measures: Mapping[str, Any], names: Mapping[str, str]) -> Any:
    """A column per measure, a row per mixture and optimiser, a line per choice of activations."""
    arms = [arm for arm in lives.arms if arm != "relu"]
    figure, axes = plots.panels(
        len(lives.settings),
        len(measures),
        "What a leaky player changes",
        "difference from ReLU in both players over paired seeds; bars: intervals corrected for "
        f"{lives.comparisons} comparisons",
        width=0.8 + 2.9 * len(measures),
        height=1.3 + 1.6 * len(lives.settings),
        sharex="col",
        sharey=True,
    )
    for row, setting in enumerate(lives.settings):
        for column, measure in enumerate(measures.values()):
            panel = axes[row, column]
            panel.axvline(0, color=plots.SOFT, linewidth=1)
            for place, arm in enumerate(arms):
                found = lives.against_baseline((*setting, arm), measure).scaled(measure.scale)
                panel.errorbar(
                    found.mean,
                    place,
                    xerr=np.nan_to_num(found.half_width),
                    fmt="o",
                    color=_COLORS[arm],
                    markerfacecolor=_COLORS[arm] if is_shown(found) else "white",
                    markersize=5.5,
                    elinewidth=1.3,
                )
            panel.set_yticks(range(len(arms)), [names[arm] for arm in arms])
            if row == 0:
                better = "right" if measure.more_is_better else "left"
                panel.set_title(f"{measure.name}\n({better} is better)", loc="left", fontsize=9)
            if column == 0:
                panel.set_ylabel(", ".join(setting), fontweight="bold")
    axes[0, 0].invert_yaxis()  # of all: they are shared
    return figure


def over_steps(lives: Any, names: Mapping[str, str], modes: Mapping[str, int]) -> Any:
    """A column per mixture and optimiser, a row per measure."""
    rows = [
        ("modes", 1, "modes covered"),
        ("high_quality", 100, "high quality, %"),
        ("generator_gradient", 1, "norm of the\ngenerator's gradient"),
    ]
    figure, axes = plots.panels(
        len(rows),
        len(lives.settings),
        "Two players over training",
        "means over seeds; bands: 95 % intervals",
        width=0.8 + 3.3 * len(lives.settings),
        height=1.6 + 2.3 * len(rows),
        sharex=True,
    )
    for column, setting in enumerate(lives.settings):
        for row, (name, scale, label) in enumerate(rows):
            panel = axes[row, column]
            for arm in lives.arms:
                some = [life for life in lives.lives[*setting, arm].values() if not life[-1]["diverged"]] or [
                    []
                ]
                steps = [record["step"] for record in some[0]]
                at = [
                    estimate([life[place][name] for life in some]).scaled(scale)
                    for place in range(len(steps))
                ]
                style = {"color": _COLORS[arm], "label": names[arm]}
                plots.line_with_band(panel, steps, at, style)
            if column == 0:
                panel.set_ylabel(label)
        axes[0, column].axhline(modes[setting[0]], color=plots.SOFT, linewidth=1, linestyle=":")
        axes[0, column].set_title(", ".join(setting), loc="left", fontweight="bold")
        axes[0, column].set_ylim(bottom=0)
        axes[1, column].set_ylim(bottom=0)
        axes[2, column].set_yscale("log")
        axes[-1, column].set_xlabel("step")
    plots.legend(figure, axes[0, 0])
    return figure


def scatter(lives: Any, names: Mapping[str, str]) -> Any:
    """A row per mixture and optimiser, a column per choice of activations."""
    figure, axes = plots.panels(
        len(lives.settings),
        len(lives.arms),
        "What the generators make",
        "samples of seed 0 after the last step; crosses: the modes",
        width=0.8 + 2.1 * len(lives.arms),
        height=1.0 + 2.2 * len(lives.settings),
    )
    for row, setting in enumerate(lives.settings):
        centers = np.asarray({"ring": mixtures.ring, "grid": mixtures.grid}[setting[0]]().centers)
        edge = 1.35 * np.abs(centers).max()
        for column, arm in enumerate(lives.arms):
            panel = axes[row, column]
            life = lives.lives[*setting, arm].get(0, [{}])
            points = np.array(life[-1].get("samples", np.zeros((0, 2))))
            panel.scatter(*centers.T, marker="+", color=plots.INK, linewidths=0.8, s=30)
            panel.scatter(*points.T, s=5, color=_COLORS[arm], alpha=0.5, linewidths=0)
            panel.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal", xticks=[], yticks=[])
            panel.grid(visible=False)
            if row == 0:
                panel.set_title(names[arm], loc="left")
            if column == 0:
                panel.set_ylabel(", ".join(setting), fontweight="bold")
    return figure

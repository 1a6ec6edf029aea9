"""The mode experiment's plots: differences from ReLU, training over its steps, and generated samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.gan_modes import mixtures
from experiments.lab.analysis import Measure, Runs
from experiments.lab.show import plots


def changes_plot(runs: Runs, measures: Sequence[Measure], names: Mapping[str, str]) -> Any:
    """A column per measure, a row per mixture and optimiser, a line per choice of activations."""
    figure, axes = plots.panels(
        len(runs.settings),
        len(measures),
        "What a leaky player changes",
        "difference from ReLU in both players over paired seeds; bars: intervals corrected for "
        f"{runs.comparisons} comparisons",
        width=0.8 + 2.9 * len(measures),
        height=1.3 + 1.6 * len(runs.settings),
        sharex="col",
        sharey=True,
    )
    arms = [arm for arm in runs.arms if arm != runs.baseline]
    for line, setting in zip(axes, runs.settings, strict=True):
        cells = {(*setting, arm): (names[arm], plots.COLORS[arm]) for arm in arms}
        plots.differences(line, runs, measures, cells)
        line[0].set_ylabel(", ".join(setting), fontweight="bold")
    for panel, measure in zip(axes[0], measures, strict=True):
        better = "right" if measure.more_is_better else "left"
        panel.set_title(f"{measure.name}\n({better} is better)", loc="left", fontsize=9)
    return figure


def over_steps(runs: Runs, names: Mapping[str, str], modes: Mapping[str, int]) -> Any:
    """A column per mixture and optimiser, a row per measure."""
    rows = [
        ("modes", 1, "modes covered"),
        ("high_quality", 100, "high quality, %"),
        ("generator_gradient", 1, "norm of the\ngenerator's gradient"),
    ]
    figure, axes = plots.panels(
        len(rows),
        len(runs.settings),
        "Two players over training",
        "means over seeds; bands: 95 % intervals",
        width=max(7.5, 0.8 + 3.3 * len(runs.settings)),
        height=1.6 + 2.3 * len(rows),
        sharex=True,
    )
    styles = {arm: {"color": plots.COLORS[arm], "label": names[arm]} for arm in runs.arms}
    for column, setting in enumerate(runs.settings):
        for panel, (name, scale, label) in zip(axes[:, column], rows, strict=True):
            plots.curves(panel, runs, setting, name, styles, scale)
            if column == 0:
                panel.set_ylabel(label)
        axes[0, column].axhline(modes[setting[0]], color=plots.SOFT, linewidth=1, linestyle=":")
        axes[0, column].set_title(", ".join(setting), loc="left", fontweight="bold")
        axes[0, column].set_ylim(bottom=0)
        axes[1, column].set_ylim(bottom=0)
        axes[2, column].set_yscale("log")
        axes[-1, column].set_xlabel("step")
    plots.legend(figure)
    return figure


def scatter(runs: Runs, names: Mapping[str, str]) -> Any:
    """A row per mixture and optimiser, a column per choice of activations."""
    figure, axes = plots.panels(
        len(runs.settings),
        len(runs.arms),
        "What the generators make",
        "samples of seed 0 after the last step; crosses: the modes",
        width=0.8 + 2.1 * len(runs.arms),
        height=1.0 + 2.2 * len(runs.settings),
    )
    for row, setting in enumerate(runs.settings):
        centers = np.asarray({"ring": mixtures.ring, "grid": mixtures.grid}[setting[0]]().centers)
        edge = 1.35 * np.abs(centers).max()
        for column, arm in enumerate(runs.arms):
            panel = axes[row, column]
            points = np.array(runs.kept((*setting, arm), "samples")).reshape(-1, 2)
            panel.scatter(*centers.T, marker="+", color=plots.INK, linewidths=0.8, s=30)
            panel.scatter(*points.T, s=5, color=plots.COLORS[arm], alpha=0.5, linewidths=0)
            panel.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal", xticks=[], yticks=[])
            panel.grid(visible=False)
            if row == 0:
                panel.set_title(names[arm], loc="left")
            if column == 0:
                panel.set_ylabel(", ".join(setting), fontweight="bold")
    return figure

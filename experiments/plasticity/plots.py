"""The plasticity experiment's plot: four measures over the tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.lab.analysis import Estimate, Runs
from experiments.lab.show import plots


def over_tasks(
    config: Any,
    runs: Runs,
    measures: Sequence[tuple[str, bool, Callable[[Any], Estimate]]],
    names: Mapping[str, str],
) -> Any:
    """A panel per measure: its title, whether it is in percent, and the estimate from one moment's records."""
    figure, axes = plots.panels(
        2,
        2,
        "Over a sequence of tasks",
        f"permuted images, {'-'.join(map(str, config.hidden))} units, step size {config.step_size:g}; {config.seeds} "
        "seeds, bands: 95 % intervals",
        width=11.5,
        height=7.2,
        sharex=True,
    )
    for panel, (title, percent, of) in zip(axes.flat, measures, strict=True):
        for arm in runs.arms:
            moments = dict([*runs.of_cell((arm,)).groupby("step")])
            found = [of(records).scaled(100 if percent else 1) for records in moments.values()]
            _line(panel, [*moments], found, 100 if percent else math.inf, plots.COLORS[arm], names[arm])
        panel.set_title(title, loc="left", fontweight="bold")
        panel.set_xlim(0, config.tasks)
    for panel in axes.flat[1:]:
        panel.set_ylim(bottom=0)
    axes[1, 1].set_ylim(0, 105)
    for panel in axes[-1]:
        panel.set_xlabel("task")
    plots.legend(figure)
    return figure


def _line(
    panel: Any, tasks: Sequence[int], found: Sequence[Estimate], most: float, color: str, label: str
) -> None:
    """A line through the means, with gaps where there is none; the intervals as a band, cut where no value can be."""
    mean = np.array([estimate.mean for estimate in found])
    half = np.nan_to_num([estimate.half_width for estimate in found])
    low, high = np.clip(mean - half, 0, most), np.clip(mean + half, 0, most)
    panel.fill_between(tasks, low, high, color=color, alpha=0.15, linewidth=0)
    # A point between two gaps has no line: its marker alone shows it.
    gaps = np.isnan(mean)
    alone = ~gaps & np.append(gaps[1:], True) & np.append(True, gaps[:-1])
    panel.plot(tasks, mean, color=color, label=label)
    panel.plot(np.array(tasks)[alone], mean[alone], ".", color=color)

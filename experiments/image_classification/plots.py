"""The plots of the image classification: differences from ReLU, and never-active channels layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.lab.analysis import Measure, Runs
from experiments.lab.show import plots

NETWORKS = {"cnn": "plain CNN", "cnn_norm": "plain CNN, normalised", "resnet": "ResNet"}
ACTIVATIONS = {"relu": "ReLU", "leaky_0.01": "leaky 0.01", "leaky_0.2": "leaky 0.2", "prelu": "PReLU"}


def against_relu(config: Any, runs: Runs, measures: Sequence[Measure]) -> Any:
    """A panel per measure; a line per network and activation."""
    cells = {
        (network, rate, name): (f"{NETWORKS[network]}, {rate:g}: {ACTIVATIONS[name]}", plots.COLORS[name])
        for network, rate, name in runs.cells
        if name != runs.baseline
    }
    figure, axes = plots.panels(
        1,
        len(measures),
        "Against ReLU in otherwise equal networks",
        f"mean difference over {config.seeds} paired seeds; intervals hold for all {runs.comparisons} comparisons "
        "together; hollow: not shown",
        width=12.5,
        height=1.8 + 0.34 * max(1, len(cells)),
        sharey=True,
    )
    plots.differences(axes[0], runs, measures, cells)
    for panel, measure in zip(axes[0], measures, strict=True):
        panel.set_title(measure.title, loc="left", fontweight="bold")
    return figure


def over_layers(config: Any, runs: Runs) -> Any:
    """A panel per network."""
    figure, axes = plots.panels(
        1,
        len(runs.settings),
        "Never-active channels, layer by layer",
        f"after {config.steps:,} steps; {config.seeds} seeds, bars: 95 % intervals",
        width=max(7.5, 3.2 * len(runs.settings)),
        height=4.2,
        sharey=True,
    )
    for panel, (network, rate) in zip(axes[0], runs.settings, strict=True):
        for place, activation in enumerate(runs.arms):
            found = runs.layers((network, rate, activation), "never_active")
            points = [one.scaled(100) for one in found]
            style = {
                "color": plots.COLORS[activation],
                "marker": "os^D"[place],
                "label": ACTIVATIONS[activation],
            }
            plots.points_with_bars(panel, range(1, len(points) + 1), points, style, [False] * len(points))
        panel.set_title(f"{NETWORKS[network]}, {rate:g}", loc="left", fontweight="bold")
        panel.set_xlabel("layer")
    axes[0, 0].set_ylabel("never-active channels, %")
    axes[0, 0].set_ylim(bottom=0)
    plots.legend(figure)
    return figure

"""The plots of the image classification: differences from ReLU, and silent channels layer by layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.lab.analysis.compared import ACTIVATIONS, NETWORKS, Cells, Measure, last, of_layer, share
from experiments.lab.show import plots

_COLORS = {"relu": "#D55E00", "leaky_0.01": "#0072B2", "leaky_0.2": "#009E73", "prelu": "#CC79A7"}


def against_relu(config: Any, cells: Cells) -> Any:
    """A panel per measure; a line per network and activation."""
    lines = [
        (*setting, name)
        for setting in cells.settings
        for name in cells.activations(*setting)
        if name != "relu"
    ]
    measures: list[tuple[str, float, Measure]] = [
        ("test accuracy, points", 100, last("test_accuracy")),
        ("steps to the target loss", 1, last("steps_to_target")),
        ("never active, points", 100, share("never_active")),
    ]
    figure, axes = plots.panels(
        1,
        len(measures),
        "Against ReLU in otherwise equal networks",
        f"mean difference over {config.seeds} paired seeds; intervals hold for all {cells.comparisons} comparisons "
        "together",
        width=11.5,
        height=1.8 + 0.34 * len(lines),
        sharey=True,
    )
    for panel, (title, scale, measure) in zip(axes[0], measures, strict=True):
        panel.axvline(0, color=plots.SOFT, linewidth=1)
        for place, cell in enumerate(reversed(lines)):
            one = cells.against_relu(cell, measure).scaled(scale)
            if one.values >= 3:
                panel.errorbar(
                    one.mean,
                    place,
                    xerr=np.nan_to_num(one.half_width),
                    fmt="o",
                    color=_COLORS[cell[2]],
                    capsize=3,
                )
            else:
                panel.annotate(
                    "too few pairs",
                    (0.02, place),
                    xycoords=("axes fraction", "data"),
                    va="center",
                    color=plots.SOFT,
                )
        panel.set_title(title, loc="left", fontweight="bold")
    names = [f"{NETWORKS[network]}, {rate:g}: {ACTIVATIONS[name]}" for network, rate, name in reversed(lines)]
    axes[0, 0].set_yticks(range(len(lines)), names)
    axes[0, 0].set_ylim(-0.6, len(lines) - 0.4)
    return figure


def over_layers(config: Any, cells: Cells) -> Any:
    """A panel per network."""
    figure, axes = plots.panels(
        1,
        len(cells.settings),
        "Never-active channels, layer by layer",
        f"after {config.steps:,} steps; {config.seeds} seeds, bars: 95 % intervals",
        width=max(6.5, 3.2 * len(cells.settings)),
        height=4.2,
        sharey=True,
    )
    for panel, (network, rate) in zip(axes[0], cells.settings, strict=True):
        for place, activation in enumerate(cells.activations(network, rate)):
            life = cells.lives[network, rate, activation]
            layers = range(len(next(iter(life.values()))[-1]["channels"]))
            values = [
                cells.mean((network, rate, activation), of_layer("never_active", layer)) for layer in layers
            ]
            style = {
                "color": _COLORS[activation],
                "marker": "os^D"[place],
                "label": ACTIVATIONS[activation],
            }
            points = [value.scaled(100) for value in values]
            plots.points_with_bars(
                panel, [layer + 1 for layer in layers], points, style, [False] * len(points)
            )
        panel.set_title(f"{NETWORKS[network]}, {rate:g}", loc="left", fontweight="bold")
        panel.set_xlabel("layer")
    axes[0, 0].set_ylabel("never-active channels, %")
    axes[0, 0].set_ylim(bottom=0)
    plots.legend(figure, axes[0, 0])
    return figure

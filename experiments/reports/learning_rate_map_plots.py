"""The learning-rate map's plot: a grid of differences from ReLU per measure and optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.lab import plots
from experiments.lab.paired import is_shown


def maps(config: Any, cells: Any, measures: Mapping[str, tuple[str, float, int, bool]]) -> Any:
    """A row per measure, a column per optimiser; slope over learning rate."""
    figure, axes = plots.panels(
        len(measures),
        len(cells.optimizers),
        "LeakyReLU against ReLU, over learning rate and slope",
        f"mean difference over {config.seeds} paired seeds after {config.steps:,} steps; * shown after correction for "
        "the number of comparisons",
        width=max(7.5, 0.8 + 4.8 * len(cells.optimizers)),
        height=1.4 + 2.5 * len(measures),
    )
    for (row, column), panel in np.ndenumerate(axes):
        name, optimizer = list(measures)[row], cells.optimizers[column]
        title, scale, digits, more_is_better = measures[name]
        rates = cells.rates(optimizer)
        grid = [
            [cells.against_relu((optimizer, rate, slope), name).scaled(scale) for rate in rates]
            for slope in cells.slopes
        ]
        means = np.array([[one.mean for one in line] for line in grid])
        every = [abs(cells.against_relu(cell, name).mean) * scale for cell in cells.lives if cell[2] != 0]
        limit = max(float(np.nanpercentile(every, 90)) if np.isfinite(every).any() else 1.0, 1e-9)
        panel.imshow(
            means if more_is_better else -means,
            cmap="BrBG",
            vmin=-limit,
            vmax=limit,
            aspect="auto",
            origin="lower",
        )
        for (y, x), mean in np.ndenumerate(means):
            shown = is_shown(grid[y][x])
            text = "\N{EN DASH}" if np.isnan(mean) else f"{mean:+.{digits}f}{'*' if shown else ''}"
            panel.text(
                x,
                y,
                text,
                ha="center",
                va="center",
                fontsize=8.5,
                fontweight="bold" if shown else "normal",
                color="white" if abs(mean) > 0.55 * limit else plots.INK,
            )
        panel.grid(visible=False)
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
        panel.set_title(f"{optimizer}: {title}", loc="left")
        panel.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
        panel.set_yticks(range(len(cells.slopes)), [f"{slope:g}" for slope in cells.slopes])
        if column == 0:
            panel.set_ylabel("negative slope")
        if row == len(measures) - 1:
            panel.set_xlabel("learning rate")
    return figure

"""The image GAN's plots: differences from ReLU, training over its steps, and generated images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.lab.analysis.paired import is_shown
from experiments.lab.analysis.statistics import estimate
from experiments.lab.show import plots

_COLORS = {"relu": "#D55E00", "leaky_0.01": "#0072B2", "leaky_0.2": "#009E73"}


def changes_plot(
    lives: Any, measures: Mapping[str, Any], names: Mapping[str, str], settings: Mapping[str, str]
) -> Any:
    """A panel per measure, a line per setting and slope."""
    cells = [cell for cell in lives.lives if cell[-1] != "relu"]
    figure, axes = plots.panels(
        1,
        len(measures),
        "What a leaky discriminator changes",
        f"difference from ReLU over paired seeds; bars: intervals corrected for {lives.comparisons} comparisons",
        width=2.4 + 2.9 * len(measures),
        height=1.7 + 0.45 * len(cells),
        sharey=True,
    )
    for panel, measure in zip(axes[0], measures.values(), strict=True):
        panel.axvline(0, color=plots.SOFT, linewidth=1)
        for place, cell in enumerate(cells):
            found = lives.against_baseline(cell, measure).scaled(measure.scale)
            panel.errorbar(
                found.mean,
                place,
                xerr=np.nan_to_num(found.half_width),
                fmt="o",
                color=_COLORS[cell[-1]],
                markerfacecolor=_COLORS[cell[-1]] if is_shown(found) else "white",
                markersize=5.5,
                elinewidth=1.3,
            )
        better = "right" if measure.more_is_better else "left"
        panel.set_title(f"{measure.name}\n({better} is better)", loc="left", fontsize=9)
    labels = [f"{settings[cell[0]]}, {names[cell[-1]]}" for cell in cells]
    axes[0, 0].set_yticks(range(len(cells)), labels)
    axes[0, 0].set_ylim(len(cells) - 0.5, -0.5)
    return figure


def over_steps(lives: Any, names: Mapping[str, str], settings: Mapping[str, str]) -> Any:
    """A row per setting, a column per measure."""
    columns = [
        ("modes", "classes covered"),
        ("frechet", "Fréchet distance"),
        ("discriminator_gradient", "gradient norm, D"),
        ("generator_gradient", "gradient norm, G"),
        ("discriminator_never_active", "never active, D, %"),
    ]
    figure, axes = plots.panels(
        len(lives.settings),
        len(columns),
        "Generator and discriminator over training",
        "means over seeds; bands: 95 % intervals",
        width=0.8 + 3.0 * len(columns),
        height=1.5 + 2.6 * len(lives.settings),
        sharex=True,
    )
    for row, setting in enumerate(lives.settings):
        for column, (name, title) in enumerate(columns):
            panel = axes[row, column]
            for arm in lives.arms:
                some = [life for life in lives.lives[*setting, arm].values() if not life[-1]["diverged"]]
                at = [list(records) for records in zip(*some, strict=True)]
                at = [records for records in at if records[0][name] is not None]
                scale = 100 if name.endswith("negative") else 1
                means = [estimate([record[name] for record in records]).scaled(scale) for records in at]
                style = {"color": _COLORS[arm], "label": names[arm]}
                plots.line_with_band(panel, [records[0]["step"] for records in at], means, style)
            if name == "frechet" or "gradient" in name:
                panel.set_yscale("log")
            else:
                panel.set_ylim(bottom=0)
            if row == 0:
                panel.set_title(title, loc="left", fontweight="bold")
            if column == 0:
                panel.set_ylabel(settings[setting[0]], fontweight="bold")
            if row == len(lives.settings) - 1:
                panel.set_xlabel("step")
    plots.legend(figure, axes[0, 0])
    return figure


def pictures_plot(lives: Any, names: Mapping[str, str], settings: Mapping[str, str], real: np.ndarray) -> Any:
    """A row per setting: a grid of generated images for each activation, and one of real images."""
    figure, axes = plots.panels(
        len(lives.settings),
        len(lives.arms) + 1,
        "What the generators draw",
        "36 images of seed 0 after the last step, none chosen; at the right 36 real ones",
        width=0.6 + 3.0 * (len(lives.arms) + 1),
        height=1.1 + 3.1 * len(lives.settings),
    )
    for row, setting in enumerate(lives.settings):
        for column, arm in enumerate([*lives.arms, None]):
            panel = axes[row, column]
            images = real if arm is None else _kept(lives.lives[*setting, arm], real.shape[-1])
            panel.imshow(_grid(images), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            panel.set(xticks=[], yticks=[])
            panel.grid(visible=False)
            panel.spines[:].set_visible(False)
            panel.set_title("real" if arm is None else names[arm], loc="left")
            if column == 0:
                panel.set_ylabel(settings[setting[0]], fontweight="bold")
    return figure


def _kept(some: Any, side: int) -> np.ndarray:
    """The images that seed 0 has kept; none where it has not finished or has diverged."""
    kept = some[0][-1].get("images", []) if 0 in some else []
    return np.array([np.frombuffer(bytes.fromhex(image), np.uint8) for image in kept]).reshape(-1, side, side)


def _grid(images: np.ndarray) -> np.ndarray:
    """Up to 36 images in six rows, with a dark line between two."""
    side = images.shape[-1] + 1
    grid = np.zeros((6 * side, 6 * side), np.uint8)
    for place, image in enumerate(images[:36]):
        row, column = divmod(place, 6)
        grid[row * side : (row + 1) * side - 1, column * side : (column + 1) * side - 1] = image
    return grid

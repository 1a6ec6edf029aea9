"""The image GAN's plots: differences from ReLU, training over its steps, and generated images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.lab.analysis import Measure, Runs
from experiments.lab.show import plots


def changes_plot(
    runs: Runs, measures: Sequence[Measure], names: Mapping[str, str], settings: Mapping[str, str]
) -> Any:
    """A panel per measure, a line per setting and slope."""
    cells = {
        cell: (f"{settings[cell[0]]}, {names[cell[1]]}", plots.COLORS[cell[1]])
        for cell in runs.cells
        if cell[1] != runs.baseline
    }
    figure, axes = plots.panels(
        1,
        len(measures),
        "What a leaky discriminator changes",
        f"difference from ReLU over paired seeds; bars: intervals corrected for {runs.comparisons} comparisons",
        width=2.4 + 2.9 * len(measures),
        height=1.7 + 0.45 * max(1, len(cells)),
        sharey=True,
    )
    plots.differences(axes[0], runs, measures, cells)
    for panel, measure in zip(axes[0], measures, strict=True):
        better = "right" if measure.more_is_better else "left"
        panel.set_title(f"{measure.name}\n({better} is better)", loc="left", fontsize=9)
    return figure


def over_steps(runs: Runs, names: Mapping[str, str], settings: Mapping[str, str]) -> Any:
    """A row per setting, a column per measure."""
    columns = [
        ("modes", "classes covered", 1),
        ("frechet", "Fréchet distance", 1),
        ("discriminator_gradient", "gradient norm, D", 1),
        ("generator_gradient", "gradient norm, G", 1),
        ("discriminator_never_active", "never active, D, %", 100),
    ]
    figure, axes = plots.panels(
        len(runs.settings),
        len(columns),
        "Generator and discriminator over training",
        "means over seeds; bands: 95 % intervals",
        width=0.8 + 3.0 * len(columns),
        height=1.5 + 2.6 * len(runs.settings),
        sharex=True,
    )
    styles = {arm: {"color": plots.COLORS[arm], "label": names[arm]} for arm in runs.arms}
    for line, setting in zip(axes, runs.settings, strict=True):
        for panel, (name, title, scale) in zip(line, columns, strict=True):
            plots.curves(panel, runs, setting, name, styles, scale)
            if name == "frechet" or "gradient" in name:
                panel.set_yscale("log")
            else:
                panel.set_ylim(bottom=0)
            if line is axes[0]:
                panel.set_title(title, loc="left", fontweight="bold")
        line[0].set_ylabel(settings[setting[0]], fontweight="bold")
    for panel in axes[-1]:
        panel.set_xlabel("step")
    plots.legend(figure)
    return figure


def pictures_plot(runs: Runs, names: Mapping[str, str], settings: Mapping[str, str], real: np.ndarray) -> Any:
    """A row per setting: a grid of generated images for each activation, and one of real images."""
    figure, axes = plots.panels(
        len(runs.settings),
        len(runs.arms) + 1,
        "What the generators draw",
        "36 images of seed 0 after the last step, none chosen; at the right 36 real ones",
        width=0.6 + 3.0 * (len(runs.arms) + 1),
        height=1.1 + 3.1 * len(runs.settings),
    )
    for line, setting in zip(axes, runs.settings, strict=True):
        for panel, arm in zip(line, [*runs.arms, None], strict=True):
            images = real if arm is None else _images(runs.kept((*setting, arm), "images"), real.shape[-1])
            panel.imshow(_grid(images), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            panel.set(xticks=[], yticks=[])
            panel.grid(visible=False)
            panel.spines[:].set_visible(False)
            panel.set_title("real" if arm is None else names[arm], loc="left")
        line[0].set_ylabel(settings[setting[0]], fontweight="bold")
    return figure


def _images(kept: Sequence[str], side: int) -> np.ndarray:
    """The images that a network has kept, (images, side, side)."""
    flat = [np.frombuffer(bytes.fromhex(image), np.uint8) for image in kept]
    return np.array(flat, np.uint8).reshape(-1, side, side)


def _grid(images: np.ndarray) -> np.ndarray:
    """Up to 36 images in six rows, with a dark line between two."""
    side = images.shape[-1] + 1
    grid = np.zeros((6 * side, 6 * side), np.uint8)
    for place, image in enumerate(images[:36]):
        row, column = divmod(place, 6)
        grid[row * side : (row + 1) * side - 1, column * side : (column + 1) * side - 1] = image
    return grid

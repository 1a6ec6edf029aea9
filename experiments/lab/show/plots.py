"""How plots look here, and how they reach the disk."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.lab.analysis.statistics import Estimate
from experiments.lab.run.store import write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MISSING = (
    "No plots: matplotlib is missing. pip install 'jax_leaky[experiments]', and the same command draws them."
)
INK, SOFT, LINE = "#1b1f24", "#5b6570", "#d9dee3"
# Okabe and Ito's palette, which colour-blind readers tell apart; vermilion is kept for ReLU.
_RELU, _LEAKY = "#D55E00", ("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")
_MARKERS = "os^DvPX"
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
}


def available() -> bool:
    """Whether plots can be drawn."""
    return importlib.util.find_spec("matplotlib") is not None


def activation_name(slope: float) -> str:
    """`ReLU` or `leaky 0.01`."""
    return "ReLU" if slope == 0 else f"leaky {slope:g}"


def activation_styles(slopes: Sequence[float]) -> dict[float, dict[str, Any]]:
    """A colour, a marker and a label for each slope, the same in every plot."""
    leaky = [slope for slope in slopes if slope != 0]
    colors = {slope: _LEAKY[place % len(_LEAKY)] for place, slope in enumerate(leaky)} | {0.0: _RELU}
    return {
        slope: {
            "color": colors[slope],
            "marker": _MARKERS[place % len(_MARKERS)],
            "label": activation_name(slope),
        }
        for place, slope in enumerate(slopes)
    }


def panels(
    rows: int, columns: int, title: str, subtitle: str, *, width: float, height: float, **grid: Any
) -> Any:
    """A figure with a title and a grid of panels: (figure, axes of shape (rows, columns)); sizes in inches."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context(_STYLE):
        # Without pyplot: no window system, no global state, and nothing to close.
        # What the title takes at the top is kept free of panels.
        layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - 0.78 / height), w_pad=0.08, h_pad=0.08)
        figure = Figure(figsize=(width, height), layout=layout)
        figure.text(0.12 / width, 1 - 0.12 / height, title, fontsize=13, fontweight="bold", va="top")
        figure.text(0.12 / width, 1 - 0.42 / height, subtitle, fontsize=10, color=SOFT, va="top")
        axes = figure.subplots(rows, columns, squeeze=False, **grid)
    return figure, axes


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG of 160 dots an inch; the file is there whole or not at all."""
    import matplotlib

    content = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        # Without a Software entry the same figure has the same bytes.
        figure.savefig(content, format="png", dpi=160, metadata={"Software": None})
    write(path, content.getvalue())


def line_with_band(
    axes: Axes, x: Sequence[float], estimates: Sequence[Estimate], style: dict[str, Any]
) -> None:
    """A line through the means with the 95 % intervals as a band."""
    mean = np.array([estimate.mean for estimate in estimates])
    half = np.nan_to_num([estimate.half_width for estimate in estimates])
    axes.fill_between(x, mean - half, mean + half, color=style["color"], alpha=0.15, linewidth=0)
    axes.plot(x, mean, color=style["color"], label=style["label"])


def points_with_bars(
    axes: Axes,
    x: Sequence[float],
    estimates: Sequence[Estimate],
    style: dict[str, Any],
    hollow: Sequence[bool],
) -> None:
    """A line through the means, a marker on each, hollow where told, and the 95 % intervals as bars."""
    mean = [estimate.mean for estimate in estimates]
    half = np.nan_to_num([estimate.half_width for estimate in estimates])
    axes.plot(x, mean, markersize=5.5, **style)
    axes.errorbar(x, mean, half, fmt="none", elinewidth=1.3, ecolor=style["color"], alpha=0.7)
    open_x, open_mean = (
        [value for value, is_open in zip(v, hollow, strict=True) if is_open] for v in (x, mean)
    )
    axes.plot(
        open_x, open_mean, **{**style, "label": None}, linestyle="", markersize=5.5, markerfacecolor="white"
    )


def legend(figure: Figure, axes: Axes) -> None:
    """The legend of one panel, in a line at the top right of the figure."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper right", ncols=len(labels), fontsize=10, handlelength=1.6, frameon=False
    )

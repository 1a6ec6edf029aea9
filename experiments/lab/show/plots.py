"""How plots look here, and how they reach the disk."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.lab.analysis import Cell, Estimate, Measure, Of, Runs
from experiments.lab.run.store import write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MISSING = (
    "No plots: matplotlib is missing. After pip install -e '.[experiments]' in the folder of the clone the same "
    "command draws them."
)
INK, SOFT, LINE = "#1b1f24", "#5b6570", "#d9dee3"
# Okabe and Ito's palette, which colour-blind readers tell apart; vermilion is kept for ReLU.
_RELU, _LEAKY = "#D55E00", ("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")
OPTIMIZERS = {"sgd": "SGD", "adam": "Adam"}
_MARKERS = "os^DvPX"
# The same activation has the same colour in every plot of arms that bear a name.
COLORS = {
    "relu": _RELU,
    "leaky_0.01": "#0072B2",
    "leaky_0.2": "#009E73",
    "prelu": "#CC79A7",
    "relu_redo": "#CC79A7",
    "leaky_0.2_leaky_he": "#E69F00",
    "relu_norm": "#E69F00",
    "leaky_0.2_redo": "#56B4E9",
    "discriminator_0.01": "#56B4E9",
    "discriminator_0.2": "#0072B2",
    "generator_0.01": "#E69F00",
    "generator_0.2": "#CC79A7",
    "both_0.2": "#009E73",
}
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
    """A line through the means with the 95 % intervals as a band; nothing where there are no means."""
    if not estimates:
        return
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


def curves(
    axes: Axes,
    runs: Runs,
    setting: Cell,
    of: Of,
    styles: Mapping[Any, dict[str, Any]],
    scale: float = 1.0,
) -> None:
    """A measure of the records over the steps: a line with its band for each arm that has a run."""
    for arm, style in styles.items():
        steps, found = runs.curve((*setting, arm), of)
        line_with_band(axes, steps, [one.scaled(scale) for one in found], style)


def differences(
    panels: Sequence[Axes], runs: Runs, measures: Sequence[Measure], cells: Mapping[Cell, tuple[str, str]]
) -> None:
    """Differences from the baseline, a panel for each measure and a line for each cell from the top down.

    Points with the corrected interval as a bar, hollow where no difference is shown.

    Args:
        panels: axes of one row, (measures,), which share their y axis.
        runs: runs that are compared.
        measures: measures that are compared, (measures,).
        cells: label and colour of each cell.
    """
    for panel, measure in zip(panels, measures, strict=True):
        panel.axvline(0, color=SOFT, linewidth=1)
        for place, (cell, (_, color)) in enumerate(cells.items()):
            found = runs.difference(cell, measure).scaled(measure.scale)
            if found.values < 3:
                at: Any = {
                    "xycoords": ("axes fraction", "data"),
                    "va": "center",
                    "color": SOFT,
                    "fontsize": 8,
                }
                panel.annotate("too few pairs", (0.02, place), **at)
                continue
            panel.errorbar(
                found.mean,
                place,
                xerr=found.half_width,
                fmt="o",
                color=color,
                markerfacecolor=color if found.shown else "white",
                markersize=5.5,
                elinewidth=1.3,
            )
        panel.set_yticks(range(len(cells)), [label for label, _ in cells.values()])
        panel.set_ylim(len(cells) - 0.4, -0.6)


def legend(figure: Figure) -> None:
    """The legend of all panels, each label once, in a line at the top right of the figure."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        figure.legend(
            [*found.values()],
            [*found],
            loc="upper right",
            ncols=len(found),
            fontsize=10,
            handlelength=1.6,
            frameon=False,
        )

"""The plot of the born-dead experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.born_dead.theory import lower_bound, point_death
from experiments.lab.run.store import Record
from experiments.lab.show import plots

_COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_VISIBLE = 0.005  # of a share: less lies on the axis


def over_depth(cells: Sequence[Record]) -> Any:
    """A column per input dimension: constant networks, and what float32 collapses, above the lost input."""
    dimensions, widths = (sorted({cell[name] for cell in cells}) for name in ("input_dim", "width"))
    depths = sorted({cell["depth"] for cell in cells})
    figure, axes = plots.panels(
        2,
        len(dimensions),
        "Networks that are dead before training",
        f"He normal weights, zero biases; {cells[0]['networks']:,} networks per point",
        width=max(7.0, 0.6 + 4.2 * len(dimensions)),
        height=7.6,
        sharex=True,
        sharey=True,
    )
    for column, dimension in enumerate(dimensions):
        for place, width in enumerate(widths):
            color = _COLORS[place % len(_COLORS)]
            here = [cell for cell in cells if (cell["input_dim"], cell["width"]) == (dimension, width)]
            relu = [cell for cell in here if cell["negative_slope"] == 0]
            if relu:
                _against_theory(axes[:, column], relu, range(2, depths[-1] + 1), color)
            _collapsed(axes[0, column], [cell for cell in here if cell["collapsed"] >= _VISIBLE], color)
        axes[0, column].set_title(f"input dimension {dimension}", loc="left", fontweight="bold")
        axes[1, column].set_xlabel("depth, layers with weights")
        axes[0, column].set_xscale("log")
        ticks = sorted({2, *depths})
        axes[0, column].set_xticks(ticks, [str(tick) for tick in ticks])
        axes[0, column].minorticks_off()
        axes[0, column].set_ylim(-0.02, 1.02)
    axes[0, 0].set_ylabel("share of networks that are constant")
    axes[1, 0].set_ylabel("share of ReLU networks\nthat lose one given input")
    plots.legend(figure)
    return figure


def _against_theory(panels: Sequence[Any], line: Sequence[Record], depths: Sequence[int], color: str) -> None:
    """ReLU at one width and dimension, (2,) panels: the constant networks above, the lost input below."""
    constant, lost = panels
    width, dimension = line[0]["width"], line[0]["input_dim"]
    upper = [point_death([width] * (depth - 1)) for depth in depths]
    lower = [lower_bound(width, depth, dimension) for depth in depths]
    if dimension == 1:  # in more dimensions the bounds leave so much that bands would only cover each other
        constant.fill_between(depths, lower, upper, color=color, alpha=0.18, linewidth=0)
    constant.plot(depths, upper, color=color, linewidth=1.1, alpha=0.8)
    constant.plot(depths, lower, ":", color=color, linewidth=1.4)
    lost.plot(depths, upper, color=color, linewidth=1.4)
    for panel, name in ((constant, "born_dead"), (lost, "point_dead")):
        for sure in (True, False):
            cells = [cell for cell in line if (cell["exact"] or name == "point_dead") == sure]
            panel.plot(
                [cell["depth"] for cell in cells],
                [cell[name] for cell in cells],
                "o",
                color=color,
                markersize=6,
                markeredgecolor="white" if sure else color,
                markerfacecolor=color if sure else "white",
                label=f"width {width}" if sure and name == "born_dead" else None,
                zorder=3,
            )


def _collapsed(panel: Any, cells: Sequence[Record], color: str) -> None:
    """The shares that float32 collapses, each a square with its slope beside it."""
    for cell in cells:
        at = (cell["depth"], cell["collapsed"])
        panel.plot(
            *at, "s", color=color, markersize=7, markerfacecolor="white", markeredgewidth=1.6, zorder=4
        )
        panel.annotate(
            f"{plots.activation_name(cell['negative_slope'])}: {cell['collapsed']:.2g}",
            at,
            xytext=(-8, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            color=color,
            fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            zorder=4,
        )

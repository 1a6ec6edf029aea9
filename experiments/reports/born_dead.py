"""What the born-dead experiment shows: our shares beside the theory's, over depth and width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.lab import plots
from experiments.lab.born_dead_theory import DEPTH_TEN, lower_bound, point_death
from experiments.lab.experiment import Flags, Outcome, write_up
from experiments.lab.store import Record
from experiments.lab.table import Table
from experiments.lab.verdict import Finding, binomial, verdict_table

TITLE = "How likely is a network to be dead before it is trained?"
TOLERANCE = 0.003  # of a share, from an exact or a published one
_COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def report(config: Flags, outcome: Outcome) -> None:
    """Prints the tables and writes everything but the rows."""
    cells = outcome.records
    lead = [
        "A random ReLU network (He normal weights, zero biases) can be dead before training: its output is the same "
        "for every input, and no gradient can change that. It happens when each input is lost in some hidden layer, "
        "all of whose units are negative for it. The probability has an exact value for one given input, and bounds, "
        "exact for depth 3, for the whole network.",
        f"{max(cell['networks'] for cell in cells):,} networks per cell; a depth counts the layers with weights. In "
        "input dimension 1 two inputs decide exactly whether a network is constant; in higher dimensions it is counted "
        "as constant on the probe inputs, which can only overstate it.",
        "A unit with a slope is never dead. But a deep and narrow leaky network can shrink its signal below the least "
        "float32: such a network is numerically collapsed, by a relative test, and not dead.",
    ]
    write_up(
        "born_dead",
        config,
        outcome,
        title=TITLE,
        lead=lead,
        tables=[verdicts(cells), main_table(cells)],
        figures=[
            (
                "over_depth.png",
                "Share of constant ReLU networks (points) between the theory's bounds (bands; in higher dimensions "
                "the upper bound alone, dashed), and of networks that lose one given input (points) on its exact "
                "probability (lines).",
                lambda: over_depth(cells),
            )
        ],
    )


def verdicts(cells: Sequence[Record]) -> Table:
    """The published and exact figures beside ours."""
    findings = []
    relu = [cell for cell in cells if cell["negative_slope"] == 0]
    for cell in relu:
        width, depth, constant = cell["width"], cell["depth"], _estimate(cell, "born_dead")
        if cell["input_dim"] == 1 and depth == 3:
            exact = lower_bound(width, 3, 1)
            name, published = f"constant, width {width}, depth 3 (exact)", f"{exact:.4f}"
        elif cell["input_dim"] == 1 and depth == 10 and width in DEPTH_TEN:
            exact = DEPTH_TEN[width]
            name, published = f"constant, width {width}, depth 10 (simulated)", f"{exact:.3f}"
        else:
            continue
        findings.append(Finding(name, published, constant, exact - TOLERANCE, exact + TOLERANCE, 4))
    for label, worst in (
        ("lost input: greatest distance from the exact value", _farthest(relu)),
        ("constant: greatest distance outside the bounds", _outside(relu)),
    ):
        if worst is not None:
            cell, distance = worst
            at = f"{label} (width {cell['width']}, depth {cell['depth']}, dimension {cell['input_dim']})"
            name = "point_dead" if label.startswith("lost") else "born_dead"
            ours = _estimate(cell, name)._replace(mean=distance)
            findings.append(Finding(at, "0", ours, 0.0, TOLERANCE, 4))
    return verdict_table(
        "Published and exact values, and ours",
        findings,
        [
            f"Reproduced: within {TOLERANCE} of the value. Exact values and bounds: Lu et al., arXiv:1903.06733."
        ],
    )


def main_table(cells: Sequence[Record]) -> Table:
    """One line per cell."""
    lines = [
        [
            f"{cell['input_dim']}",
            f"{cell['width']}",
            f"{cell['depth']}",
            plots.activation_name(cell["negative_slope"]),
            _estimate(cell, "born_dead").format(1, 4),
            "n/a" if cell["negative_slope"] else f"{cell['lower']:.4f} to {cell['upper']:.4f}",
            _estimate(cell, "point_dead").format(1, 4),
            "n/a" if cell["negative_slope"] else f"{cell['upper']:.4f}",
            _estimate(cell, "collapsed").format(1, 4),
        ]
        for cell in sorted(cells, key=lambda cell: (cell["input_dim"], cell["width"], cell["depth"]))
    ]
    header = [
        "input\ndimension",
        "width",
        "depth",
        "activation",
        "constant\nnetworks",
        "bounds",
        "lost\ninput",
        "exact",
        "numerically\ncollapsed",
    ]
    return Table(
        "Shares of networks, ± the farther end of Wilson's 95 % interval",
        header,
        lines,
        text_columns=4,
        sections=len({(cell["depth"], cell["negative_slope"]) for cell in cells}),
        notes=["Constant and lost input are 0 by construction for a leaky unit."],
    )


def over_depth(cells: Sequence[Record]) -> Any:
    """A column per input dimension; the constant networks above, the lost input below."""
    relu = [cell for cell in cells if cell["negative_slope"] == 0]
    dimensions, widths = (sorted({cell[name] for cell in relu}) for name in ("input_dim", "width"))
    deepest = max(cell["depth"] for cell in relu)
    figure, axes = plots.panels(
        2,
        len(dimensions),
        "Networks that are dead before training",
        f"ReLU, He normal weights, zero biases; {relu[0]['networks']:,} networks per point",
        width=max(7.0, 0.6 + 4.2 * len(dimensions)),
        height=7.0,
        sharex=True,
        sharey=True,
    )
    depths = list(range(2, deepest + 1))
    for column, dimension in enumerate(dimensions):
        for place, width in enumerate(widths):
            color = _COLORS[place % len(_COLORS)]
            line = [cell for cell in relu if (cell["input_dim"], cell["width"]) == (dimension, width)]
            x = [cell["depth"] for cell in line]
            upper = [point_death([width] * (depth - 1)) for depth in depths]
            lower = [lower_bound(width, depth, dimension) for depth in depths]
            if dimension == 1:
                axes[0, column].fill_between(depths, lower, upper, color=color, alpha=0.18, linewidth=0)
            else:  # the lower bound is near 0 there
                axes[0, column].plot(depths, upper, "--", color=color, linewidth=1.2)
            axes[1, column].plot(depths, upper, color=color, linewidth=1.4)
            for panel, name in zip(axes[:, column], ("born_dead", "point_dead"), strict=True):
                label = f"width {width}" if name == "born_dead" else None
                y = [cell[name] for cell in line]
                panel.plot(x, y, "o", color=color, markersize=5.5, markeredgecolor="white", label=label)
        axes[0, column].set_title(f"input dimension {dimension}", loc="left", fontweight="bold")
        axes[1, column].set_xlabel("depth, layers with weights")
        axes[0, column].set_xscale("log")
        ticks = sorted({2, *(cell["depth"] for cell in relu)})
        axes[0, column].set_xticks(ticks, [str(tick) for tick in ticks])
        axes[0, column].minorticks_off()
        axes[0, column].set_ylim(-0.02, 1.02)
    axes[0, 0].set_ylabel("share of networks that are constant")
    axes[1, 0].set_ylabel("share that lose one given input")
    plots.legend(figure, axes[0, 0])
    return figure


def _estimate(cell: Record, name: str) -> Any:
    return binomial(round(cell[name] * cell["networks"]), cell["networks"])


def _farthest(cells: Sequence[Record]) -> tuple[Record, float] | None:
    distances = [(abs(cell["point_dead"] - cell["upper"]), place) for place, cell in enumerate(cells)]
    return (cells[max(distances)[1]], max(distances)[0]) if distances else None


def _outside(cells: Sequence[Record]) -> tuple[Record, float] | None:
    distances = [
        (max(0.0, cell["lower"] - cell["born_dead"], cell["born_dead"] - cell["upper"]), place)
        for place, cell in enumerate(cells)
    ]
    return (cells[max(distances)[1]], max(distances)[0]) if distances else None

"""What the born-dead experiment shows: our shares beside the theory's, over depth and width."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from experiments.born_dead.plots import over_depth
from experiments.born_dead.theory import DEPTH_TEN, exact_at_three
from experiments.lab.analysis import DASH, Estimate, Finding, binomial, wilson
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.run.settings import Flags
from experiments.lab.run.store import Record
from experiments.lab.show import plots
from experiments.lab.show.table import Table, listed

TITLE = "How likely is a network to be dead before it is trained?"
TOLERANCE = 0.003  # of a share, from an exact or a published one
_AT_MOST = (
    "≤: constant on sampled inputs, an upper estimate. How far it is off was measured once, in dimension 4 with 25,000 "
    "networks: 64 inputs find up to 0.009 more constant networks than 512 do (width 4, depth 10)."
)
_DIGITS = 5  # of a share of 10^6 networks, whose interval is at least 4e-6 wide


def report(config: Flags, outcome: Outcome) -> None:
    """Prints the tables and writes everything but the rows."""
    cells = outcome.records
    lead = [
        "A random ReLU network (He normal weights, zero biases) can be dead before training: its output is the same "
        "for every input, and no gradient can change that. It happens when each input is lost in some hidden layer, "
        "none of whose units is active for it. The probability has an exact value for one given input, and bounds "
        "for the whole network, exact for depth 3 where the inputs are one, or no fewer than the units.",
        f"{max(cell['networks'] for cell in cells):,} networks per cell; a depth counts the layers with weights. In "
        "input dimension 1 two inputs decide whether a network is constant, because it is linear on either side of 0. "
        "In dimension 2 all inputs do: the plane is cut into the pieces on which the network is linear, layer by "
        "layer, and a network is constant when no piece is left. Where that would take too long, sampled inputs "
        "decide; such a share can only be too large, and is printed as at most (≤), without an interval.",
        "A unit with a slope is never dead, by construction: its 0 in the tables is no measurement. But a deep and "
        "narrow leaky network can shrink its signal below the least float32: such a network is numerically collapsed, "
        "and not dead. The test is relative: the outputs for the sampled inputs and for the input 0 differ by nothing, "
        "measured by the outputs' own size. Without biases the output for 0 is exactly 0, so this is the same as that "
        "nothing is left of any sampled input in the last hidden layer.",
    ]
    write_up(
        "born_dead",
        config,
        outcome,
        title=TITLE,
        answer=answer(cells),
        lead=lead,
        tables=[verdicts(cells), main_table(cells)],
        figures=[
            (
                "over_depth.png",
                "Above: the share of constant ReLU networks (points; hollow: at most) between the theory's upper "
                "(solid) and lower bounds (dotted), and of leaky networks that are not dead but that float32 collapses "
                "(squares, where there are 0.005 or more). Below: ReLU networks that lose one given input (points) on "
                "the exact probability (lines).",
                lambda: over_depth(cells),
            )
        ],
    )


def answer(cells: Sequence[Record]) -> str:
    """The probability at depth 10 on one input, the published case, by width."""
    shares = {
        cell["width"]: f"{cell['born_dead']:.3f} at width {cell['width']}"
        for cell in cells
        if cell["negative_slope"] == 0 and cell["input_dim"] == 1 and cell["depth"] == 10
    }
    if not shares:
        return ""
    return (
        "A ReLU network of depth 10 with one input is dead before training with probability "
        f"{listed([shares[width] for width in sorted(shares)])}."
    )


def verdicts(cells: Sequence[Record]) -> Table:
    """The published and exact figures beside ours."""
    relu = [cell for cell in cells if cell["negative_slope"] == 0]
    lines = []
    for cell in relu:
        width, depth, input_dim = cell["width"], cell["depth"], cell["input_dim"]
        expected, source = exact_at_three(width, input_dim) if depth == 3 else None, "exact"
        if input_dim == 1 and depth == 10 and width in DEPTH_TEN:
            expected, source = DEPTH_TEN[width], "simulated"
        if expected is not None:
            what = f"constant, dimension {input_dim}, width {width}, depth {depth} ({source})"
            lines.append(_line(what, expected, 3 if source == "simulated" else _DIGITS, cell))
    lost = _worst(relu, lambda cell: abs(cell["point_dead"] - cell["upper"]))
    beyond = _worst(
        relu, lambda cell: max(cell["lower"] - cell["born_dead"], cell["born_dead"] - cell["upper"])
    )
    if lost is not None:
        what = f"lost input, the farthest from the exact value ({_place(lost)})"
        lines.append(_line(what, lost["upper"], _DIGITS, lost, "point_dead"))
    if beyond is not None:
        what = f"constant, the farthest beyond a bound, or the nearest to one ({_place(beyond)})"
        inside = (beyond["lower"], beyond["upper"])
        verdict = Finding(
            what, "", _estimate(beyond, "born_dead"), inside[0] - TOLERANCE, inside[1] + TOLERANCE
        ).verdict
        published = f"{inside[0]:.{_DIGITS}f} to {inside[1]:.{_DIGITS}f}"
        lines.append([what, published, *_share_and_interval(beyond, "born_dead"), verdict])
    return Table(
        "Published and exact values, and ours",
        ["", "published", "ours", "95 % interval", "verdict"],
        lines,
        notes=[
            f"Reproduced: within {TOLERANCE} of the value, or no farther beyond the bounds. Simulated and exact values "
            "and bounds of dimension 1: Lu et al., arXiv:1903.06733. Exact for inputs no fewer than the N units: "
            "2^-(N²), that all weights of the second hidden layer are negative. Intervals: Wilson's; the "
            f"farthest of {len(relu)} shares is likelier than not outside its own."
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
            *(
                ["0 by construction", "", "0 by construction", ""]
                if cell["negative_slope"]
                else [
                    _written(cell, "born_dead"),
                    f"{cell['lower']:.{_DIGITS}f} to {cell['upper']:.{_DIGITS}f}",
                    _written(cell, "point_dead"),
                    f"{cell['upper']:.{_DIGITS}f}",
                ]
            ),
            _written(cell, "collapsed"),
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
        "Shares of networks, and Wilson's 95 % interval",
        header,
        lines,
        text_columns=4,
        sections=len({(cell["depth"], cell["negative_slope"]) for cell in cells}),
        notes=["≤: on sampled inputs, an upper estimate."]
        if not all(cell["exact"] for cell in cells)
        else [],
    )


def _count(cell: Record, name: str) -> int:
    return round(cell[name] * cell["networks"])


def _estimate(cell: Record, name: str) -> Estimate:
    return binomial(_count(cell, name), cell["networks"])


def _share_and_interval(cell: Record, name: str) -> tuple[str, str]:
    share = f"{cell[name]:.{_DIGITS}f}"
    if name == "born_dead" and not cell["exact"]:
        return f"≤ {share}", DASH
    low, high = wilson(_count(cell, name), cell["networks"])
    return share, f"{low:.{_DIGITS}f} to {high:.{_DIGITS}f}"


def _written(cell: Record, name: str) -> str:
    if not _count(cell, name):
        return f"0 (to {wilson(0, cell['networks'])[1]:.0e})"
    share, interval = _share_and_interval(cell, name)
    return share if interval == DASH else f"{share} ({interval})"


def _line(what: str, expected: float, digits: int, cell: Record, name: str = "born_dead") -> list[str]:
    finding = Finding(what, "", _estimate(cell, name), expected - TOLERANCE, expected + TOLERANCE)
    return [what, f"{expected:.{digits}f}", *_share_and_interval(cell, name), finding.verdict]


def _worst(cells: Sequence[Record], distance: Callable[[Record], float]) -> Record | None:
    return max(cells, key=distance, default=None)


def _place(cell: Record) -> str:
    return f"width {cell['width']}, depth {cell['depth']}, dimension {cell['input_dim']}"

"""What the collapse experiment shows: the shares of networks by what they have learned."""

from __future__ import annotations

from typing import Any

import pandas as pd

from experiments.collapse.narrow_networks import INITIALISATIONS
from experiments.lab.analysis import Cell, Estimate, Finding, Measure, Runs, binomial, last
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.show import plots
from experiments.lab.show.table import Table, listed, verdict_table

TITLE = "How often does a deep and narrow network collapse in training?"
FUNCTION_NAMES = {"abs": "|x|", "sine": "x sin 5x", "step": "1 for x > 0, plus 0.2 sin 5x"}
_COMBINATION = "function", "initialisation", "activation"
PILOT = 0.01, 0.07, 0.04, 0.10  # slope, share collapsed, and the range that counts as the same
_ENDS = {"collapsed": "#D55E00", "half-trained": "#E8C07D", "trained": "#009E73", "diverged": "#666666"}


def report(config: Any, outcome: Outcome) -> None:
    """Prints the tables and writes everything but the rows."""
    runs = runs_of(outcome.records)
    lead = [
        "A network has collapsed when it explains less than 5 % of the function's variance, is trained when it "
        "explains more than 90 %, and is half-trained in between, where it follows the function in a part, as on one "
        "side of 0. Collapsed is more than constant: the output of some collapsed networks still varies.",
        f"{config.depth} layers with weights, width {config.width}, {config.steps:,} steps of Adam (learning rate "
        f"{config.learning_rate:g}) on {config.points} points of [-√3, √3]. He's gain is ReLU's for every slope, so "
        "that networks of one seed begin with the same weights.",
        "Constant, before training and after it: numerically so, the output varies over the points by no more than "
        "1e-5 of its size. A ReLU network with He's zero biases is then dead. A leaky unit is never dead, and neither "
        "is a leaky network that is born numerically constant: it can learn.",
    ]
    write_up(
        "collapse",
        config,
        outcome,
        title=TITLE,
        answer=answer(runs),
        lead=lead,
        tables=[verdicts(runs), main_table(runs), evaluations_table(config, runs)],
        figures=[
            (
                "shares.png",
                "Networks by what they have learned; a row per function, a column per initialisation.",
                lambda: shares(config, runs),
            )
        ],
    )


TRAINED = Measure("networks that train", last(lambda records: records["end"] == "trained"))


def runs_of(records: Any) -> Runs:
    """The runs, compared by slope with ReLU on the same function from the same initialisation."""
    runs = Runs(records, "negative_slope", ("function", "initialisation"))
    order = list(FUNCTION_NAMES)
    runs.cells.sort(key=lambda cell: (order.index(cell[0]), cell[1] != "he", cell[2]))
    return runs


def answer(runs: Runs) -> str:
    """The shares of networks that collapse on the first function from the first initialisation."""
    first = [cell for cell in runs.cells if cell[:2] == runs.cells[0][:2]]
    shares = [
        f"{share(runs.of_cell(cell), 'end', 'collapsed').format(100)} % with {plots.activation_name(cell[2])}"
        for cell in first
    ]
    function, initialisation = FUNCTION_NAMES[first[0][0]], INITIALISATIONS[first[0][1]]
    return f"Of the networks that learn {function} ({initialisation} initialisation), {listed(shares)} collapsed."


def share(records: pd.DataFrame, name: str, value: Any = True) -> Estimate:
    """How many of some networks have a property."""
    return binomial(int((records[name] == value).sum()), len(records))


def verdicts(runs: Runs) -> Table:
    """The published share beside ours."""
    relu = runs.of_cell(("abs", "he", 0.0))
    findings = [
        Finding(
            "|x|, He, ReLU: collapsed", "more than 90 %", share(relu, "end", "collapsed"), 0.9, 1.0, scale=100
        ),
        Finding(
            "|x|, He, ReLU: born constant", "88.0 %", share(relu, "born_constant"), 0.85, 0.91, scale=100
        ),
    ]
    notes = [
        "ReLU: Lu et al., arXiv:1903.06733, for depth 10 and width 2. Reproduced: above 90 %, and within 3 points."
    ]
    leaky = runs.of_cell(("abs", "he", PILOT[0]))
    if len(leaky):
        what = f"|x|, He, {plots.activation_name(PILOT[0])}: collapsed"
        ours = share(leaky, "end", "collapsed")
        findings.append(Finding(what, f"{100 * PILOT[1]:.1f} % (pilot)", ours, *PILOT[2:], scale=100))
        notes.append(
            "The pilot was this project's own, no publication, and its number of steps is not noted. This share falls "
            "with the steps (last table) and depends on how long the networks are trained. Reproduced: within 3 points."
        )
    return verdict_table("Published shares and ours", findings, notes)


def _names(cell: Cell) -> list[str]:
    return [FUNCTION_NAMES[cell[0]], INITIALISATIONS[cell[1]], plots.activation_name(cell[2])]


def main_table(runs: Runs) -> Table:
    """One line per combination."""
    lines = []
    for cell in runs.cells:
        some = runs.of_cell(cell)
        shares = [
            share(some, "born_constant"),
            *(share(some, "end", end) for end in _ENDS),
            share(some, "constant"),
        ]
        lines.append([*_names(cell), *(one.format(100) for one in shares)])
    most = max(runs.diverged(cell)[1] for cell in runs.cells)
    return Table(
        f"% of {most:,} networks, ± the farther end of Wilson's 95 % interval",
        [*_COMBINATION, "constant\nbefore", *_ENDS, "constant\nafter"],
        lines,
        text_columns=3,
        sections=len(runs.arms),
    )


def evaluations_table(config: Any, runs: Runs) -> Table:
    """Whether the shares have settled: one line per combination, one column per evaluation."""
    lines = []
    for cell in runs.cells:
        some = zip(*runs.of_cell(cell)["collapsed"], strict=True)
        lines.append([*_names(cell), *(binomial(sum(one), len(one)).format(100) for one in some)])
    return Table(
        "Collapsed after so many steps, % of networks",
        [*_COMBINATION, *(f"{steps:,}\nsteps" for steps in config.evaluations)],
        lines,
        text_columns=3,
        sections=len(runs.arms),
        notes=["Where a share still falls, the last column is not its limit."],
    )


def shares(config: Any, runs: Runs) -> Any:
    """Stacked bars, one per activation."""
    figure, axes = plots.panels(
        len(config.functions),
        len(config.initialisations),
        "What deep and narrow networks learn",
        f"{config.depth} layers of width {config.width}, {config.seeds:,} seeds, {config.steps:,} steps of Adam",
        width=max(7.5, 0.8 + 4.4 * len(config.initialisations)),
        height=1.6 + 1.6 * len(config.functions),
        sharex=True,
        sharey=True,
    )
    names = [plots.activation_name(slope) for slope in config.negative_slopes]
    diverged = (runs.records["end"] == "diverged").any()
    for row, function in enumerate(config.functions):
        for column, initialisation in enumerate(config.initialisations):
            panel = axes[row, column]
            for place, slope in enumerate(config.negative_slopes):
                some, left = runs.of_cell((function, initialisation, slope)), 0.0
                for end, color in _ENDS.items():
                    part = 100 * share(some, "end", end).mean if len(some) else 0.0
                    label = end if end != "diverged" or diverged else None
                    panel.barh(place, part, left=left, color=color, height=0.72, label=label)
                    if part >= 7:
                        color = plots.INK if end == "half-trained" else "white"
                        middle = left + part / 2
                        panel.text(middle, place, f"{part:.0f}", ha="center", va="center", color=color)
                    left += part
            panel.set_yticks(range(len(names)), names)
            panel.set_xlim(0, 100)
            panel.grid(visible=False)
            panel.set_title(f"{FUNCTION_NAMES[function]}; {INITIALISATIONS[initialisation]}", loc="left")
    axes[0, 0].invert_yaxis()  # of all: they are shared
    for panel in axes[-1]:
        panel.set_xlabel("networks, %")
    plots.legend(figure)
    return figure

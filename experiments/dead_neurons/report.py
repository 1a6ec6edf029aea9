"""What the dead-neuron experiment shows: the table, the paired differences, three plots and a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from experiments.dead_neurons import plots as dead_neurons_plots
from experiments.lab.analysis import Measure, Runs, change, last, share
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.show import plots
from experiments.lab.show.table import Table, listed

TITLE = "How many neurons die under ReLU and LeakyReLU?"


MEASURES = {
    "never\nactive": Measure("never-active units", last(share("never_active")), more_is_better=False),
    "change\nfrom start": Measure("change", change(share("never_active")), more_is_better=False),
    "mean\nslope": Measure("mean slope", last(share("mean_slope")), 1, 2),
    "dead": Measure("dead", last(share("dead")), more_is_better=False),
    "gradient-\ndead": Measure("gradient-dead", last(share("grad_dead")), more_is_better=False),
    "test\naccuracy": Measure("test accuracy", last("test_accuracy")),
}
_COMPARED = [MEASURES[name] for name in ("never\nactive", "gradient-\ndead", "test\naccuracy")]


def runs_of(records: Any, hidden: Sequence[int]) -> Runs:
    """The runs of networks of these hidden layers, compared by slope with ReLU at the same optimiser and rate."""
    frame = pd.DataFrame(records)
    frame["channels"] = [tuple(hidden)] * len(frame)
    return Runs(frame, "negative_slope", ("optimizer", "learning_rate"))


def main_table(runs: Runs, hidden: Sequence[int], samples: int) -> Table:
    """One line per combination: mean and 95 % interval over the seeds that did not diverge."""
    lines = []
    for cell in runs.cells:
        optimizer, rate, slope = cell
        texts = {
            name: runs.mean(cell, one).format(one.scale, one.digits, sign=one.name == "change")
            for name, one in MEASURES.items()
        }
        if slope:
            texts["dead"] = "n/a"
        diverged = "{}/{}".format(*runs.diverged(cell))
        lines.append([f"{optimizer} {rate:g}", plots.activation_name(slope), *texts.values(), diverged])
    step = runs.records["step"].max()
    return Table(
        f"After {step:,} steps: % of the {sum(hidden)} hidden units, mean ± 95 % interval over {runs.seeds}",
        ["learning\nrate", "activation", *MEASURES, "diverged"],
        lines,
        text_columns=2,
        sections=len(runs.arms),
        notes=[
            f"Counted on n = {samples:,} test images: a unit that is never active on them is active on fewer than "
            f"{300 / samples:.2g} % of such images (rule of three, 95 %).",
            "dead is n/a by construction for a leaky unit: its output is 0 only where its input is; compare never "
            "active.",
            "Means are over the networks that did not diverge.",
        ],
    )


def paired_table(runs: Runs) -> Table | None:
    """Each slope's difference from ReLU, seed by seed; None where ReLU is not in the grid or is alone."""
    lines = [
        [
            f"{cell[0]} {cell[1]:g}",
            plots.activation_name(cell[2]),
            *(one.text(runs.difference(cell, one), sign=True) for one in _COMPARED),
            str(runs.difference(cell, MEASURES["test\naccuracy"]).values),
        ]
        for cell in runs.cells
        if cell[-1]
    ]
    if not lines or runs.baseline not in runs.arms:
        return None
    return Table(
        "Difference from ReLU in percentage points, paired by seed: same start, same batches; * shown",
        ["optimiser, rate", "activation", *(one.name for one in _COMPARED), "pairs"],
        lines,
        text_columns=2,
        sections=len(runs.arms) - 1,
        notes=[f"Intervals are {runs.corrected}; a difference is shown where its interval leaves out 0."],
    )


def answer(runs: Runs) -> str:
    """The shares of never-active units where ReLU has most of them."""
    measure = MEASURES["never\nactive"]
    of_relu = {cell: runs.mean(cell, measure).mean for cell in runs.cells if cell[-1] == runs.baseline}
    if not of_relu:
        return "ReLU, slope 0, is not among the slopes, so nothing is compared."
    worst = max(
        of_relu, key=lambda cell: (of_relu[cell] == of_relu[cell], of_relu[cell])
    )  # NaN is no maximum
    shares = [
        f"{measure.text(runs.mean(cell, measure))} % with {plots.activation_name(cell[-1])}"
        for cell in ((*worst[:-1], slope) for slope in runs.arms)
        if runs.mean(cell, measure).values
    ]
    where = f"With {plots.OPTIMIZERS[worst[0]]} at {worst[1]:g}, where ReLU loses most units"
    return f"{where}, the share of never-active units was {listed(shares)}." if shares else ""


def report(config: Any, outcome: Outcome, source: str, samples: int) -> None:
    """Prints the tables and writes everything but the rows."""
    runs = runs_of(outcome.records, config.hidden)
    table, paired = main_table(runs, config.hidden, samples), paired_table(runs)
    lead = [
        f"A hidden unit is called never active when its input is not above zero for any of {samples:,} test images: "
        "under ReLU such a unit is dead, under LeakyReLU it has become linear and still learns. "
        f"{len(config.hidden)} hidden layers; networks of one seed share their first weights and their batches, and "
        "differ in the activation alone.",
        f"Data: {source}.",
    ]
    write_up(
        "dead_neurons",
        config,
        outcome,
        title=TITLE,
        answer=answer(runs),
        lead=lead,
        tables=[table, *([paired] if paired else [])],
        figures=dead_neurons_plots.figures(runs, config.hidden, samples),
    )

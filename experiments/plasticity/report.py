"""What the plasticity experiment shows: accuracy, never-active units and rank over tasks; who comes back, and how."""

from __future__ import annotations

from typing import Any

import pandas as pd

from experiments.lab.analysis import (
    Estimate,
    Finding,
    Measure,
    Runs,
    change,
    estimate,
    last_tenth,
    ratio,
    total,
)
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.show.table import Table, listed, verdict_table
from experiments.plasticity.layers import FEW, START, waking, waking_table
from experiments.plasticity.plots import over_tasks

TITLE = "Does a network lose its ability to learn, and do never-active units come back?"
ARM_NAMES = {
    "relu": "ReLU",
    "leaky_0.01": "leaky 0.01",
    "leaky_0.2": "leaky 0.2",
    "relu_redo": "ReLU, ReDo",
    "leaky_0.2_leaky_he": "leaky 0.2, leaky He",
}


def report(config: Any, outcome: Outcome, source: str) -> None:
    """Prints the tables and writes everything but the rows."""
    runs = runs_of(outcome.records)
    probe = config.probe or config.images
    counted = (
        f"units are counted on all n = {probe:,} images of the task, so that a never-active ReLU unit is one "
        "without a gradient"
        if probe == config.images
        else f"units are counted on n = {probe:,} images of the task (never active there shows a frequency below "
        f"{300 / probe:.2g} %), and such a ReLU unit may still be active on others"
    )
    lead = [
        "Each task is the same images with their pixels in a new random order, seen once, batch by batch; nothing is "
        "reset between tasks but by ReDo. Online accuracy is that of the predictions before each update. A unit that "
        "is never active on a task's inputs at its start and not at its end has revived by learning.",
        # On a part of the images a never-active ReLU unit may yet have a gradient, and the words would be wrong.
        *(waking(runs, ARM_NAMES) if probe == config.images else []),
        f"Hidden layers {'-'.join(map(str, config.hidden))}, {config.tasks} tasks of {config.images:,} images, SGD "
        f"with step size {config.step_size:g} and batch {config.batch_size}, {config.seeds} seeds; {counted}. "
        "Dohare et al. train networks of width 2,000 on 60,000 images one by one: the setting here is a scaled one, "
        "and the direction is compared, not the figure.",
        f"Data: {source}.",
    ]
    tables = [verdicts(runs), differences_table(runs), main_table(runs), waking_table(runs, ARM_NAMES)]
    write_up(
        "plasticity",
        config,
        outcome,
        title=TITLE,
        answer=answer(runs),
        lead=lead,
        tables=tables,
        figures=[
            (
                "over_tasks.png",
                "Online accuracy, never-active units, effective rank and the share of them that revive "
                f"within a task; {config.every} tasks together, bands: 95 % intervals over seeds, cut at 0 and 100 %. "
                f"Points with fewer than {FEW} never-active units behind the share that revives are left out.",
                lambda: over_tasks(config, runs, PANELS, ARM_NAMES),
            )
        ],
    )


def revival(records: pd.DataFrame) -> Any:
    """Of the units never active at a task's start, the share that revived in it, over all tasks; none of few units."""
    start = total(START)(records)
    return (total("revived")(records) / start).where(start >= FEW)


MEASURES = {
    "accuracy": Measure("online accuracy in the last tenth of the tasks", last_tenth("online_accuracy")),
    "never_active": Measure("never-active units", last_tenth("never_active"), more_is_better=False),
    "rank": Measure("effective rank", last_tenth("effective_rank"), 1),
    "revival": Measure("revived of the never active", revival),
}
_HEADERS = ("online\naccuracy", "never\nactive", "effective\nrank", "revived of the\nnever active")
_DEAD = Measure("dead", last_tenth("dead"))
_EVENTS = [Measure(name, total(name), 1, 0) for name in ("died", "revived", "restarted")]


def _mean(name: str) -> Any:
    return lambda records: estimate(records[name])


def _revived(records: pd.DataFrame) -> Estimate:
    """The share of all seeds' never-active units together; nothing where they are few."""
    counts = records[["revived", START]].dropna()
    return ratio(counts.to_numpy()) if counts[START].sum() >= FEW else estimate([])


# Title, whether in percent, and the estimate from the records of one arm's seeds at one moment.
PANELS = (
    ("online accuracy, %", True, _mean("online_accuracy")),
    ("never-active units, %", True, _mean("never_active")),
    ("effective rank of the last hidden layer", False, _mean("effective_rank")),
    (f"never-active units that revive in a task, % (of {FEW} or more)", True, _revived),
)


def runs_of(records: Any) -> Runs:
    """The runs, compared by activation and remedy with ReLU; a step is a task."""
    return Runs(pd.DataFrame(records).rename(columns={"task": "step"}), "arm", (), "relu")


def answer(runs: Runs) -> str:
    """How ReLU's accuracy and units changed over the tasks, and the arm that differs most from it."""
    changes = {
        name: runs.mean((runs.baseline,), Measure(name, change(name, last_tenth)))
        for name in ("online_accuracy", "never_active")
    }
    if not all(one.values for one in changes.values()):
        return ""
    lost, dead = (one.format(100, sign=True) for one in changes.values())
    text = (
        f"Over the tasks ReLU's accuracy changed by {lost} points and its never-active units by {dead} points"
    )
    others = {arm: runs.difference((arm,), MEASURES["accuracy"]) for arm in runs.arms[1:]}
    shown = [
        f"{one.format(100, sign=True)} with {ARM_NAMES[arm]}" for arm, one in others.items() if one.shown
    ]
    if not shown:
        return f"{text}; no other network is shown to end better or worse."
    return f"{text}; beside ReLU's, the accuracy at the end is {listed(shown)}."


def verdicts(runs: Runs) -> Table:
    """The published directions beside ours."""
    findings = [
        Finding(
            f"ReLU: {what}, change over the tasks",
            f"{direction} (Dohare et al.)",
            runs.mean((runs.baseline,), Measure(what, change(name, last_tenth))),
            *((0.0, 1e9) if direction == "rise" else (-1e9, 0.0)),
            scale=scale,
            whole=True,
        )
        for what, direction, name, scale in (
            ("never-active units", "rise", "never_active", 100),
            ("effective rank", "falls", "effective_rank", 1),
            ("online accuracy", "falls in the end", "online_accuracy", 100),
        )
    ]
    return verdict_table(
        "Published directions and ours: the last tenth of the tasks minus the first record",
        findings,
        ["Reproduced: the whole interval over seeds has the published sign. Shares in percentage points."],
    )


def differences_table(runs: Runs) -> Table:
    """Each arm minus ReLU, seed by seed, with intervals that hold together."""
    lines = [
        [ARM_NAMES[arm], *(one.text(runs.difference((arm,), one), sign=True) for one in MEASURES.values())]
        for arm in runs.arms
        if arm != runs.baseline and runs.baseline in runs.arms
    ]
    return Table(
        "Minus ReLU of the same seed, with corrected intervals; * shown",
        [
            "network",
            *(
                f"{name}, points" if one.scale == 100 else name
                for name, one in zip(_HEADERS, MEASURES.values(), strict=True)
            ),
        ],
        lines,
        notes=[
            "The last tenth of the tasks; revived: over all tasks, of seeds with at least "
            f"{FEW} never-active units. 95 % intervals over pairs, {runs.corrected}; a difference is shown where its "
            "interval leaves out 0."
        ],
    )


def main_table(runs: Runs) -> Table:
    """One line per arm."""
    lines = []
    for arm in runs.arms:
        accuracy, never_active, rank, revived = (
            one.text(runs.mean((arm,), one)) for one in MEASURES.values()
        )
        dead = "n/a" if arm.startswith("leaky") else _DEAD.text(runs.mean((arm,), _DEAD))
        died, back, restarted = (one.text(runs.mean((arm,), one)) for one in _EVENTS)
        line = [ARM_NAMES[arm], accuracy, never_active, dead, rank, died, back, revived, restarted]
        lines.append(line)
    header = [
        "network",
        "online\naccuracy, %",
        "never\nactive, %",
        "dead, %",
        "effective\nrank",
        "no longer active\nafter a task",
        "revived\nin a task",
        "revived of the\nnever active, %",
        "restarted\nby ReDo",
    ]
    return Table(
        "Last tenth of the tasks, and events over all of them; mean ± 95 % interval over seeds",
        header,
        lines,
        notes=[
            "Dead is n/a by construction for a leaky unit. Events are counted per task and unit: the same unit can "
            "cease to be active and revive many times. The effective rank is the last hidden layer's."
        ],
    )

"""What the plasticity experiment shows: accuracy, silent units and rank over the tasks; who comes back, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from experiments.lab.analysis.lives import BASELINE, Life, Lives, Measure, lives_of
from experiments.lab.analysis.paired import differences, is_shown, simultaneous
from experiments.lab.analysis.statistics import Estimate, estimate
from experiments.lab.analysis.verdict import Finding, verdict_table
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.run.store import Record
from experiments.lab.show.table import Table
from experiments.plasticity.layers import FEW, ratio, waking, waking_table
from experiments.plasticity.plots import over_tasks

TITLE = "Does a network lose its ability to learn, and do silent units come back?"
ARM_NAMES = {
    "relu": "ReLU",
    "leaky_0.01": "leaky 0.01",
    "leaky_0.2": "leaky 0.2",
    "relu_redo": "ReLU, ReDo",
    "leaky_0.2_leaky_he": "leaky 0.2, leaky He",
}


def report(config: Any, outcome: Outcome, source: str) -> None:
    """Prints the tables and writes everything but the rows."""
    lives = lives_of(outcome.records)
    probe = config.probe or config.images
    counted = (
        f"units are counted on all n = {probe:,} images of the task, so that a silent ReLU unit is one without a "
        "gradient"
        if probe == config.images
        else f"units are counted on n = {probe:,} images of the task (silence there shows a frequency below "
        f"{300 / probe:.2g} %), and a silent ReLU unit may still fire on others"
    )
    lead = [
        "Each task is the same images with their pixels in a new random order, seen once, batch by batch; nothing is "
        "reset between tasks but by ReDo. Online accuracy is that of the predictions before each update. A unit that "
        "is never active on a task's inputs at its start and not at its end has revived by learning.",
        # On a part of the images a silent ReLU unit may yet have a gradient, and the words would be wrong.
        *(waking(lives, ARM_NAMES) if probe == config.images else []),
        f"Hidden layers {'-'.join(map(str, config.hidden))}, {config.tasks} tasks of {config.images:,} images, SGD "
        f"with step size {config.step_size:g} and batch {config.batch_size}, {config.seeds} seeds; {counted}. "
        "Dohare et al. train networks of width 2,000 on 60,000 images one by one: the setting here is a scaled one, "
        "and the direction is compared, not the figure.",
        f"Data: {source}.",
    ]
    tables = [verdicts(lives), differences_table(lives), main_table(lives), waking_table(lives, ARM_NAMES)]
    write_up(
        "plasticity",
        config,
        outcome,
        title=TITLE,
        lead=lead,
        tables=tables,
        figures=[
            (
                "over_tasks.png",
                "Online accuracy, never-active units, effective rank and the share of silent units that revive "
                f"within a task; {config.every} tasks together, bands: 95 % intervals over seeds, cut at 0 and 100 %. "
                f"Points with fewer than {FEW} silent units behind the share that revives are left out.",
                lambda: over_tasks(config, lives, PANELS, ARM_NAMES),
            )
        ],
    )


def last(name: str) -> Callable[[Life], float | None]:
    """The mean over the last tenth of the tasks."""

    def measure(life: Life) -> float | None:
        values = [record[name] for record in life[-max(1, len(life) // 10) :]]
        return None if None in values else sum(values) / len(values)

    return measure


def change(name: str) -> Callable[[Life], float | None]:
    """From the first record to the last tenth."""

    def measure(life: Life) -> float | None:
        first, end = life[0][name], last(name)(life)
        return None if first is None or end is None else end - first

    return measure


def total(name: str) -> Callable[[Life], float | None]:
    """A count over all tasks."""
    return lambda life: (
        None if any(record[name] is None for record in life) else sum(record[name] for record in life)
    )


def revival(life: Life) -> float | None:
    """Of the units silent at a task's start, the share that revived in it, over all tasks; None of fewer than FEW."""
    silent, revived = total("silent")(life), total("revived")(life)
    return None if silent is None or revived is None or silent < FEW else revived / silent


MEASURES = (
    Measure("online\naccuracy, points", last("online_accuracy"), 100, 1, True),
    Measure("always\nnegative, points", last("never_active"), 100, 1, False),
    Measure("effective\nrank", last("effective_rank"), 1, 1, True),
    Measure("revived of the\nsilent, points", revival, 100, 1, True),
)


def _mean(name: str) -> Callable[[Sequence[Record]], Estimate]:
    return lambda records: estimate([record[name] for record in records])


def _revived(records: Sequence[Record]) -> Estimate:
    """The share of all seeds' silent units together; nothing where they are few."""
    pairs = [
        (record["revived"], record["silent"])
        for record in records
        if None not in (record["revived"], record["silent"])
    ]
    return ratio(pairs) if sum(silent for _, silent in pairs) >= FEW else estimate([])


# Title, whether in percent, and the estimate from the records of one arm's seeds at one moment.
PANELS = (
    ("online accuracy, %", True, _mean("online_accuracy")),
    ("never-active units, %", True, _mean("never_active")),
    ("effective rank of the last hidden layer", False, _mean("effective_rank")),
    (f"silent units that revive in a task, % (of {FEW} or more)", True, _revived),
)


def over_seeds(lives: Lives, arm: str, of: Callable[[Life], float | None]) -> Estimate:
    """A measure of an arm, which may have no life yet."""
    return lives.mean((arm,), of) if (arm,) in lives.lives else estimate([])


def verdicts(lives: Lives) -> Table:
    """The published directions beside ours."""
    findings = [
        Finding(
            f"ReLU: {what}, change over the tasks",
            f"{direction} (Dohare et al.)",
            over_seeds(lives, BASELINE, change(name)),
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


def differences_table(lives: Lives) -> Table:
    """Each arm minus ReLU, seed by seed, with intervals that hold together."""
    arms = [arm for arm in lives.arms if arm != BASELINE and BASELINE in lives.arms]
    comparisons = len(arms) * len(MEASURES)
    lines = []
    for arm in arms:
        line = [ARM_NAMES[arm]]
        for measure in MEASURES:
            ours, theirs = (lives.by_seed((one,), measure.of) for one in (arm, BASELINE))
            found = simultaneous(differences(ours, theirs), comparisons)
            line.append(
                found.format(measure.scale, measure.digits, sign=True) + (" *" if is_shown(found) else "")
            )
        lines.append(line)
    return Table(
        "Minus ReLU of the same seed, with corrected intervals; * shown",
        ["network", *(measure.name for measure in MEASURES)],
        lines,
        notes=[
            "The last tenth of the tasks; revived: over all tasks, of seeds with at least "
            f"{FEW} silent units. 95 % intervals over pairs, corrected (Bonferroni) for {comparisons} comparisons; a "
            "difference is shown where its interval leaves out 0."
        ],
    )


def main_table(lives: Lives) -> Table:
    """One line per arm."""
    lines = [
        [
            ARM_NAMES[arm],
            over_seeds(lives, arm, last("online_accuracy")).format(100),
            over_seeds(lives, arm, last("never_active")).format(100),
            "n/a" if arm.startswith("leaky") else over_seeds(lives, arm, last("dead")).format(100),
            over_seeds(lives, arm, last("effective_rank")).format(1),
            over_seeds(lives, arm, total("died")).format(1, 0),
            over_seeds(lives, arm, total("revived")).format(1, 0),
            over_seeds(lives, arm, revival).format(100),
            over_seeds(lives, arm, total("restarted")).format(1, 0),
        ]
        for arm in lives.arms
    ]
    header = [
        "network",
        "online\naccuracy, %",
        "always\nnegative, %",
        "dead, %",
        "effective\nrank",
        "fell silent\nin a task",
        "revived\nin a task",
        "revived of\nthe silent, %",
        "restarted\nby ReDo",
    ]
    return Table(
        "Last tenth of the tasks, and events over all of them; mean ± 95 % interval over seeds",
        header,
        lines,
        notes=[
            "Dead is n/a by construction for a leaky unit. Events are counted per task and unit: the same unit can "
            "fall silent and revive many times. The effective rank is the last hidden layer's."
        ],
    )

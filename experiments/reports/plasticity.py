"""What the plasticity experiment shows: accuracy, silent units and rank over the tasks, and who comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from experiments.lab import plots
from experiments.lab.experiment import Outcome, write_up
from experiments.lab.statistics import Estimate, estimate
from experiments.lab.store import Record
from experiments.lab.table import Table
from experiments.lab.verdict import Finding, verdict_table

TITLE = "Does a network lose its ability to learn, and do silent units come back?"
ARM_NAMES = {
    "relu": "ReLU",
    "leaky_0.01": "leaky 0.01",
    "leaky_0.2": "leaky 0.2",
    "relu_redo": "ReLU, ReDo",
    "leaky_0.2_leaky_he": "leaky 0.2, leaky He",
}
_COLORS = {
    "relu": "#D55E00",
    "leaky_0.01": "#0072B2",
    "leaky_0.2": "#009E73",
    "relu_redo": "#CC79A7",
    "leaky_0.2_leaky_he": "#E69F00",
}


def report(config: Any, outcome: Outcome, source: str) -> None:
    """Prints the tables and writes everything but the rows."""
    records = outcome.records
    lead = [
        "Each task is the same images with their pixels in a new random order, seen once, batch by batch; nothing is "
        "reset between tasks but by ReDo. Online accuracy is that of the predictions before each update. A unit that "
        "is always negative on a task's inputs at its start and not at its end has revived by learning.",
        f"Hidden layers {'-'.join(map(str, config.hidden))}, {config.tasks} tasks of {config.images:,} images, SGD "
        f"with step size {config.step_size:g} and batch {config.batch_size}, {config.seeds} seeds; units are counted "
        f"on n = {config.probe} images of the task (silence there shows a frequency below {300 / config.probe:.2g} %). "
        "Dohare et al. train networks of width 2,000 on 60,000 images one by one: the setting here is a scaled one, "
        "and the direction is compared, not the figure.",
        f"Data: {source}.",
    ]
    write_up(
        "plasticity",
        config,
        outcome,
        title=TITLE,
        lead=lead,
        tables=[verdicts(records), main_table(records)],
        figures=[
            (
                "over_tasks.png",
                "Online accuracy, always-negative units, effective rank and the share of silent units that revive "
                f"within a task; means of {config.every} tasks, bands: 95 % intervals over seeds.",
                lambda: over_tasks(config, records),
            )
        ],
    )


def per_seed(
    records: Sequence[Record], arm: str, measure: Callable[[list[Record]], float | None]
) -> Estimate:
    """A measure of each seed's records, in the order of the tasks."""
    lives: dict[int, list[Record]] = {}
    for record in records:
        if record["arm"] == arm:
            lives.setdefault(record["seed"], []).append(record)
    return estimate([measure(life) for life in lives.values()])


def last(name: str) -> Callable[[list[Record]], float | None]:
    """The mean over the last tenth of the tasks."""

    def measure(life: list[Record]) -> float | None:
        values = [record[name] for record in life[-max(1, len(life) // 10) :]]
        return None if None in values else sum(values) / len(values)

    return measure


def change(name: str) -> Callable[[list[Record]], float | None]:
    """From the first record to the last tenth."""

    def measure(life: list[Record]) -> float | None:
        first, end = life[0][name], last(name)(life)
        return None if first is None or end is None else end - first

    return measure


def revival(life: list[Record]) -> float | None:
    """Of the units that were silent at a task's start, the share that revived in it; over all tasks."""
    if any(record["silent"] is None for record in life):
        return None
    silent = sum(record["silent"] for record in life)
    return sum(record["revived"] for record in life) / silent if silent else None


def total(name: str) -> Callable[[list[Record]], float | None]:
    """A count over all tasks."""
    return lambda life: (
        None if any(record[name] is None for record in life) else sum(record[name] for record in life)
    )


def verdicts(records: Sequence[Record]) -> Table:
    """The published directions beside ours."""

    def of(arm: str, measure: Callable[[list[Record]], float | None]) -> Estimate:
        return per_seed(records, arm, measure)

    findings = [
        Finding(
            "ReLU: always-negative units, change over the tasks",
            "rise (Dohare et al.)",
            of("relu", change("always_negative")),
            0.0,
            1.0,
            scale=100,
            whole=True,
        ),
        Finding(
            "ReLU: effective rank, change over the tasks",
            "falls (Dohare et al.)",
            of("relu", change("effective_rank")),
            -1e9,
            0.0,
            whole=True,
        ),
        Finding(
            "ReLU: online accuracy, change over the tasks",
            "falls in the end (Dohare et al.)",
            of("relu", change("online_accuracy")),
            -1.0,
            0.0,
            scale=100,
            whole=True,
        ),
    ]
    return verdict_table(
        "Published directions and ours: the last tenth of the tasks minus the first record",
        findings,
        ["Reproduced: the whole interval over seeds has the published sign. Shares in percentage points."],
    )


def main_table(records: Sequence[Record]) -> Table:
    """One line per arm."""
    lines = [
        [
            ARM_NAMES[arm],
            per_seed(records, arm, last("online_accuracy")).format(100),
            per_seed(records, arm, last("always_negative")).format(100),
            "n/a" if arm.startswith("leaky") else per_seed(records, arm, last("dead")).format(100),
            per_seed(records, arm, last("effective_rank")).format(1),
            per_seed(records, arm, total("died")).format(1, 0),
            per_seed(records, arm, total("revived")).format(1, 0),
            per_seed(records, arm, revival).format(100, 2),
            per_seed(records, arm, total("restarted")).format(1, 0),
        ]
        for arm in dict.fromkeys(record["arm"] for record in records)
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


def over_tasks(config: Any, records: Sequence[Record]) -> Any:
    """Four panels over the tasks."""
    figure, axes = plots.panels(
        2,
        2,
        "Over a sequence of tasks",
        f"permuted images, {'-'.join(map(str, config.hidden))} units, step size {config.step_size:g}; {config.seeds} "
        "seeds, bands: 95 % intervals",
        width=11.5,
        height=7.2,
        sharex=True,
    )
    tasks = sorted({record["task"] for record in records})
    panels: list[tuple[str, float, Callable[[list[Record]], float | None]]] = [
        ("online accuracy, %", 100, lambda life: life[0]["online_accuracy"]),
        ("always-negative units, %", 100, lambda life: life[0]["always_negative"]),
        ("effective rank of the last hidden layer", 1, lambda life: life[0]["effective_rank"]),
        ("silent units that revive in a task, %", 100, revival),
    ]
    for panel, (name, scale, measure) in zip(axes.flat, panels, strict=True):
        for arm in dict.fromkeys(record["arm"] for record in records):
            at = [[record for record in records if record["task"] == task] for task in tasks]
            values = [per_seed(some, arm, measure).scaled(scale) for some in at]
            style = {"color": _COLORS[arm], "label": ARM_NAMES[arm]}
            plots.line_with_band(panel, tasks, values, style)
        panel.set_title(name, loc="left", fontweight="bold")
        panel.set_xlim(0, tasks[-1])
    for panel in axes.flat[1:]:
        panel.set_ylim(bottom=0)
    axes[1, 1].set_ylim(0, 105)
    for panel in axes[-1]:
        panel.set_xlabel("task")
    plots.legend(figure, axes[0, 0])
    return figure

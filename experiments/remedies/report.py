"""What the remedies do, problem by problem: accuracy, never-active units, effective rank, and time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from experiments.lab.analysis import DASH, Measure, Runs, last_tenth, total
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.show import plots
from experiments.lab.show.table import Table

TITLE = "Which remedy keeps a network able to learn?"
PROBLEMS = {"mlp_sgd": "MLP, SGD", "mlp_adam": "MLP, Adam", "conv_adam": "conv, Adam"}
# Name and colour: units reset, weights held back, other networks, slopes.
_ANEW, _HELD, _OTHER, _SLOPE = "#0072B2", "#009E73", "#E69F00", "#CC79A7"
ARMS = {
    "relu": ("ReLU", plots.COLORS["relu"]),
    "redo": ("ReDo", _ANEW),
    "continual_backprop": ("continual backprop", _ANEW),
    "self_normalized_resets": ("self-normalised resets", _ANEW),
    "l2_init": ("L2 init", _HELD),
    "shrink_and_perturb": ("shrink and perturb", _HELD),
    "weight_clipping": ("weight clipping", _HELD),
    "layer_norm": ("layer norm", _OTHER),
    "crelu": ("CReLU", _OTHER),
    "leaky_0.01": ("leaky 0.01", _SLOPE),
    "leaky_0.2": ("leaky 0.2", _SLOPE),
    "prelu": ("PReLU", _SLOPE),
    "leaky_0.2_redo": ("leaky 0.2, ReDo", _SLOPE),
    "redo_count_reset": ("ReDo, count reset", _ANEW),
    "redo_count_per_entry": ("ReDo, count per entry", _ANEW),
    "redo_wrong_rows": ("ReDo, wrong rows", _ANEW),
}
MEASURES = {
    "accuracy": Measure("accuracy in the last tenth of the tasks", last_tenth("accuracy")),
    "never_active": Measure("never-active units", last_tenth("never_active"), more_is_better=False),
    "rank": Measure("effective rank", last_tenth("effective_rank"), 1),
}
_HEADERS = ("accuracy", "never\nactive", "effective\nrank")
_BEGUN = Measure("units reset", total("begun_anew"), 1, 0)


def runs_of(records: Any, baseline: str = "relu", arms: tuple[str, ...] = tuple(ARMS)) -> Runs:
    """The runs of some arms, compared in each problem with a baseline; a step is a task."""
    frame = pd.DataFrame(records).rename(columns={"task": "step"})
    return Runs(frame[frame["arm"].isin(arms)], "arm", ("problem",), baseline)


def report(config: Any, outcome: Outcome, times: Mapping[str, Mapping[str, float]], source: str) -> None:
    """Prints the tables and writes everything but the rows and the times."""
    runs, leaky = runs_of(outcome.records), runs_of(outcome.records, "leaky_0.2")
    lead = [
        "One network learns task after task, and nothing tells it where a task ends. The perceptron sees the same "
        "images with their pixels in a new random order for each task; the convolutional network learns labels by "
        "heart that each task exchanges among its images. Accuracy is that of the predictions before each update. "
        "Networks of one seed share their first weights, tasks and batches, and each remedy is compared with ReLU "
        "alone pair by pair.",
        *sentences(runs, leaky),
        f"Perceptron: {config.width}-{config.width} units, {config.tasks} tasks of {config.images:,} images, each seen "
        f"once. Convolutional network: two 3x3 convolutions of 8 and 16 channels with stride 2, the flattened map and "
        f"64 units; {config.relabellings} tasks of {config.labelled} images, each seen {config.epochs} times. SGD at "
        f"0.15 without momentum, Adam at 0.003, batch {config.batch_size}, images at half their size, {runs.seeds}. "
        "Never-active units are counted on all images of a task at its end, the rank is that of what the last layer "
        "reads. The settings of the remedies stand in `experiments/remedies/arms.py`.",
        f"Data: {source}.",
    ]
    tables = [differences_table(runs, leaky), means_table(runs, times), choices_table(outcome.records)]
    write_up(
        "remedies",
        config,
        outcome,
        title=TITLE,
        answer=answer(runs, leaky),
        lead=lead,
        tables=[table for table in tables if table.rows],
        figures=[
            (
                "against_relu.png",
                "Difference from ReLU alone, mean over paired seeds, with intervals corrected for the number of "
                "comparisons; hollow: not shown. Blue: units reset; green: weights held back; orange: another "
                "network; pink: slopes.",
                lambda: against_relu(runs),
            )
        ]
        if len(runs.arms) > 1 and runs.baseline in runs.arms
        else [],
    )


def answer(runs: Runs, leaky: Runs) -> str:
    """How many remedies are shown to be more accurate than ReLU alone, and than slope 0.2 alone."""
    accuracy = MEASURES["accuracy"]

    def shown(found: Runs, sign: int) -> int:
        others = (cell for cell in found.cells if cell[1] not in ("relu", found.baseline))
        compared = (found.difference(cell, accuracy) for cell in others)
        return sum(one.shown and one.mean * sign > 0 for one in compared)

    if not all(one.baseline in one.arms and runs.comparisons for one in (runs, leaky)):
        return ""
    return (
        f"Of {runs.comparisons} comparisons in accuracy with ReLU alone, {shown(runs, 1)} are shown in favour of a "
        f"remedy and {shown(runs, -1)} against it. Slope 0.2 alone is shown to be less accurate than a remedy in "
        f"{shown(leaky, 1)} and more accurate in {shown(leaky, -1)}."
    )


def sentences(runs: Runs, leaky: Runs) -> list[str]:
    """For each problem: what is shown to help, by how much, and how it stands beside slope 0.2."""
    accuracy, said = MEASURES["accuracy"], []
    for (problem,) in runs.settings:
        found = {arm: runs.difference((problem, arm), accuracy) for arm in runs.arms if arm != runs.baseline}
        listed = sorted((one for one in found.items() if one[1].shown), key=lambda one: -one[1].mean)
        parts = [
            f"{word}: " + ", ".join(f"{ARMS[arm][0]} {one.format(100, sign=True)}" for arm, one in these)
            for word, these in (
                ("better than ReLU alone", [one for one in listed if one[1].mean > 0]),
                ("worse", [one for one in reversed(listed) if one[1].mean < 0]),
            )
            if these
        ]
        above = [
            ARMS[arm][0]
            for arm in leaky.arms
            if (one := leaky.difference((problem, arm), accuracy)).shown and one.mean > 0
        ]
        if leaky.baseline in leaky.arms:
            parts.append(f"better than slope 0.2: {', '.join(above) or 'none'}")
        said.append(f"{PROBLEMS[problem]}, points of accuracy: {'; '.join(parts)}.")
    return said


def differences_table(runs: Runs, leaky: Runs) -> Table:
    """Each arm minus ReLU, and its accuracy minus that of slope 0.2."""
    lines = [
        [
            PROBLEMS[problem],
            ARMS[arm][0],
            *(one.text(runs.difference((problem, arm), one), sign=True) for one in MEASURES.values()),
            ""
            if arm == leaky.baseline
            else MEASURES["accuracy"].text(leaky.difference((problem, arm), MEASURES["accuracy"]), sign=True),
        ]
        for problem, arm in runs.cells
        if arm != runs.baseline and runs.baseline in runs.arms
    ]
    headers = (
        f"{name}, points" if one.scale == 100 else name
        for name, one in zip(_HEADERS, MEASURES.values(), strict=True)
    )
    return Table(
        "Minus ReLU alone of the same seed, with corrected intervals; * shown",
        ["problem", "remedy", *headers, "accuracy minus\nslope 0.2's, points"],
        lines,
        text_columns=2,
        notes=[
            f"The last tenth of the tasks. 95 % intervals over pairs, {runs.corrected}; a difference is shown where "
            "its interval leaves out 0."
        ],
    )


def means_table(runs: Runs, times: Mapping[str, Mapping[str, float]]) -> Table:
    """One line per problem and arm."""
    lines = []
    for problem, arm in runs.cells:
        cell, took = (problem, arm), times.get(problem, {}).get(arm)
        lines.append(
            [
                PROBLEMS[problem],
                ARMS[arm][0],
                *(one.text(runs.mean(cell, one)) for one in (*MEASURES.values(), _BEGUN)),
                "{}/{}".format(*runs.diverged(cell)),
                f"{took:.0f}" if took else DASH,
            ]
        )
    return Table(
        "Last tenth of the tasks; mean ± 95 % interval over seeds",
        [
            "problem",
            "remedy",
            "accuracy, %",
            "never\nactive, %",
            "effective\nrank",
            "units\nreset",
            "diverged",
            "time of an\nupdate, µs",
        ],
        lines,
        text_columns=2,
        notes=[
            "Units reset: over all tasks, the same unit many times. Time: processor time on one core, the least "
            "of nine rounds of 100 updates on one batch; slopes share ReLU's program, which takes the slope as an "
            "argument. CReLU's layers read twice as many values."
        ],
    )


def choices_table(records: Any) -> Table:
    """What the count of Adam and the mask behind the convolution change in ReDo."""
    wanted = ("redo", "redo_count_reset", "redo_count_per_entry", "redo_wrong_rows")
    lines: list[list[str]] = []
    if any(record["arm"] in wanted for record in records):
        runs = runs_of([one for one in records if one["problem"] != "mlp_sgd"], "redo", wanted)
        lines = [
            [
                PROBLEMS[problem],
                ARMS[arm][0],
                *(one.text(runs.difference((problem, arm), one), sign=True) for one in MEASURES.values()),
            ]
            for problem, arm in runs.cells
            if arm != "redo" and "redo" in runs.arms
        ]
    return Table(
        "Minus ReDo with Adam's count kept and the right rows, with corrected intervals; * shown",
        ["problem", "variant", "accuracy, points", "never\nactive, points", "effective\nrank"],
        lines,
        text_columns=2,
        notes=[
            "Count: Adam's number of steps, on which its bias correction rests, goes on in ReDo; it is reset for all "
            "entries whenever a unit is reset; or each entry has its own. Wrong rows: a channel's rows of the "
            "kernel behind the flattened map are taken side by side, as published, where channels come in turns. "
            f"Corrected (Bonferroni) for the {len(lines)} comparisons of each column."
        ],
    )


def against_relu(runs: Runs) -> Any:
    """A row per problem, a column per measure, a line per arm."""
    of_problem = {
        problem: {
            cell: ARMS[cell[1]] for cell in runs.cells if cell[0] == problem and cell[1] != runs.baseline
        }
        for (problem,) in runs.settings
    }
    figure, axes = plots.panels(
        len(of_problem),
        len(MEASURES),
        "What a remedy changes",
        f"difference from ReLU alone over paired seeds; bars: intervals corrected for {runs.comparisons} comparisons",
        width=12.5,
        height=1.5 + 0.3 * sum(2 + len(cells) for cells in of_problem.values()),
        sharey="row",
    )
    for line, (problem, cells) in zip(axes, of_problem.items(), strict=True):
        plots.differences(line, runs, [*MEASURES.values()], cells)
        line[0].set_ylabel(PROBLEMS[problem], fontweight="bold")
    for panel, measure in zip(axes[0], MEASURES.values(), strict=True):
        better = "right" if measure.more_is_better else "left"
        panel.set_title(f"{measure.title}\n({better} is better)", loc="left", fontsize=9)
    return figure

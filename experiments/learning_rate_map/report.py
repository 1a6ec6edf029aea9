"""What the learning-rate map shows: each slope against ReLU, pair by pair, over optimiser and learning rate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from experiments.lab.analysis import DASH, Cell, Finding, Measure, Runs, fisher, last
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.show import plots
from experiments.lab.show.table import Table, answer_of, verdict_table
from experiments.learning_rate_map.plots import maps, typical_half_width

TITLE = "Where does LeakyReLU learn faster or better than ReLU?"
MEASURES = {
    "never_active": Measure("never-active units", last("never_active"), more_is_better=False),
    "change": Measure("change from start", last("change"), more_is_better=False),
    "accuracy": Measure("test accuracy", last("accuracy")),
    # Of diverged networks too: one that does not reach the target counts as one that takes all steps.
    "steps": Measure(
        "steps to the target loss", last("restricted_steps"), 1, 0, more_is_better=False, of_diverged=True
    ),
}
_HEADERS = [measure.name.replace(" ", "\n", 1) for measure in MEASURES.values()]
_CAPTION = (
    "Difference from ReLU, mean over seeds. Coloured, bold and with a star: the corrected interval leaves out 0; green "
    "is better than ReLU, brown worse; the scale is logarithmic. Hatched: no difference is shown, whatever its sign."
)


def runs_of(records: Any, steps: int) -> Runs:
    """The runs of so many training steps, compared by slope with ReLU at the same optimiser and learning rate."""
    frame = pd.DataFrame(records)
    frame["restricted_steps"] = frame["steps_to_target"].astype(float).fillna(steps)
    return Runs(frame, "negative_slope", ("optimizer", "learning_rate"))


def report(config: Any, outcome: Outcome, source: str, samples: int) -> None:
    """Prints the tables and writes everything but the rows."""
    runs = runs_of(outcome.records, config.steps)
    lead = [
        "Each slope is compared with ReLU at the same optimiser and learning rate, pair by pair: networks of one seed "
        "share their first weights and their batches. A difference is shown where its interval leaves out 0; the "
        f"intervals are {runs.corrected}. The measures are not corrected for each other.",
        f"Hidden layers {'-'.join(map(str, config.hidden))}, {config.steps:,} steps of batch {config.batch_size}, "
        f"{runs.seeds} of each combination; never active and accuracy on n = {samples:,} test images at the end, "
        "of networks that did not diverge.",
        f"Steps to a test loss of {config.target_loss:g}: a network that does not reach it, or diverges, counts as one "
        f"that takes {config.steps:,} (the restricted mean of survival analysis), so that no failure is left out. The "
        f"loss is evaluated every {config.every} steps: a smaller difference in a pair is not seen, and "
        f"+0 ± 0 means that each pair reached it between the same two evaluations.",
        f"Data: {source}.",
    ]
    tables = [
        verdicts(runs),
        counts_table(runs),
        differences_table(runs),
        means_table(runs),
    ]
    write_up(
        "learning_rate_map",
        config,
        outcome,
        title=TITLE,
        answer=answer_of(
            runs,
            MEASURES["accuracy"],
            lambda cell: f"{plots.activation_name(cell[-1])} with {plots.OPTIMIZERS[cell[0]]} at {cell[1]:g}",
        ),
        lead=lead,
        tables=[table for table in tables if table.rows],
        figures=[("maps.png", _CAPTION, lambda: maps(runs, list(MEASURES.values()), config.steps))]
        if len(runs.arms) > 1
        else [],
    )


def verdicts(runs: Runs) -> Table:
    """What was published of the slopes, at each optimiser's best learning rate for ReLU."""
    findings = []
    for optimizer in dict.fromkeys(setting[0] for setting in runs.settings):
        rates = sorted(rate for name, rate in runs.settings if name == optimizer)
        of_relu = [runs.mean((optimizer, rate, 0.0), MEASURES["accuracy"]).mean for rate in rates]
        best = rates[int(np.argmax(np.nan_to_num(of_relu, nan=-1.0)))]
        for slope, published, low, high in (
            (0.01, "like ReLU (Maas et al.)", -0.01, 0.01),
            (0.2, "better than ReLU (Xu et al.)", 0.0, 1.0),
        ):
            if (optimizer, best, slope) in runs.cells:
                ours = runs.difference((optimizer, best, slope), MEASURES["accuracy"])
                what = f"leaky {slope:g} - ReLU, test accuracy, {optimizer} at {best:g}"
                findings.append(Finding(what, published, ours, low, high, 1, 100, whole=slope == 0.2))
    return verdict_table(
        "Published and ours, at the learning rate that is best for ReLU, in percentage points",
        findings,
        [
            "Like ReLU: our mean within 1 point. Better: the whole interval above 0; where it holds 0, no difference "
            "is shown. Xu et al. gained 1.25 points on CIFAR-10 with a slope of 1/5.5: an interval that holds both 0 "
            "and 1.25 excludes neither. They trained convolutional networks to the end; this is a small MLP, trained "
            "briefly. That the learning rate is ReLU's best favours ReLU."
        ],
    )


def counts_table(runs: Runs) -> Table:
    """In how many combinations a slope is shown to be better or worse."""
    lines = []
    for slope in runs.arms:
        if slope == runs.baseline:
            continue
        here = [cell for cell in runs.cells if cell[-1] == slope]
        shown = ["{} better, {} worse".format(*runs.shown(slope, one)) for one in MEASURES.values()]
        # Fewer or more of them than ReLU's.
        sides = [
            _share(runs.diverged(cell)) - _share(runs.diverged(runs.base_of(cell)))
            for cell in here
            if divergence(runs, cell) < 0.05
        ]
        worse, better = sum(side > 0 for side in sides), sum(side < 0 for side in sides)
        diverged = "{}/{}".format(*runs.diverged(*here))
        lines.append([plots.activation_name(slope), *shown, f"{better} better, {worse} worse", diverged])
    widths = []
    for one in MEASURES.values():
        found = [runs.difference(cell, one).scaled(one.scale) for cell in runs.cells if cell[-1]]
        width, unit = typical_half_width(found), "points" if one.scale == 100 else "steps"
        widths += [] if math.isnan(width) else [f"{width:.{one.digits}f} {unit} in {one.name}"]
    notes = [
        "Better: fewer never-active units, a smaller rise of their share from step 0, a higher accuracy, fewer "
        "steps, fewer networks that diverge.",
        *(
            [f"Typical (median) half-widths of the corrected intervals: {', '.join(widths)}."]
            if widths
            else []
        ),
        "0 better and 0 worse is no proof of equality: a difference of that size can have been missed.",
    ]
    return Table(
        f"Shown differences from ReLU, of {len(runs.settings)} combinations of optimiser and learning rate",
        ["activation", *(measure.name for measure in MEASURES.values()), "divergence", "networks\ndiverged"],
        lines,
        notes=notes,
    )


def differences_table(runs: Runs) -> Table:
    """One line per combination: each measure's difference from ReLU."""
    lines, most = [], max(runs.diverged(cell)[1] for cell in runs.cells)
    for cell in runs.cells:
        if cell[-1] == runs.baseline:
            continue
        optimizer, rate, slope = cell
        both = cell, runs.base_of(cell)
        p_value = divergence(runs, cell)
        lines.append(
            [
                f"{optimizer} {rate:g}",
                plots.activation_name(slope),
                *(one.text(runs.difference(cell, one), sign=True) for one in MEASURES.values()),
                ", ".join(_of(runs.count(reached, one)) for one in both),
                ", ".join(_of(runs.diverged(one)) for one in both),
                f"{p_value:.2g}{'*' if p_value < 0.05 else ''}",
            ]
        )
    return Table(
        "Leaky minus ReLU, over pairs of one seed: means with corrected intervals; * where a difference is shown",
        [
            "learning\nrate",
            "activation",
            *(f"{header}\n- ReLU's" for header in _HEADERS),
            "reached,\nReLU's",
            "diverged,\nReLU's",
            "divergence,\ncorrected p",
        ],
        lines,
        text_columns=2,
        sections=len(runs.arms) - 1,
        notes=[
            "Never active, change and accuracy: of the pairs in which neither network diverged. Where many diverge "
            "the survivors are compared, which can flatter the slope that diverges more.",
            "Divergence: Fisher's exact test of the two counts, its p-value times the number of comparisons, "
            f"{runs.comparisons}. It takes the networks for unpaired, which errs on the side of showing nothing if "
            "those of one seed tend to diverge together. McNemar's exact test of the pairs could give no corrected "
            f"p-value below {min(1.0, runs.comparisons * 2.0 ** (1 - most)):.2g} with {most} of them.",
        ],
    )


def means_table(runs: Runs) -> Table:
    """One line per combination: the measures themselves."""
    lines = [
        [
            f"{cell[0]} {cell[1]:g}",
            plots.activation_name(cell[2]),
            *(
                runs.mean(cell, one).format(one.scale, one.digits, sign=name == "change")
                for name, one in MEASURES.items()
            ),
            _of(runs.count(reached, cell)),
            _of(runs.diverged(cell)),
        ]
        for cell in runs.cells
    ]
    return Table(
        "Means ± 95 % intervals over seeds, not corrected",
        [
            "learning\nrate",
            "activation",
            *_HEADERS,
            "reached",
            "diverged",
        ],
        lines,
        text_columns=2,
        sections=len(runs.arms),
    )


def reached(records: pd.DataFrame) -> Any:
    """Whether each run reaches the target loss."""
    return last("steps_to_target")(records).notna()


def divergence(runs: Runs, cell: Cell) -> float:
    """Fisher's exact p-value for as many diverged networks as ReLU's, corrected for all comparisons."""
    return fisher(runs.diverged(cell), runs.diverged(runs.base_of(cell)), runs.comparisons)


def _of(count: tuple[int, int]) -> str:
    return f"{count[0]}/{count[1]}" if count[1] else DASH


def _share(count: tuple[int, int]) -> float:
    return count[0] / count[1] if count[1] else 0.0

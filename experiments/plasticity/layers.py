"""Where never-active units come back, and what wakes them: their own weights, or the layers below."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from experiments.lab.analysis import DASH, Runs, ratio
from experiments.lab.show.table import Table

FEW = 20  # never-active units: a share of fewer says little
START = "never_active_at_start"


def by_seed(runs: Runs, arm: str, name: str, layers: slice) -> list[int]:
    """A count over all tasks in some of the hidden layers, of each seed that did not diverge."""
    here = runs.of_cell((arm,))
    found = [np.sum(counts[layers]) for counts in here[f"{name}_by_layer"]]
    return [int(one) for one in pd.Series(found, here.index, dtype=float).groupby(level=0).sum()]


def share(runs: Runs, arm: str, part: str, whole: str, layers: slice) -> str:
    """In percent, with its interval; a dash where fewer than FEW units stand behind it."""
    parts, wholes = by_seed(runs, arm, part, layers), by_seed(runs, arm, whole, layers)
    return DASH if sum(wholes) < FEW else ratio(zip(parts, wholes, strict=True)).format(100)


def waking(runs: Runs, names: Mapping[str, str]) -> list[str]:
    """What the counts say, in words; nothing without ReLU, or where hardly a unit ceased to be active."""
    above, first = slice(1, None), slice(0, 1)

    def total(arm: str, name: str, layers: slice = above) -> int:
        return sum(by_seed(runs, arm, name, layers))

    def percent(arm: str, part: str, whole: str) -> str:
        return f"{share(runs, arm, part, whole, above)} %"

    if runs.baseline not in runs.arms or total(runs.baseline, "revived") < FEW:
        return []
    sentences = [
        "Does a leaky unit come back where a dead one cannot? A ReLU unit that is active on no image of a task "
        "receives no gradient and cannot move its own weights. Above the first hidden layer it is not lost for that: "
        f"of {total(runs.baseline, START):,} such units at the start of a task (all tasks and seeds) "
        f"{percent(runs.baseline, 'revived', START)} came back within it, because the layers below moved and with them "
        f"its inputs: {percent(runs.baseline, 'from_below', 'revived')} of those that came back are active "
        "with the very weights that they had at the start. "
        f"{percent(runs.baseline, 'unmoved', START)} of the never-active units ended the task with the same weights to "
        "the bit."
    ]
    leaky = [arm for arm in runs.arms if arm.startswith("leaky") and total(arm, "revived") >= FEW]
    if leaky:
        unmoved, start = (sum(total(arm, name) for arm in leaky) for name in ("unmoved", START))
        each = "; ".join(
            f"{names[arm]}: {percent(arm, 'revived', START)} came back, {percent(arm, 'from_below', 'revived')} of "
            "these are active with their old weights"
            for arm in leaky
        )
        sentences.append(
            f"A leaky unit moves itself too: {unmoved:,} of {start:,} never-active ones kept their weights. {each}."
        )
    if all(2 * total(arm, "from_below") > total(arm, "revived") for arm in (runs.baseline, *leaky)):
        sentences.append("So it is the layers below that bring most units back, the leaky ones too.")
    found = {arm: (total(arm, "revived", first), total(arm, START, first)) for arm in runs.arms}
    listed = "; ".join(f"{names[arm]}: {revived} of {start}" for arm, (revived, start) in found.items())
    few = any(start < FEW for _, start in found.values())
    sentences.append(
        "In the first hidden layer, whose inputs stay as they are within a task, a dead ReLU unit cannot come back "
        f"and a leaky one can. Of the never-active ones there came back {listed}."
        + (f" Where there were fewer than {FEW}, that is too few to compare." if few else "")
    )
    return [" ".join(sentences)]


def waking_table(runs: Runs, names: Mapping[str, str]) -> Table:
    """One line per arm and hidden layer."""
    lines = []
    depth = len(runs.records[f"{START}_by_layer"].iloc[0])
    for arm in runs.arms:
        for layer in range(depth):
            here = slice(layer, layer + 1)
            lines.append(
                [
                    names[arm],
                    str(layer + 1),
                    *(f"{sum(by_seed(runs, arm, name, here)):,}" for name in (START, "died", "revived")),
                    share(runs, arm, "revived", START, here),
                    share(runs, arm, "from_below", "revived", here),
                    share(runs, arm, "by_itself", "revived", here),
                    share(runs, arm, "unmoved", START, here),
                ]
            )
    header = [
        "network",
        "hidden\nlayer",
        "never active at\na task's start",
        "no longer active\nat its end",
        "revived\nin it",
        "revived of the\nnever active, %",
        "of these with\nold weights, %",
        "of these on\nold inputs, %",
        "never active\nand unmoved, %",
    ]
    return Table(
        "Where never-active units come back, and what wakes them: counts over all tasks and seeds",
        header,
        lines,
        sections=depth,
        notes=[
            "With old weights: units that are active with the incoming weights of the task's start on what the layers "
            "below give at its end; those layers alone wake them, and in the first hidden layer nothing can. On old "
            "inputs: units that are active with their weights of the end on what the layers below gave at the start. "
            "A unit can do both, or neither. Unmoved: of the never-active units, those whose incoming weights and bias "
            "did not change in a bit. Shares ± 95 % intervals over seeds; a dash where fewer than "
            f"{FEW} units stand behind a share."
        ],
    )

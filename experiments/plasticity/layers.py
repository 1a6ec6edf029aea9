"""Where silent units come back, and what wakes them: their own weights, or the layers below."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import stdtrit

from experiments.lab.analysis.lives import BASELINE, Lives
from experiments.lab.analysis.statistics import Estimate
from experiments.lab.show.table import Table

FEW = 20  # silent units: a share of fewer says little


def ratio(pairs: Sequence[tuple[float, float]]) -> Estimate:
    """The sum of the first over the sum of the second, each pair being a seed's, with a 95 % interval over seeds.

    Not the mean of the seeds' own shares, which a seed with one silent unit would move as much as one with hundreds.
    The interval is t(0.975, n - 1) of the ratio estimator's standard error: seeds are the sampling units.

    References:
        Cochran: Sampling Techniques, third edition, 1977, section 2.11.
    """
    parts, wholes = np.array(pairs, np.float64).reshape(-1, 2).T
    if not wholes.sum():
        return Estimate(math.nan, math.nan, 0)
    count, share = len(wholes), parts.sum() / wholes.sum()
    if count < 2:
        return Estimate(float(share), math.nan, count)
    error = math.sqrt(count / (count - 1) * np.sum((parts - share * wholes) ** 2)) / wholes.sum()
    return Estimate(float(share), float(stdtrit(count - 1, 0.975)) * error, count)


def by_seed(lives: Lives, arm: str, name: str, layers: slice) -> list[int]:
    """A count over all tasks in some of the hidden layers, of each seed that did not diverge."""
    return [
        sum(sum(record[f"{name}_by_layer"][layers]) for record in life)
        for life in lives.lives[arm,].values()
        if not life[-1]["diverged"]
    ]


def share(lives: Lives, arm: str, part: str, whole: str, layers: slice) -> str:
    """In percent, with its interval; a dash where fewer than FEW units stand behind it."""
    parts, wholes = by_seed(lives, arm, part, layers), by_seed(lives, arm, whole, layers)
    few = sum(wholes) < FEW
    return "\N{EN DASH}" if few else ratio(list(zip(parts, wholes, strict=True))).format(100)


def waking(lives: Lives, names: Mapping[str, str]) -> list[str]:
    """What the counts say, in words; nothing without ReLU, or of networks in which hardly a unit fell silent."""
    above, first = slice(1, None), slice(0, 1)

    def total(arm: str, name: str, layers: slice = above) -> int:
        return sum(by_seed(lives, arm, name, layers))

    def percent(arm: str, part: str, whole: str) -> str:
        return f"{share(lives, arm, part, whole, above)} %"

    if BASELINE not in lives.arms or total(BASELINE, "revived") < FEW:
        return []
    sentences = [
        "Does a leaky unit come back where a dead one cannot? A ReLU unit that fires on no image of a task receives no "
        "gradient and cannot move its own weights. Above the first hidden layer it is not lost for that: of "
        f"{total(BASELINE, 'silent'):,} such units at the start of a task (all tasks and seeds) "
        f"{percent(BASELINE, 'revived', 'silent')} came back within it, because the layers below moved and with them "
        f"its inputs: {percent(BASELINE, 'from_below', 'revived')} of those that came back fire with the very weights "
        f"that they had at the start. {percent(BASELINE, 'unmoved', 'silent')} of the silent ended the task with the "
        "same weights to the bit."
    ]
    leaky = [arm for arm in lives.arms if arm.startswith("leaky") and total(arm, "revived") >= FEW]
    if leaky:
        unmoved, silent = (sum(total(arm, name) for arm in leaky) for name in ("unmoved", "silent"))
        each = "; ".join(
            f"{names[arm]}: {percent(arm, 'revived', 'silent')} came back, {percent(arm, 'from_below', 'revived')} of "
            "these fire with their old weights"
            for arm in leaky
        )
        sentences.append(
            f"A leaky unit moves itself too: {unmoved:,} of {silent:,} silent ones kept their weights. {each}."
        )
    if all(2 * total(arm, "from_below") > total(arm, "revived") for arm in (BASELINE, *leaky)):
        sentences.append("So it is the layers below that bring most units back, the leaky ones too.")
    found = {arm: (total(arm, "revived", first), total(arm, "silent", first)) for arm in lives.arms}
    listed = "; ".join(f"{names[arm]}: {revived} of {silent}" for arm, (revived, silent) in found.items())
    few = any(silent < FEW for _, silent in found.values())
    sentences.append(
        "In the first hidden layer, whose inputs stay as they are within a task, a dead ReLU unit cannot come back "
        f"and a leaky one can. Of the silent ones there came back {listed}."
        + (f" Where fewer than {FEW} were silent, that is too few to compare." if few else "")
    )
    return [" ".join(sentences)]


def waking_table(lives: Lives, names: Mapping[str, str]) -> Table:
    """One line per arm and hidden layer."""
    lines = []
    depth = len(next(iter(next(iter(lives.lives.values())).values()))[0]["silent_by_layer"])
    for arm in lives.arms:
        for layer in range(depth):
            here = slice(layer, layer + 1)
            lines.append(
                [
                    names[arm],
                    str(layer + 1),
                    *(f"{sum(by_seed(lives, arm, name, here)):,}" for name in ("silent", "died", "revived")),
                    share(lives, arm, "revived", "silent", here),
                    share(lives, arm, "from_below", "revived", here),
                    share(lives, arm, "by_itself", "revived", here),
                    share(lives, arm, "unmoved", "silent", here),
                ]
            )
    header = [
        "network",
        "hidden\nlayer",
        "silent at\na task's start",
        "fell silent\nin it",
        "revived\nin it",
        "revived of\nthe silent, %",
        "of these with\nold weights, %",
        "of these on\nold inputs, %",
        "silent and\nunmoved, %",
    ]
    return Table(
        "Where silent units come back, and what wakes them: counts over all tasks and seeds",
        header,
        lines,
        sections=depth,
        notes=[
            "With old weights: units that fire with the incoming weights of the task's start on what the layers below "
            "give at its end; those layers alone wake them, and in the first hidden layer nothing can. On old inputs: "
            "units that fire with their weights of the end on what the layers below gave at the start. A unit can do "
            "both, or neither. Unmoved: of the silent, those whose incoming weights and bias did not change in a bit. "
            f"Shares ± 95 % intervals over seeds; a dash where fewer than {FEW} units stand behind a share."
        ],
    )

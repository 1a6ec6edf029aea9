"""Networks followed over their lives, some with one choice of activations, some with another; compared by seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.lab.analysis.paired import differences, simultaneous
from experiments.lab.analysis.statistics import Estimate, estimate
from experiments.lab.run.store import Record

Life = list[Record]  # in the order of the steps
BASELINE = "relu"  # the arm that the others are compared with


class Measure(NamedTuple):
    """What is compared.

    Attributes:
        name: for people.
        of: a life; None where it has none.
        scale: 100 for percent.
        digits: that are shown.
        more_is_better: or less.
    """

    name: str
    of: Callable[[Life], float | None]
    scale: float
    digits: int
    more_is_better: bool


def last(name: str) -> Callable[[Life], float | None]:
    """A measure after the last step."""
    return lambda life: life[-1][name]


def late(name: str) -> Callable[[Life], float | None]:
    """The mean of a measure over the looks of the second half of training."""

    def measure(life: Life) -> float | None:
        values = [record[name] for record in life[len(life) // 2 + 1 :] or life[-1:]]
        return None if None in values else float(np.mean(values))

    return measure


class Lives(NamedTuple):
    """All lives of a run.

    Attributes:
        lives: (*setting, arm) -> the life of each seed; a setting is what the arms are compared in.
    """

    lives: dict[tuple[str, ...], dict[int, Life]]

    def by_seed(self, cell: tuple[str, ...], of: Callable[[Life], float | None]) -> dict[int, float | None]:
        """A measure of each seed; None where it diverged."""
        return {seed: None if life[-1]["diverged"] else of(life) for seed, life in self.lives[cell].items()}

    def mean(self, cell: tuple[str, ...], of: Callable[[Life], float | None]) -> Estimate:
        """Over the seeds that did not diverge."""
        return estimate(list(self.by_seed(cell, of).values()))

    def against_baseline(self, cell: tuple[str, ...], measure: Measure) -> Estimate:
        """The mean difference from the baseline, with an interval corrected for all differences of that measure."""
        baseline = self.by_seed((*cell[:-1], BASELINE), measure.of)
        return simultaneous(differences(self.by_seed(cell, measure.of), baseline), self.comparisons)

    @property
    def comparisons(self) -> int:
        """How many differences from the baseline there are."""
        return sum(cell[-1] != BASELINE for cell in self.lives)

    @property
    def settings(self) -> list[tuple[str, ...]]:
        """In the order of the records."""
        return list(dict.fromkeys(cell[:-1] for cell in self.lives))

    @property
    def arms(self) -> list[str]:
        """In the order of the records."""
        return list(dict.fromkeys(cell[-1] for cell in self.lives))


def lives_of(records: Sequence[Record], setting: Sequence[str] = ()) -> Lives:
    """The records of each arm and seed; `setting` names what else was varied."""
    lives: dict[tuple[str, ...], dict[int, Life]] = {}
    for record in records:
        key = (*(str(record[name]) for name in setting), record["arm"])
        lives.setdefault(key, {}).setdefault(record["seed"], []).append(record)
    return Lives(lives)

"""The rows of a run, grouped by what was compared: a cell is one combination of the grid with all its seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.lab.analysis.statistics import Estimate, estimate
from experiments.lab.run.store import Record

Measure = Callable[[list[Record]], float | None]  # of one network's records


class Cell(NamedTuple):
    """One combination of the grid: the records of its seeds.

    Attributes:
        optimizer: its name.
        learning_rate: of the optimiser.
        slope: of the activation.
        lives: per seed, the records in the order of the steps.
    """

    optimizer: str
    learning_rate: float
    slope: float
    lives: dict[int, list[Record]]

    @property
    def diverged(self) -> int:
        """How many seeds had a non-finite value at some record."""
        return sum(life[-1]["diverged"] for life in self.lives.values())

    def by_seed(self, measure: Measure) -> dict[int, float | None]:
        """A measure of each life; None for the diverged ones."""
        return {seed: None if life[-1]["diverged"] else measure(life) for seed, life in self.lives.items()}

    def estimate(self, measure: Measure) -> Estimate:
        """The mean over the seeds that did not diverge."""
        return estimate(list(self.by_seed(measure).values()))


class Units:
    """Shares of all hidden units, from shares per layer."""

    def __init__(self, hidden: Sequence[int]) -> None:
        self._widths = np.array(hidden, np.float64)

    def share(self, name: str, place: int = -1) -> Measure:
        """The measure `name` over all hidden units at a record, by default the last."""

        def measure(life: list[Record]) -> float | None:
            values = life[place][name]
            return None if None in values else float(self._widths @ np.array(values) / self._widths.sum())

        return measure

    def change(self, name: str) -> Measure:
        """By how much it has changed since step 0."""

        def measure(life: list[Record]) -> float | None:
            first, last = self.share(name, 0)(life), self.share(name)(life)
            return None if first is None or last is None else last - first

        return measure


def accuracy(life: list[Record]) -> float | None:
    """The test accuracy at the last record."""
    return life[-1]["test_accuracy"]


def cells_of(records: Iterable[Record]) -> list[Cell]:
    """The grid's combinations in the order of the records."""
    cells: dict[tuple[str, float, float], Cell] = {}
    for record in records:
        key = record["optimizer"], record["learning_rate"], record["negative_slope"]
        cell = cells.setdefault(key, Cell(*key, lives={}))
        cell.lives.setdefault(record["seed"], []).append(record)
    return list(cells.values())

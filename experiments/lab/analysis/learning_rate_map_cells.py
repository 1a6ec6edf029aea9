"""The learning-rate map's networks by optimiser, learning rate and slope, and what sets them apart from ReLU's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.lab.analysis.paired import corrected_fisher, differences, is_shown, simultaneous
from experiments.lab.analysis.statistics import Estimate, estimate
from experiments.lab.run.store import Record

Cell = tuple[str, float, float]  # optimizer, learning rate, slope
_STEPS = "steps_to_target"


class Measure(NamedTuple):
    """How a measure is shown.

    Attributes:
        name: in a table's header.
        title: of a panel of the plot.
        unit: of its figures.
        scale: 100 for points.
        digits: that are shown.
        more_is_better: or less.
    """

    name: str
    title: str
    unit: str
    scale: float
    digits: int
    more_is_better: bool


MEASURES = {
    "never_active": Measure("never active", "never-active units, points", "points", 100, 1, False),
    "change": Measure("change from start", "never active, change, points", "points", 100, 1, False),
    "accuracy": Measure("test accuracy", "test accuracy, points", "points", 100, 1, True),
    _STEPS: Measure("steps to target", "steps to the target loss", "steps", 1, 0, False),
}


class Cells(NamedTuple):
    """The networks, by what was varied; of a run that was cut short some are missing.

    Attributes:
        lives: (optimizer, learning rate, slope) -> the records by seed.
        steps: of training, which stand for the steps to the target where it was not reached.
    """

    lives: dict[Cell, dict[int, Record]]
    steps: int

    def by_seed(self, cell: Cell, name: str) -> dict[int, float | None]:
        """A measure of each seed."""
        instead = self.steps if name == _STEPS else None
        lives = self.lives.get(cell, {})
        return {seed: instead if record[name] is None else record[name] for seed, record in lives.items()}

    def mean(self, cell: Cell, name: str) -> Estimate:
        """Over the seeds that have it."""
        return estimate(list(self.by_seed(cell, name).values()))

    def against_relu(self, cell: Cell, name: str) -> Estimate:
        """The mean difference from ReLU, with an interval corrected for all differences of that measure."""
        relu = self.by_seed(relu_of(cell), name)
        return simultaneous(differences(self.by_seed(cell, name), relu), self.comparisons)

    def diverged(self, cell: Cell) -> tuple[int, int]:
        """How many networks diverged, of how many."""
        lives = self.lives.get(cell, {})
        return sum(record["diverged"] for record in lives.values()), len(lives)

    def divergence(self, cell: Cell) -> float:
        """Fisher's exact p-value for as many diverged networks as ReLU's, corrected for all comparisons."""
        return corrected_fisher(self.diverged(cell), self.diverged(relu_of(cell)), self.comparisons)

    def reached(self, cell: Cell) -> tuple[int, int]:
        """How many networks reached the target loss, of how many."""
        lives = self.lives.get(cell, {})
        return sum(record[_STEPS] is not None for record in lives.values()), len(lives)

    def shown(self, slope: float, name: str) -> tuple[int, int]:
        """In how many combinations a slope is shown to be better than ReLU, and in how many worse."""
        found = [self.against_relu(cell, name) for cell in self.lives if cell[2] == slope]
        better = [(one.mean > 0) == MEASURES[name].more_is_better for one in found if is_shown(one)]
        return sum(better), len(better) - sum(better)

    def typical_half_width(self, name: str) -> float:
        """The median over the differences that have an interval, in the measure's unit; NaN without any."""
        found = [self.against_relu(cell, name) for cell in self.lives if cell[2] != 0]
        widths = [one.half_width for one in found if one.values >= 3]
        return float(np.median(widths)) * MEASURES[name].scale if widths else float("nan")

    @property
    def comparisons(self) -> int:
        """How many differences from ReLU there are of each measure."""
        return max(1, sum(slope != 0 for _, _, slope in self.lives))

    @property
    def slopes(self) -> list[float]:
        """Those that are compared with ReLU."""
        return sorted({slope for _, _, slope in self.lives if slope != 0})

    @property
    def settings(self) -> list[tuple[str, float]]:
        """The combinations of optimiser and learning rate."""
        return [(name, rate) for name in self.optimizers for rate in self.rates(name)]

    def rates(self, optimizer: str) -> list[float]:
        """In ascending order."""
        return sorted({rate for name, rate, _ in self.lives if name == optimizer})

    @property
    def optimizers(self) -> list[str]:
        """In the order of the records."""
        return list(dict.fromkeys(name for name, _, _ in self.lives))

    @property
    def seeds(self) -> str:
        """`10 seeds`, or `1 to 2 seeds` where a run that was cut short has more of one combination."""
        counts = [len(life) for life in self.lives.values()]
        least, most = min(counts), max(counts)
        return f"{most} seed{'s' if most > 1 else ''}" if least == most else f"{least} to {most} seeds"


def cells_of(records: Sequence[Record], steps: int) -> Cells:
    """The records of networks that were trained for so many steps, by what was varied."""
    lives: dict[Cell, dict[int, Record]] = {}
    for record in records:
        key = record["optimizer"], record["learning_rate"], record["negative_slope"]
        lives.setdefault(key, {})[record["seed"]] = record
    return Cells(lives, steps)


def relu_of(cell: Cell) -> Cell:
    """ReLU's cell of the same optimiser and learning rate."""
    return (*cell[:2], 0.0)

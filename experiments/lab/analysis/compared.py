"""Convolutional networks compared by their activation: the records, and differences from ReLU of the same seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.lab.analysis.paired import differences, simultaneous
from experiments.lab.analysis.statistics import Estimate, estimate
from experiments.lab.run.store import Record

NETWORKS = {
    "cnn": "plain CNN",
    "cnn_norm": "plain CNN, normalised",
    "resnet": "ResNet",
}
ACTIVATIONS = {"relu": "ReLU", "leaky_0.01": "leaky 0.01", "leaky_0.2": "leaky 0.2", "prelu": "PReLU"}
Key = tuple[str, float, str]
Measure = Callable[[list[Record]], float | None]  # of one network's records, in the order of the steps


class Cells(NamedTuple):
    """The networks, by what was varied.

    Attributes:
        lives: (network, learning rate, activation) -> the records by seed.
    """

    lives: dict[Key, dict[int, list[Record]]]

    @property
    def settings(self) -> list[tuple[str, float]]:
        """The networks with their learning rates, in the order of the records."""
        return list(dict.fromkeys((network, rate) for network, rate, _ in self.lives))

    def activations(self, network: str, rate: float) -> list[str]:
        """Of a network, ReLU first."""
        return [name for name in ACTIVATIONS if (network, rate, name) in self.lives]

    @property
    def comparisons(self) -> int:
        """How many differences from ReLU there are of each measure."""
        return sum(activation != "relu" for _, _, activation in self.lives)

    def by_seed(self, cell: Key, measure: Measure) -> dict[int, float | None]:
        """A measure of each seed; None of a diverged network."""
        lives = self.lives.get(cell, {})
        return {seed: None if life[-1]["diverged"] else measure(life) for seed, life in lives.items()}

    def mean(self, cell: Key, measure: Measure) -> Estimate:
        """Over the seeds that have it."""
        return estimate(list(self.by_seed(cell, measure).values()))

    def against_relu(self, cell: Key, measure: Measure) -> Estimate:
        """The mean difference from ReLU of the same seed; the interval is corrected for all comparisons."""
        relu = self.by_seed((*cell[:2], "relu"), measure)
        return simultaneous(differences(self.by_seed(cell, measure), relu), max(1, self.comparisons))


def cells_of(records: Sequence[Record]) -> Cells:
    """The records, by what was varied."""
    lives: dict[Key, dict[int, list[Record]]] = {}
    for record in records:
        key = record["network"], record["learning_rate"], record["activation"]
        lives.setdefault(key, {}).setdefault(record["seed"], []).append(record)
    return Cells(lives)


def last(name: str) -> Measure:
    """A measure at the end."""
    return lambda life: life[-1][name]


def share(name: str, place: int = -1) -> Measure:
    """Of all channels, at the end or at another look."""

    def measure(life: list[Record]) -> float | None:
        values, widths = life[place][name], np.array(life[place]["channels"])
        return None if None in values else float(widths @ np.array(values) / widths.sum())

    return measure


def of_layer(name: str, layer: int) -> Measure:
    """Of one layer's channels, at the end."""
    return lambda life: life[-1][name][layer]


def learned_slope(life: list[Record]) -> float | None:
    """The mean over the layers at the end; None where no slope is learned."""
    slopes = life[-1]["learned_slope"]
    return None if slopes is None or None in slopes else float(np.mean(slopes))

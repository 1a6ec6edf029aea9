"""One number of a network's recorded life, as the claims compare it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from experiments.claims.evidence import Life

Measure = Callable[[Life], float | None]


def _diverged(life: Life) -> bool:
    return bool(life[-1].get("diverged", False))


def end(name: str) -> Measure:
    """A value of the last record; a list has one per layer, of equal widths."""

    def measure(life: Life) -> float | None:
        value = None if _diverged(life) else life[-1][name]
        if isinstance(value, list):
            return None if None in value else float(np.mean(value))
        return value

    return measure


def late(name: str, part: float = 0.5) -> Measure:
    """The mean over the last part of the records."""

    def measure(life: Life) -> float | None:
        values = [record[name] for record in life[-max(1, round(len(life) * part)) :]]
        return None if _diverged(life) or None in values else float(np.mean(values))

    return measure


def swing(name: str) -> Measure:
    """The mean step from one record to the next in the second half."""

    def measure(life: Life) -> float | None:
        values = [record[name] for record in life[len(life) // 2 :]]
        if _diverged(life) or None in values or len(values) < 2:
            return None
        return float(np.abs(np.diff(values)).mean())

    return measure


def diverged_rates(life: Life) -> float:
    """The share of the learning rates at which a seed's network diverges."""
    rates: dict[float, bool] = {}
    for record in life:
        rates[record["learning_rate"]] = rates.get(record["learning_rate"], False) or record["diverged"]
    return float(np.mean(list(rates.values())))


def log_gradient(life: Life) -> float:
    """The gradient's norm at the first layer, of that at the last, in powers of ten."""
    return math.log10(life[-1]["gradient_norm"][0])


def log_time(life: Life) -> float | None:
    """The logarithm of a block's time: a hundredth is a percent."""
    return math.log(life[-1]["times_jax_nn"][0]) if life[-1].get("times_jax_nn") else None


def trained(life: Life) -> float:
    """1 where the network has learned the function, 0 where it has not."""
    return float(life[-1]["end"] == "trained")


def spread(player: str) -> Measure:
    """The deviation of a player's gradient norm over its mean between looks, averaged over the second half."""

    def measure(life: Life) -> float | None:
        if _diverged(life):
            return None
        looks = [record for record in life[len(life) // 2 :] if record[f"{player}_gradient"]]
        return float(
            np.mean([look[f"{player}_gradient_deviation"] / look[f"{player}_gradient"] for look in looks])
        )

    return measure

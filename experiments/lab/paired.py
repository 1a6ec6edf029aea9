"""Differences between networks that share a seed, with intervals that hold for many comparisons at once."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy.special import stdtrit

from experiments.lab.statistics import Estimate


def differences(ours: Mapping[int, float | None], theirs: Mapping[int, float | None]) -> list[float]:
    """One minus the other for each seed that has both."""
    pairs = ((value, theirs.get(seed)) for seed, value in ours.items())
    return [one - other for one, other in pairs if one is not None and other is not None]


def simultaneous(values: list[float], comparisons: int) -> Estimate:
    """Mean and interval such that all intervals of so many comparisons hold together with 95 % (Bonferroni).

    The interval is mean +- t(1 - 0.025 / m, n - 1) s / sqrt(n), for m comparisons and n pairs.
    """
    n = len(values)
    if n < 2:
        return Estimate(values[0] if values else math.nan, math.nan, n)
    quantile = float(stdtrit(n - 1, 1 - 0.025 / comparisons))
    return Estimate(float(np.mean(values)), quantile * float(np.std(values, ddof=1)) / math.sqrt(n), n)


def is_shown(difference: Estimate) -> bool:
    """Whether 0 lies outside the interval of three pairs or more: a difference is shown."""
    return difference.values >= 3 and abs(difference.mean) > difference.half_width

"""Differences between networks that share a seed, with intervals that hold for many comparisons at once."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy.special import stdtrit

from experiments.lab.analysis.statistics import Estimate


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


def corrected_fisher(ours: tuple[int, int], theirs: tuple[int, int], comparisons: int) -> float:
    """Fisher's exact two-sided p-value for two counts (of how many), times so many comparisons (Bonferroni), at most 1.

    It takes the two groups for independent. Networks that share a seed tend to fail together, which makes the
    difference of the counts vary less than the test supposes: it errs on the side of showing nothing. McNemar's test
    of the pairs has no p-value below 2^(1 - n) with n of them: 0.002 with ten, too coarse for fifty comparisons.
    """
    # Imported here: it takes half a second, which the scripts that only need the intervals are spared.
    from scipy.stats import fisher_exact

    table = [[count, total - count] for count, total in (ours, theirs)]
    return min(1.0, float(fisher_exact(table).pvalue) * comparisons)

"""Means over seeds and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit


class Estimate(NamedTuple):
    """The mean of some seeds and the half-width of its 95 % interval.

    Attributes:
        mean: NaN where there is nothing to average.
        half_width: of Student's t-interval; NaN with fewer than two values.
        values: how many there are.
    """

    mean: float
    half_width: float
    values: int

    def scaled(self, factor: float) -> Estimate:
        """The estimate in another unit: 100 for percent."""
        return Estimate(self.mean * factor, self.half_width * factor, self.values)

    def format(self, scale: float = 1.0, digits: int = 1, *, sign: bool = False) -> str:
        """`12.3 ± 1.4`; the interval is left out with one value, and no value at all is a dash."""
        if not self.values:
            return "\N{EN DASH}"
        if self.half_width * scale >= 10:
            digits = 0  # a decimal that the interval makes meaningless
        text = f"{self.mean * scale:{'+' if sign else ''}.{digits}f}"
        return text if math.isnan(self.half_width) else f"{text} ± {self.half_width * scale:.{digits}f}"


def estimate(values: Sequence[float | None]) -> Estimate:
    """Mean and 95 % interval of the values that are there; None stands for a value that is not.

    The interval is mean ± t(0.975, n - 1) s / sqrt(n): the seeds are taken as independent draws of a normal variable.
    """
    present = np.array([value for value in values if value is not None and math.isfinite(value)], np.float64)
    count = len(present)
    if not count:
        return Estimate(math.nan, math.nan, 0)
    if count == 1:
        return Estimate(float(present[0]), math.nan, 1)
    quantile = float(stdtrit(count - 1, 0.975))
    return Estimate(float(present.mean()), quantile * float(present.std(ddof=1)) / math.sqrt(count), count)

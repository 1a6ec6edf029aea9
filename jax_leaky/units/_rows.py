"""Device arrays as the plain values of a JSON row."""

from __future__ import annotations

import numpy as np
from jax.typing import ArrayLike


def plain(value: ArrayLike) -> float | None:
    """A scalar as a Python float, None where it is not finite.

    By way of the shortest text that float32 reads back: 0.1 in a row, not 0.10000000149011612.
    """
    number = np.asarray(value, np.float32)[()]
    return float(str(number)) if np.isfinite(number) else None

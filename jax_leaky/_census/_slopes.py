"""The slopes that the samples of a site met, where the program holds no number for them.

A slope that is an argument or a parameter may differ between batches, between the steps of a loop and between two
censuses that are added up. Which came last says nothing, so their range and their sum are kept.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jax_leaky.units import Pair, UnitCounts, Wide
from jax_leaky.units._pair import add


class Slopes(NamedTuple):
    """What is remembered of them; every array is (..., units), float32.

    Attributes:
        least: of the samples; NaN before the first one.
        greatest: of the samples; NaN before the first one.
        below: the sum of the slope over the samples that did not fire, so that (fired + below) / n is the mean slope.
    """

    least: Array
    greatest: Array
    below: Pair

    @property
    def differ(self) -> Array:
        """Which units met more than one slope."""
        return self.least != self.greatest

    def append(self, other: Slopes) -> Slopes:
        """Those of both; the order makes no difference."""
        return Slopes(
            # fmin and fmax pass over the NaN of no sample.
            jnp.fmin(self.least, other.least),
            jnp.fmax(self.greatest, other.greatest),
            add(self.below, other.below),
        )


@jax.jit
def met(slope: Array, counts: UnitCounts) -> Slopes:
    """Those of samples that all met the same one, a number or `slope: (..., units)`."""
    n = Wide(counts.n.high[..., None], counts.n.low[..., None])
    silent = (n - (counts.fired + counts.nonfinite)).to_float()
    slope = jnp.broadcast_to(jnp.asarray(slope, jnp.float32), silent.shape)
    known = jnp.where((n.high | n.low) == 0, jnp.nan, slope)
    total = slope * silent
    return Slopes(known, known, Pair(total, total - total))


append = jax.jit(Slopes.append)  # at once, outside of jit too

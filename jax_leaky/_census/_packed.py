"""The counts of a site in three arrays.

`UnitCounts` is two dozen small arrays, and each array that a compiled step returns costs it some microseconds: 1 % of
the step of a small network with four sites. Inside jit, XLA takes figures out of a stack as if it had never been.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jax_leaky.units as units
from jax_leaky.units import UnitCounts


class Packed(NamedTuple):
    """Counts, those of a scan over layers stacked in front.

    Attributes:
        whole: uint32 (..., figures, units).
        real: float32 (..., figures, units).
        scalars: uint32 (..., figures).
    """

    whole: Array
    real: Array
    scalars: Array


@functools.cache
def _layout() -> tuple[Any, tuple[int, ...]]:
    """The structure of counts, and for each leaf the field of `Packed` that holds it."""
    leaves, structure = jax.tree.flatten(jax.eval_shape(lambda: units.init(1)))
    return structure, tuple(2 if not leaf.ndim else int(leaf.dtype == jnp.float32) for leaf in leaves)


@jax.jit
def pack(counts: UnitCounts) -> Packed:
    """The same in three arrays."""
    _, fields = _layout()
    leaves = list(zip(jax.tree.leaves(counts), fields, strict=True))
    parts = [[leaf for leaf, field in leaves if field == wanted] for wanted in range(3)]
    return Packed(*(jnp.stack(part, axis=-1 if field == 2 else -2) for field, part in enumerate(parts)))


def unpack(packed: Packed) -> UnitCounts:
    """The counts that were packed; as NumPy arrays outside of jit, where each slice would be compiled by itself."""
    structure, fields = _layout()
    taken = [0, 0, 0]
    leaves = []
    arrays = [part if isinstance(part, jax.core.Tracer) else np.asarray(part) for part in packed]
    for field in fields:
        index, taken[field] = taken[field], taken[field] + 1
        leaves.append(arrays[field][(..., index) if field == 2 else (..., index, slice(None))])
    return jax.tree.unflatten(structure, leaves)

"""The counts of one batch at one site, cheap enough for a training step.

`units.update` adds every float sum as compensated pairs: 6 to 10 ns for each element of z on a CPU core, several
times what the layers around a small activation cost. Here float sums are float32 within a batch (and compensated
between batches, by `units.merge`), integers as exact. On an accelerator each figure is a plain reduction, which XLA
fuses into what comes before it and splits over a mesh. XLA on the CPU fuses nothing into a reduction: it would write
down what each one reads, in memory of the size of z. So there a few rows at a time are folded into cells that stay in
the cache: 1.1 to 2.3 ns for all figures, 0.4 to 0.7 for the lean ones of a training step.

What did not help on the CPU: one reduction of all figures together (2.8 ns), plain reductions (1.5 to 5.8), products
with a row of ones (1.4 to 5.9), cells in 2,048 or 32,768 pieces.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, auto_axes
from jax.typing import ArrayLike

import jax_leaky.units as units
from jax_leaky.units import Pair, UnitCounts, Wide

_CELLS = 1 << 13
_COLUMNS = 64


class _Extremes(NamedTuple):
    """What only the full count holds."""

    z_min: Array
    z_max: Array
    last: Array  # 1 + the place of the last firing; 0 for none


class _Figures(NamedTuple):
    """What some samples add: (units,), or (rows, units) before the rows are brought together."""

    nonfinite: Array
    fired: Array
    positive_sum: Array
    nonzero: Array | None  # None where a = max(z, 0): then they are fired and positive_sum
    abs_sum: Array | None
    extremes: _Extremes | None


# Jitted for its trace: sites of one shape share one, in every function that is counted.
@functools.partial(jax.jit, static_argnames="lean")
def tally(z: Array, a: Array | None, *, lean: bool = False) -> UnitCounts:
    """The counts of the samples `z: (..., units)`, those that `units.update(units.init(units), z, a)` gives.

    Args:
        z: the activation's input; every leading index is a sample.
        a: its output; None where that is max(z, 0).
        lean: leaves out `z_min` and `z_max`, which are NaN then, and tells `last_fired` to the batch: a unit that
            fires anywhere in z counts as fired on its last sample.
    """
    number = z.shape[-1]
    rows = math.prod(z.shape[:-1])
    count = functools.partial(_figures, lean=lean)
    mesh = jax.typeof(z).sharding.mesh
    if AxisType.Explicit in mesh.axis_types:  # the counts are the same everywhere: XLA finds the way there
        count = auto_axes(count, out_sharding=NamedSharding(mesh, PartitionSpec()))
    seen = count(z, a)
    n = _wide(jnp.asarray(rows).astype(jnp.uint32))
    unknown = jnp.full(number, jnp.nan, jnp.float32)
    some = seen.extremes or _Extremes(unknown, unknown, jnp.where(seen.fired > 0, n.low, jnp.uint32(0)))
    low = jnp.zeros(number, jnp.float32)
    return units.init(number)._replace(
        n=n,
        nonfinite=_wide(seen.nonfinite),
        fired=_wide(seen.fired),
        nonzero=_wide(seen.fired if seen.nonzero is None else seen.nonzero),
        abs_sum=Pair(seen.positive_sum if seen.abs_sum is None else seen.abs_sum, low),
        positive_sum=Pair(seen.positive_sum, low),
        z_min=some.z_min,
        z_max=some.z_max,
        end=n,
        last_fired=_wide(some.last),
    )


def _figures(z: Array, a: Array | None, lean: bool) -> _Figures:
    """The figures of `z, a: (..., units)`."""
    width = z.shape[-1]
    rows = math.prod(z.shape[:-1])
    # XLA's CPU code for arrays of less than 64 columns takes up to 16 times as long: some rows lie side by side there.
    side_by_side = -(-_COLUMNS // width)
    in_chunk = side_by_side * max(1, _CELLS // (side_by_side * width))

    def flat(x: Array) -> Array:
        return x.reshape(rows, width)

    def at_once(z: Array, a: Array | None) -> _Figures:
        flat_z, flat_a = jax.tree.map(flat, (z, a))
        return _reduced(_cells(flat_z, flat_a, width, 0, rows, lean))

    def in_chunks(z: Array, a: Array | None) -> _Figures:
        # The first chunk holds the rows that are over: what it reads beyond them is not counted.
        first = rows % in_chunk or in_chunk

        def chunk(start: ArrayLike, kept: int) -> _Figures:
            def some(x: Array) -> Array:
                # Made flat in here: XLA would write down a flat copy of it for the loop, beside the one in use.
                part = lax.dynamic_slice_in_dim(flat(x), start, in_chunk)
                return part.reshape(-1, side_by_side * width)

            some_z, some_a = jax.tree.map(some, (z, a))
            return _cells(some_z, some_a, width, start, kept, lean)

        def fold(index: Array, so_far: _Figures) -> _Figures:
            return _both(so_far, chunk(first + index * in_chunk, in_chunk))

        seen = _reduced(lax.fori_loop(0, (rows - first) // in_chunk, fold, chunk(0, first)))
        return _reduced(jax.tree.map(lambda x: x.reshape(side_by_side, width), seen))

    # Of a symbolic number of rows (jax.export), no one knows how many chunks it makes.
    if not isinstance(rows, int) or rows <= 2 * in_chunk:
        return at_once(z, a)
    return lax.platform_dependent(z, a, cpu=in_chunks, default=at_once)


def _cells(z: Array, a: Array | None, width: int, before: ArrayLike, kept: int, lean: bool) -> _Figures:
    """Every value of `z` by itself, in its first `kept` rows: the definitions of what is counted.

    Args:
        z: (lines, width), or (lines, k * width) with k rows side by side.
        a: the same.
        width: how many.
        before: rows that came before.
        kept: how many rows count.
        lean: as for `tally`.
    """
    lines, columns = z.shape
    beside = columns // width
    row = lax.broadcasted_iota(jnp.uint32, (lines, 1), 0) * beside
    if beside > 1:
        row += (lax.broadcasted_iota(jnp.uint32, (1, columns), 1)) // width
    z32 = z.astype(jnp.float32)
    finite = jnp.isfinite(z32)
    if a is not None:
        finite &= jnp.isfinite(a.astype(jnp.float32))
    nonfinite, counted = ~finite, finite
    if kept < lines * beside:
        nonfinite, counted = nonfinite & (row < kept), counted & (row < kept)
    fired = counted & (z > 0)
    place = row + jnp.asarray(before, jnp.uint32) + 1
    return _Figures(
        nonfinite=nonfinite.astype(jnp.uint32),
        fired=fired.astype(jnp.uint32),
        positive_sum=jnp.where(fired, z32, 0),
        nonzero=None if a is None else (counted & (a != 0)).astype(jnp.uint32),
        abs_sum=None if a is None else jnp.where(counted, jnp.abs(a.astype(jnp.float32)), 0),
        extremes=None
        if lean
        else _Extremes(
            jnp.where(counted, z32, jnp.inf), jnp.where(counted, z32, -jnp.inf), jnp.where(fired, place, 0)
        ),
    )


def _both(first: _Figures, second: _Figures) -> _Figures:
    sums = jax.tree.map(jnp.add, first._replace(extremes=None), second._replace(extremes=None))
    if first.extremes is None or second.extremes is None:
        return sums
    one, two = first.extremes, second.extremes
    return sums._replace(
        extremes=_Extremes(
            jnp.minimum(one.z_min, two.z_min),
            jnp.maximum(one.z_max, two.z_max),
            jnp.maximum(one.last, two.last),
        )
    )


def _reduced(cells: _Figures) -> _Figures:
    some = cells.extremes
    sums = jax.tree.map(lambda x: jnp.sum(x, axis=0, dtype=x.dtype), cells._replace(extremes=None))
    if some is None:
        return sums
    return sums._replace(
        extremes=_Extremes(  # initial: there may be no row
            jnp.min(some.z_min, axis=0, initial=jnp.inf),
            jnp.max(some.z_max, axis=0, initial=-jnp.inf),
            jnp.max(some.last, axis=0, initial=0),
        )
    )


def _wide(low: Array) -> Wide:
    return Wide(jnp.zeros_like(low), low)


def append(older: UnitCounts, newer: UnitCounts) -> UnitCounts:
    """The counts of two stretches of samples, `newer` counted from 0 and coming after `older`."""
    fired = (newer.last_fired.low | newer.last_fired.high) != 0
    moved = newer.last_fired + Wide(older.end.high[..., None], older.end.low[..., None])
    last_fired = jax.tree.map(lambda limb: jnp.where(fired, limb, jnp.uint32(0)), moved)
    return units.merge(older, newer._replace(end=older.end + newer.end, last_fired=last_fired))

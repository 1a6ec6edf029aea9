"""The figures of one array of samples, in one pass over it.

Float sums are compensated pairs, or plain float32: pairs cost 6 to 10 ns for each element of z on a CPU core, several
times what the layers around a small activation cost, so that a training step takes plain ones. Integers are exact
in both.

On an accelerator each figure is a plain reduction, which XLA fuses into what comes before it and splits over a mesh.
XLA on the CPU fuses nothing into a reduction: it would write down what each one reads, in memory of the size of z. So
there a few rows at a time are folded into cells that stay in the cache: 1.1 to 2.3 ns for all figures with plain sums,
0.4 to 0.7 for the lean ones of a training step.

What did not help on the CPU: one reduction of all figures together (2.8 ns), plain reductions (1.5 to 5.8), products
with a row of ones (1.4 to 5.9), cells in 2,048 or 32,768 pieces.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, auto_axes
from jax.typing import ArrayLike

from jax_leaky.units._fields import COUNT, FIELDS, LEAST, SUM, UnitCounts
from jax_leaky.units._wide import Pair, Wide, multiple, sum_pairs

_CELLS = 1 << 13
_COLUMNS = 64

_Figures = dict[str, Any]


class _Samples(NamedTuple):
    """What belongs to the samples: (rows, units), the place (rows, 1)."""

    z: Array
    a: Array | None
    slope: Array | None
    gradient: Array | None
    place: Array | None


# Jitted for its trace: sites of one shape share one, in every function that is counted.
@functools.partial(jax.jit, static_argnames=("exact", "lean"))
def tally(
    z: Array,
    a: Array | None,
    slope: Array | None,
    gradient: Array | None = None,
    keep: Array | None = None,
    *,
    exact: bool = False,
    lean: bool = False,
) -> UnitCounts:
    """The counts of the samples `z: (..., units)`, the first of which is at position 0.

    Args:
        z: the activation's input; every leading index is a sample.
        a: the activation's output, of z's shape; None where that is max(z, 0), or with a slope the leaky ReLU.
        slope: the slope below 0, (units,) or of z's shape; None without `a` for 0, and with `a` where none is known.
        gradient: dL/dz of each sample, of z's shape, or None.
        keep: bool, z's shape without the units; False marks padding. None keeps all samples.
        exact: whether float sums are compensated pairs.
        lean: whether to leave out `z_min` and `z_max`, which are NaN then, and to tell `last_fired` to the batch: a
            unit that fires anywhere in z counts as fired on its last sample.
    """
    count = functools.partial(_figures, exact=exact, lean=lean)
    mesh = jax.typeof(z).sharding.mesh
    if AxisType.Explicit in mesh.axis_types:  # the counts are the same everywhere: XLA finds the way there
        count = auto_axes(count, out_sharding=NamedSharding(mesh, PartitionSpec()))
    keep = None if keep is None else keep.reshape(-1, 1)
    seen = count(z, a, slope, gradient, keep)
    rows = math.prod(z.shape[:-1])
    n = jnp.asarray(rows).astype(jnp.uint32) if keep is None else jnp.sum(keep, dtype=jnp.uint32)
    if slope is None and a is None:
        slope = jnp.zeros(z.shape[-1], jnp.float32)
    return UnitCounts.of(_completed(seen, z.shape[-1], n, slope))


def _completed(seen: _Figures, units: int, n: Array, slope: Array | None) -> _Figures:
    """All figures of `UnitCounts`, from those that were counted element by element."""
    figures = dict(seen)
    figures["n"] = figures["end"] = n
    figures["grad_n"] = n if "grad_nonzero" in seen else jnp.zeros_like(n)
    if slope is not None and slope.ndim == 1:
        slope = slope.astype(jnp.float32)
        figures["slope_sum"] = multiple(n - seen["fired"] - seen["nonfinite"], slope)
        figures["slope_min"] = jnp.where(n > 0, slope, jnp.inf)
        figures["slope_max"] = jnp.where(n > 0, slope, -jnp.inf)
    figures.setdefault("nonzero", seen["fired"])
    figures.setdefault("abs_sum", seen["positive_sum"])
    figures.setdefault("last_fired", jnp.where(seen["fired"] > 0, n, jnp.uint32(0)))
    for name in ("z_min", "z_max"):
        figures.setdefault(name, jnp.full(units, jnp.nan, jnp.float32))
    for name, field in FIELDS.items():
        figure = figures.get(
            name, jnp.full(units, field.start, jnp.uint32 if field is COUNT else jnp.float32)
        )
        if field.holds is Wide:
            figure = Wide(jnp.zeros_like(figure), figure)
        elif field.holds is Pair and not isinstance(figure, Pair):
            figure = Pair(figure, jnp.zeros_like(figure))
        figures[name] = figure
    return figures


def _figures(
    z: Array,
    a: Array | None,
    slope: Array | None,
    gradient: Array | None,
    keep: Array | None,
    *,
    exact: bool,
    lean: bool,
) -> _Figures:
    """The figures that are counted element by element."""
    width = z.shape[-1]
    rows = math.prod(z.shape[:-1])
    # XLA's CPU code for arrays of less than 64 columns takes up to 16 times as long: some rows lie side by side there.
    side_by_side = -(-_COLUMNS // width)
    in_chunk = side_by_side * max(1, _CELLS // (side_by_side * width))
    of_unit = slope if slope is not None and slope.ndim == 1 else None
    cells = functools.partial(_cells, of_unit=of_unit, width=width, exact=exact, lean=lean)
    # The place among the samples that are kept, 0 for padding.
    place = None if keep is None else jnp.cumsum(keep, axis=0, dtype=jnp.uint32) * keep.astype(jnp.uint32)
    samples = _Samples(z, a, None if of_unit is not None else slope, gradient, place)

    def flat(x: Array) -> Array:
        return x.reshape(rows, x.shape[-1])

    def at_once(samples: _Samples) -> _Figures:
        return _reduced(cells(jax.tree.map(flat, samples), before=0, kept=rows))

    def in_chunks(samples: _Samples) -> _Figures:
        # The first chunk holds the rows that are over: what it reads beyond them is not counted.
        first = rows % in_chunk or in_chunk

        def chunk(start: ArrayLike, kept: int) -> _Figures:
            def some(x: Array) -> Array:
                # Made flat in here: XLA would write down a flat copy of it for the loop, beside the one in use.
                part = lax.dynamic_slice_in_dim(flat(x), start, in_chunk)
                return jnp.broadcast_to(part, (in_chunk, width)).reshape(-1, side_by_side * width)

            return cells(jax.tree.map(some, samples), before=start, kept=kept)

        def fold(index: Array, so_far: _Figures) -> _Figures:
            return _both(so_far, chunk(first + index * in_chunk, in_chunk))

        seen = _reduced(lax.fori_loop(0, (rows - first) // in_chunk, fold, chunk(0, first)))
        return _reduced(jax.tree.map(lambda x: x.reshape(side_by_side, width), seen))

    # Of a symbolic number of rows (jax.export), no one knows how many chunks it makes.
    if not isinstance(rows, int) or rows <= 2 * in_chunk:
        return at_once(samples)
    return lax.platform_dependent(samples, cpu=in_chunks, default=at_once)


def _cells(
    samples: _Samples,
    *,
    of_unit: Array | None,
    width: int,
    before: ArrayLike,
    kept: int,
    exact: bool,
    lean: bool,
) -> _Figures:
    """Every value by itself, in the first `kept` rows: the definitions of what is counted.

    Args:
        samples: (lines, width), or (lines, k * width) with k rows side by side.
        of_unit: the slope of each unit, (width,), if it is the same for all of the unit's samples.
        width: the number of units.
        before: the number of rows that came before.
        kept: the number of rows that count.
        exact: whether float sums are compensated, as in `tally`.
        lean: whether extremes are left out, as in `tally`.
    """
    z, a, slope, gradient, place = samples
    lines, columns = z.shape
    beside = columns // width
    row = lax.broadcasted_iota(jnp.uint32, (lines, 1), 0) * beside
    if beside > 1:
        row += (lax.broadcasted_iota(jnp.uint32, (1, columns), 1)) // width
    output = a
    if a is None and of_unit is not None:
        output = jnp.where(z > 0, z, jnp.tile(of_unit, beside).astype(z.dtype)[None] * z)
    finite = jnp.isfinite(z.astype(jnp.float32))
    for values in (output, gradient):
        if values is not None:
            finite &= jnp.isfinite(values.astype(jnp.float32))
    nonfinite, counted = ~finite, finite
    if kept < lines * beside:
        nonfinite, counted = nonfinite & (row < kept), counted & (row < kept)
    if place is not None:
        nonfinite, counted = nonfinite & (place > 0), counted & (place > 0)
    else:
        place = row + jnp.asarray(before, jnp.uint32) + 1
    fired = counted & (z > 0)

    def total(where: Array, values: Array) -> Any:
        high = jnp.where(where, jnp.abs(values.astype(jnp.float32)), 0)
        # high - high, not zeros_like, which shard_map would take for the same on every device
        return Pair(high, high - high) if exact else high

    def number(where: Array) -> Array:
        return where.astype(jnp.uint32)

    cells = {"nonfinite": number(nonfinite), "fired": number(fired), "positive_sum": total(fired, z)}
    if output is not None:
        cells |= {"nonzero": number(counted & (output != 0)), "abs_sum": total(counted, output)}
    if not lean:
        cells |= _extremes("z", counted, z) | {"last_fired": jnp.where(fired, place, jnp.uint32(0))}
    if gradient is not None:
        cells |= {"grad_nonzero": number(counted & (gradient != 0)), "grad_sum": total(counted, gradient)}
    if slope is not None:
        below = jnp.where(counted & ~fired, slope.astype(jnp.float32), 0)
        cells |= _extremes("slope", counted, slope) | {
            "slope_sum": Pair(below, below - below) if exact else below
        }
    return cells


def _extremes(name: str, counted: Array, values: Array) -> _Figures:
    values = values.astype(jnp.float32)
    least, greatest = f"{name}_min", f"{name}_max"
    return {
        least: jnp.where(counted, values, FIELDS[least].start),
        greatest: jnp.where(counted, values, FIELDS[greatest].start),
    }


def _both(first: _Figures, second: _Figures) -> _Figures:
    """Two sets of cells as one."""
    return {name: _merge(name, cells, second[name]) for name, cells in first.items()}


def _merge(name: str, first: Any, second: Any) -> Any:
    if isinstance(first, Pair):
        return SUM.merge(first, second)
    if FIELDS[name] in (COUNT, SUM):
        return first + second
    return (jnp.minimum if FIELDS[name] is LEAST else jnp.maximum)(first, second)


def _reduced(cells: _Figures) -> _Figures:
    """Cells (rows, units) as figures (units,)."""
    return {name: _reduce(name, rows) for name, rows in cells.items()}


def _reduce(name: str, rows: Any) -> Any:
    if isinstance(rows, Pair):
        return sum_pairs(rows)
    field = FIELDS[name]
    if field in (COUNT, SUM):
        return jnp.sum(rows, axis=0, dtype=rows.dtype)
    if field is LEAST:
        return jnp.min(rows, axis=0, initial=jnp.inf)  # initial: there may be no row
    return jnp.max(rows, axis=0, initial=jnp.array(field.start, rows.dtype))

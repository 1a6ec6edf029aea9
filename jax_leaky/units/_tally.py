"""The figures of one array of samples, in one pass over it.

Float sums are compensated pairs, or plain float32: pairs cost 6 to 10 ns for each element of z on a CPU core, several
times what the layers around a small activation cost, so that a training step takes plain ones. Integers are exact
in both.

On an accelerator each figure is a plain reduction, which XLA fuses into what comes before it and splits over a mesh.
XLA on the CPU fuses nothing into a plain reduction: it would write down what each one reads, in memory of the size of
z. What it does fuse is a reduction of several figures at once: one loop to compile where figures by themselves were
twenty-five, 0.1 s for each number of units and not 0.6, at 1.4 to 2.8 ns an element with plain sums. Of large arrays
the float sums stand apart, as a loop over rows that holds one is not vectorised: all together take 3.3 to 3.8 ns.

The lean figures of a training step are compiled once and run for hours. They are folded a piece at a time into cells
that stay in the first cache, at 0.4 to 0.9 ns of a ReLU and 1.0 to 2.6 ns where the output is counted too.

What did not help on the CPU: plain reductions (1.5 to 5.8 ns), products with a row of ones (1.4 to 5.9), pieces of
8,192 elements and more, three groups of figures (5 ns), lean figures in one reduction (1.2 to 5 ns by the length of the
rows); pieces of an array that was made flat, inside of the loop (1.2 to 6.8 ns for where each element lies) or before
it (a copy of a feature map); slicing the packed figures of all sites apart inside of the program, which compiled for as
long as counting them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, auto_axes
from jax.typing import ArrayLike

from jax_leaky.units._fields import COUNT, FIELDS, LARGEST, LEAST, SUM, UnitCounts
from jax_leaky.units._wide import Pair, Wide, multiple, sum_pairs

_SMALL = 1 << 17  # elements: they are counted in a millisecond at most
_SMALL_LEAN = 1 << 14  # one reduction of 2^17 takes 0.1 to 0.4 ms more than pieces do, in each step
_ROWS = 256
_CELLS = 1 << 11
_COLUMNS = 64
_HALF = 16  # bits of a count of pieces

_Figures = dict[str, Any]


class _Samples(NamedTuple):
    """What belongs to the samples: (rows, units), the place (rows, 1)."""

    z: Array
    a: Array | None
    slope: Array | None
    gradient: Array | None
    place: Array | None


Seen = dict[str, Any]
"""Figures of samples in 32 bits, by their names in `FIELDS`; besides, `slope` holds the slope below 0 of each unit,
(units,) or (1,), where it is one for all samples. What is missing follows from the others (`completed`)."""


# Jitted for its trace: sites of one shape share one, in every function that is counted.
@functools.partial(jax.jit, static_argnames=("exact", "lean", "whole"))
def tally(
    z: Array,
    a: Array | None,
    slope: Array | None,
    gradient: Array | None = None,
    keep: Array | None = None,
    *,
    exact: bool = False,
    lean: bool = False,
    whole: bool = True,
) -> Any:
    """The counts of the samples `z: (..., units)`, the first of which is at position 0.

    Args:
        z: the activation's input; every leading index is a sample.
        a: the activation's output, of z's shape; None where that is max(z, 0), or with a slope the leaky ReLU.
        slope: the slope below 0, (units,) or of z's shape; None without `a` for 0, and with `a` where none is known.
            With `a` it may be (1,), the slope of all units.
        gradient: dL/dz of each sample, of z's shape, or None.
        keep: bool, z's shape without the units; False marks padding. None keeps all samples.
        exact: whether float sums are compensated pairs.
        lean: whether to leave out `z_min` and `z_max`, which then say that they are not known, and to tell
            `last_fired` to the batch: a unit that fires anywhere in z counts as fired on its last sample.
        whole: whether to return `UnitCounts`. Otherwise it returns what had to be counted, `Seen`, to be `completed`
            by NumPy: XLA would compile more for that, at each number of units, than for the counting.
    """
    # No gradient flows through counts, nor could it through a reduction of several figures.
    z, a, slope, gradient = jax.tree.map(lax.stop_gradient, (z, a, slope, gradient))
    count = functools.partial(_figures, exact=exact, lean=lean)
    mesh = jax.typeof(z).sharding.mesh
    if AxisType.Explicit in mesh.axis_types:  # the counts are the same everywhere: XLA finds the way there
        count = auto_axes(count, out_sharding=NamedSharding(mesh, PartitionSpec()))
    keep = None if keep is None else keep.reshape(-1, 1)
    seen = count(z, a, slope, gradient, keep)
    rows = math.prod(z.shape[:-1])
    seen["n"] = jnp.asarray(rows).astype(jnp.uint32) if keep is None else jnp.sum(keep, dtype=jnp.uint32)
    if slope is None and a is None:
        seen["slope"] = np.zeros(1, np.float32)
    elif slope is not None and slope.ndim == 1:
        seen["slope"] = slope.astype(jnp.float32)
    return completed(seen) if whole else seen


def completed(seen: Seen) -> UnitCounts:
    """All figures, from those that were counted element by element; in NumPy's arrays or JAX's, stacked or not."""
    fired, n = seen["fired"], seen["n"]
    xp: Any = np if isinstance(fired, np.ndarray) else jnp
    figures = {name: figure for name, figure in seen.items() if name != "slope"}
    figures |= {
        "end": n,
        "grad_n": n if "grad_nonzero" in seen else xp.zeros_like(n),
        "unfired": ~fired,
    }
    samples = n[..., None]
    if "slope" in seen:
        slope = seen["slope"]
        if isinstance(slope, jax.Array) or np.any(slope):
            figures["slope_sum"] = multiple(samples - fired - seen["nonfinite"], slope)
        figures["slope_min"], figures["slope_max"] = (
            xp.broadcast_to(xp.where(samples > 0, slope, np.float32(FIELDS[name].start)), fired.shape)
            for name in ("slope_min", "slope_max")
        )
    defaults = {
        "nonzero": fired,
        "abs_sum": seen["positive_sum"],
        "last_fired": xp.where(fired > 0, samples, np.uint32(0)),
        "z_min": xp.full(fired.shape, -LARGEST, np.float32),
        "z_max": xp.full(fired.shape, LARGEST, np.float32),
    }
    figures = defaults | figures
    for name, field in FIELDS.items():
        figure = figures.get(name)
        if figure is None:
            figure = xp.full(fired.shape, field.start, np.uint32 if field is COUNT else np.float32)
        if field.holds is Wide:
            figure = Wide(xp.zeros_like(figure), figure)
        elif field.holds is Pair and not isinstance(figure, Pair):
            figure = Pair(figure, xp.zeros_like(figure))
        figures[name] = figure
    return UnitCounts.of(figures)


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
    of_unit = slope if slope is not None and slope.ndim == 1 else None
    cells = functools.partial(_cells, of_unit=of_unit, width=width, exact=exact, lean=lean)
    # The place among the samples that are kept, 0 for padding; a lean count asks only whether they are.
    place = None
    if keep is not None:
        place = keep.astype(jnp.uint32)
        place *= 1 if lean else jnp.cumsum(keep, axis=0, dtype=jnp.uint32)
    samples = _Samples(z, a, None if of_unit is not None else slope, gradient, place)

    def flat(x: Array) -> Array:
        return x.reshape(rows, x.shape[-1])

    def all_cells(samples: _Samples) -> _Figures:
        return cells(jax.tree.map(flat, samples))

    def at_once(samples: _Samples) -> _Figures:
        return _reduced(all_cells(samples))

    def in_pieces(samples: _Samples) -> _Figures:
        sizes = _piece(z.shape)
        numbers = [-(-length // size) for length, size in zip(z.shape, sizes, strict=True)]
        # XLA's CPU code for less than 64 columns takes up to 16 times as long: there some rows lie side by side, and
        # there alone, as of more columns it can take 6 times as long where they do.
        columns = width
        for size in sizes[-2::-1]:
            columns *= size if columns < _COLUMNS else 1

        # Two counts share 32 bits, as each figure is a loop of its own over the piece.
        packs = math.prod(numbers) < 1 << _HALF

        def piece(index: ArrayLike) -> _Figures:
            starts, again = [], []
            index = jnp.asarray(index).astype(
                jnp.uint32
            )  # XLA would ask whether a signed one counts from the end
            for axis, number in enumerate(numbers):
                place = index // math.prod(numbers[axis + 1 :]) % number
                start = place * sizes[axis]
                starts.append(jnp.minimum(start, z.shape[axis] - sizes[axis]))
                # The last piece overlaps the one before where their size does not divide the length.
                if z.shape[axis] % sizes[axis]:
                    again.append((start - starts[axis]) * math.prod(sizes[axis + 1 : -1]))

            def some(x: Array) -> Array:
                # Cut from the array as it is: of one made flat, XLA would write down a copy beside the one in use.
                whole = x.reshape(*z.shape[:-1], x.shape[-1])
                part = lax.dynamic_slice(whole, starts, (*sizes[:-1], x.shape[-1]))
                return jnp.broadcast_to(part, sizes).reshape(-1, columns)

            found = cells(jax.tree.map(some, samples), seen=again[0] if again else None)
            if packs:
                found["fired"] += found.pop("nonfinite") << _HALF
            return found

        def fold(index: Array, so_far: _Figures) -> _Figures:
            return _both(so_far, piece(index))

        seen = lax.fori_loop(1, math.prod(numbers), fold, piece(0))
        if packs:
            seen["nonfinite"], seen["fired"] = seen["fired"] >> _HALF, seen["fired"] & ((1 << _HALF) - 1)
        return _reduced(jax.tree.map(lambda x: x.reshape(-1, width), seen))

    # Of a symbolic number of rows (jax.export), no one knows how many pieces it makes.
    if not isinstance(rows, int):
        return at_once(samples)
    if z.size <= (_SMALL_LEAN if lean else _SMALL):
        return _together(all_cells(samples))
    if lean:
        return lax.platform_dependent(samples, cpu=in_pieces, default=at_once)
    return lax.platform_dependent(all_cells(samples), cpu=_together, default=_reduced)


def _piece(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The lengths of a piece of `_CELLS` elements at most, or of one row: the last axes, and a part of one before."""
    sizes = [*[1] * (len(shape) - 1), shape[-1]]
    rows = max(1, _CELLS // shape[-1])
    for axis in reversed(range(len(shape) - 1)):
        if shape[axis] > rows:
            divisor = next(number for number in range(rows, 0, -1) if shape[axis] % number == 0)
            sizes[axis] = divisor if 2 * divisor >= rows else rows
            break
        sizes[axis] = shape[axis]
        rows //= max(1, shape[axis])
    return tuple(sizes)


def _cells(
    samples: _Samples,
    *,
    of_unit: Array | None,
    width: int,
    exact: bool,
    lean: bool,
    seen: Array | None = None,
) -> _Figures:
    """Every value by itself: the definitions of what is counted.

    Args:
        samples: (lines, width), or (lines, k * width) with k rows side by side.
        of_unit: the slope of each unit, (width,), if it is the same for all of the unit's samples.
        width: the number of units.
        exact: whether float sums are compensated, as in `tally`.
        lean: whether extremes are left out, as in `tally`.
        seen: the number of rows in front that were counted before, and are not again; None for none.
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
    if seen is not None:
        is_new = row >= seen.astype(jnp.uint32)
        nonfinite, counted = nonfinite & is_new, counted & is_new
    if place is not None:
        nonfinite, counted = nonfinite & (place > 0), counted & (place > 0)
    else:
        place = row + 1
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


def _together(cells: _Figures) -> _Figures:
    """As `_reduced`, of many rows block by block, so that rounding errors of sums do not add up."""
    rows, width = jax.tree.leaves(cells)[0].shape
    if rows > _ROWS:
        blocks = _blocks(rows)
        inside = rows - rows % blocks
        in_blocks = jax.tree.map(lambda x: x[:inside].reshape(blocks, -1, width), cells)
        folded: _Figures = {}
        for names in _groups(cells) if rows * width > _SMALL else [list(cells)]:
            folded |= _folded({name: in_blocks[name] for name in names}, 1)
        if inside < rows:
            rest = jax.tree.map(lambda x: x[inside:], cells)
            folded = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), folded, rest)
        cells = folded
    return _folded(cells, 0)


def _groups(cells: _Figures) -> list[list[str]]:
    """The float sums, which cannot be vectorised over rows, and the others."""
    sums = [name for name in cells if FIELDS[name] is SUM]
    if len(jax.tree.leaves([cells[name] for name in sums])) == 1:
        sums.append(
            "last_fired"
        )  # alone the sum would not be fused with its cells, which would be written down
    return [[name for name in cells if name not in sums], sums]


def _blocks(rows: int) -> int:
    """The number of blocks: one that leaves no row over, unless that would be few."""
    most = min(_ROWS, math.isqrt(rows))
    return next((number for number in range(most, most // 4, -1) if rows % number == 0), most)


def _folded(cells: _Figures, axis: int) -> _Figures:
    """All cells along an axis, in one reduction."""
    operands, structure = jax.tree.flatten(cells)
    starts = jax.tree.leaves(
        {
            name: jax.tree.map(lambda x, start=FIELDS[name].start: np.asarray(start, x.dtype), cell)
            for name, cell in cells.items()
        }
    )

    def both(first: Sequence[Array], second: Sequence[Array]) -> list[Array]:
        return jax.tree.leaves(
            _both(jax.tree.unflatten(structure, first), jax.tree.unflatten(structure, second))
        )

    return jax.tree.unflatten(structure, lax.reduce(operands, starts, both, (axis,)))


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
        return jnp.min(rows, axis=0, initial=field.start)  # initial: there may be no row
    return jnp.max(rows, axis=0, initial=jnp.array(field.start, rows.dtype))

"""The state machine: what is remembered of the samples a layer has seen, and how two memories become one."""

from __future__ import annotations

import math
import operator
from collections.abc import Hashable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, auto_axes
from jax.typing import ArrayLike

from jax_leaky.units import _inputs
from jax_leaky.units._fields import FIELDS, SCALARS, UNFIRED, UnitCounts, total_before
from jax_leaky.units._tally import tally
from jax_leaky.units._wide import Pair, Wide, wide


def init(num_units: int | Sequence[int], *, start: int | Array | Wide = 0) -> UnitCounts:
    """The empty counts of a layer.

    Args:
        num_units: the number of units; for a convolution its channels. Of units in several axes, such as the heads and
            features of an attention gate, the lengths of these: (heads, features).
        start: the position in the stream of samples of the first one that `update` will see: 0, or where the
            shard of a stream begins. A Python int, an integer scalar (traced or not), or the `end` of other
            counts.

    Raises:
        TypeError: if `num_units` or `start` is not an integer.
        ValueError: if `num_units` is less than 1, or `start` is negative or 2^64 or more.

    Example:
        >>> import jax_leaky.units as units
        >>> int(units.init(3).n)
        0
    """
    try:
        lengths = num_units if isinstance(num_units, tuple | list) else (num_units,)
        num_units = math.prod(operator.index(length) for length in lengths)
    except TypeError:
        raise TypeError(f"num_units={num_units!r} is not an integer: give the number of units.") from None
    if num_units < 1:
        raise ValueError(f"num_units={num_units} leaves nothing to count: give 1 or more.")
    figures = {name: _start(name, () if name in SCALARS else (num_units,)) for name in FIELDS}
    return UnitCounts.of(figures | {"end": _inputs.position(start)})


def _start(name: str, shape: tuple[int, ...]) -> Wide | Pair | Array:
    field = FIELDS[name]
    if field is UNFIRED:
        return jnp.full(shape, field.start, jnp.uint32)
    if field.holds is Wide:
        return wide(0, shape)
    value = jnp.full(shape, field.start, jnp.float32)
    return value if field.holds is None else Pair(value, value)


def update(
    counts: UnitCounts,
    z: ArrayLike,
    a: ArrayLike | None = None,
    *,
    negative_slope: ArrayLike = 0.0,
    gradient: ArrayLike | None = None,
    where: ArrayLike | None = None,
    unit_axis: int | Sequence[int] = -1,
) -> UnitCounts:
    """The counts after some more samples.

    A unit fires on a sample where z > 0; 0 and -0 do not fire. Comparisons are the backend's own: XLA on the
    CPU takes a subnormal for 0, as the network that runs there does. No gradient flows through the counts.

    Args:
        counts: counts of the samples before, from `init`, `update` or `merge`.
        z: the input of the activation, (..., units), of any floating type; every leading index is a sample,
            in C order.
        a: the output of the activation, of z's shape; by default the leaky ReLU of z.
        negative_slope: slope of that leaky ReLU: a number, a traced scalar, or (units,).
        gradient: dL/dz of each sample by itself, of z's shape: not of the mean over a batch, whose sum can
            cancel.
        where: bool, broadcasts to z.shape[:-1]; False marks padding, which is not counted and takes no
            position.
        unit_axis: axis of z that holds the units, or several: with (1, 3) the units of z: (batch, heads, length,
            features) are the pairs of a head and a feature, in C order, and its samples are (batch, length), the
            shape to which `where` broadcasts.

    Raises:
        TypeError: if counts is no `UnitCounts`, z, a or gradient is not real floating point, `where` is not bool, or
            `unit_axis` no integer.
        ValueError: if a shape does not fit, or z holds 2^32 samples or more.

    Example:
        >>> import jax.numpy as jnp
        >>> import jax_leaky.units as units
        >>> counts = units.update(units.init(2), jnp.array([[1.0, -1.0], [0.0, -2.0]]))
        >>> counts.fired.to_numpy()
        array([1, 0], dtype=uint64)
    """
    _inputs.check_counts("counts", counts)
    z = _inputs.floating("z", z)
    if len(counts.shape) != 1:
        raise ValueError(f"counts is a stack of shape {counts.shape}: use jax.vmap(units.update).")
    units = counts.shape[0]
    try:
        axes = _inputs.unit_axes(unit_axis, z.ndim) if z.ndim else ()
    except (TypeError, ValueError) as error:
        raise type(error)(f"unit_axis={unit_axis!r} {error} of z, whose shape is {z.shape}.") from None
    unit_shape = tuple(z.shape[axis] for axis in axes)
    if z.ndim == 0 or math.prod(unit_shape) != units:
        remedy = (
            f"give (..., {units})" if unit_axis == -1 else f"{unit_shape} lie along unit_axis={unit_axis!r}"
        )
        raise ValueError(f"z has the shape {z.shape}, but counts holds {units} units: {remedy}.")
    if isinstance(z.size, int) and z.size // units >= 2**32:  # it may be symbolic in jax.export
        raise ValueError(f"z of shape {z.shape} holds 2**32 samples or more: update in smaller batches.")
    a = None if a is None else _inputs.like_z("a", a, z)
    gradient = None if gradient is None else _inputs.like_z("gradient", gradient, z)
    samples, a, gradient = jax.tree.map(lambda x: _inputs.units_last(x, axes), (z, a, gradient))
    where = None if where is None else _inputs.kept(where, samples)
    slope: Array | None = _inputs.slope_of(negative_slope, unit_shape)
    if a is None and isinstance(negative_slope, int | float) and negative_slope == 0:
        slope = None  # max(z, 0), of which less has to be counted
    fold, mesh = _fold, jax.typeof(z).sharding.mesh
    if AxisType.Explicit in mesh.axis_types:  # the counts are the same everywhere: leave the way there to XLA
        fold = auto_axes(_fold, out_sharding=NamedSharding(mesh, PartitionSpec()))
    return fold(counts, samples, a, slope, gradient, where)


def merge(first: UnitCounts, second: UnitCounts) -> UnitCounts:
    """The counts of both, as if one had seen all samples.

    By + and max (and min) alone: integers are the same to the bit whatever the order and the split. For `end`
    and `last_fired` that takes the `start` of each stretch of the stream in `init`.

    Raises:
        TypeError: if one of them is no `UnitCounts`.
        ValueError: if the two are of different layers: another number of units.

    Example:
        >>> import jax.numpy as jnp
        >>> import jax_leaky.units as units
        >>> left = units.update(units.init(1), jnp.array([[1.0], [-1.0]]))
        >>> right = units.update(units.init(1, start=2), jnp.array([[-1.0]]))
        >>> both = units.merge(right, left)
        >>> int(both.n), int(both.end), both.last_fired.to_numpy()
        (3, 3, array([1], dtype=uint64))
    """
    _inputs.check_counts("first", first)
    _inputs.check_counts("second", second)
    if first.shape != second.shape:
        raise ValueError(
            f"first has the shape {first.shape} and second {second.shape}: merge counts of the same layer only."
        )
    return _merge(first, second)


def append(older: UnitCounts, newer: UnitCounts) -> UnitCounts:
    """The counts of two stretches of samples, `newer` counted from position 0 and coming after `older`."""
    if all(isinstance(stack, np.ndarray) for stack in (*older, *newer)):
        with np.errstate(all="ignore"):
            return _appended(older, newer)
    return _append(older, newer)


def _merged(first: UnitCounts, second: UnitCounts) -> UnitCounts:
    return UnitCounts.of(
        {name: field.merge(getattr(first, name), getattr(second, name)) for name, field in FIELDS.items()}
    )


def _appended(older: UnitCounts, newer: UnitCounts) -> UnitCounts:
    return _merged(older, _moved(newer, older.end))


_merge = jax.jit(_merged)
_append = jax.jit(_appended)  # at once, outside of jit too: it is some hundred operations


def _moved(counts: UnitCounts, start: Wide) -> UnitCounts:
    """Counts from position 0 as they are from `start`."""
    fired = ((counts.last_fired.low | counts.last_fired.high) != 0).astype(np.uint32)
    moved = counts.last_fired + start[..., None]
    last_fired = jax.tree.map(lambda limb: limb * fired, moved)
    return counts.replaced(end=counts.end + start, last_fired=last_fired)


def all_reduce(counts: UnitCounts, axis_name: Hashable) -> UnitCounts:
    """The counts of all devices along a mesh axis, inside shard_map, pmap or vmap with an axis name.

    They are the same bits on every device. Call it once on the counts of a device's own samples, and `merge` the
    outcome with what was counted before; counts that are already the same everywhere would be added once for each
    device. Integers are exact for up to 65,536 devices. The float sums of all devices are brought together and
    merged in the order of the axis.

    Args:
        counts: the counts of this device's samples.
        axis_name: the name of the mesh axis, or a tuple of names.

    Raises:
        TypeError: if counts is no `UnitCounts`.
        NameError: if there is no such axis where this is called.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jax_leaky.units as units
        >>> def count(z):
        ...     return units.all_reduce(units.update(units.init(1), z), "devices")
        >>> counts = jax.vmap(count, axis_name="devices", out_axes=None)(jnp.ones((4, 3, 1)))
        >>> int(counts.n)
        12
    """
    _inputs.check_counts("counts", counts)
    check_axis(axis_name)
    return UnitCounts.of(
        {name: field.over_devices(getattr(counts, name), axis_name) for name, field in FIELDS.items()}
    )


def all_append(counts: UnitCounts, axis_name: Hashable) -> UnitCounts:
    """As `all_reduce`, of counts that each device began at position 0: samples follow in the order of the axis."""
    check_axis(axis_name)
    return all_reduce(_moved(counts, total_before(counts.end, axis_name)), axis_name)


def check_axis(axis_name: Hashable) -> None:
    """Raises a NameError where there is no such axis."""
    try:
        lax.axis_size(axis_name)
    except NameError:
        raise NameError(
            f"axis_name={axis_name!r} names no axis here: call all_reduce inside the function that jax.shard_map, "
            "jax.pmap or jax.vmap maps over the axis of that name."
        ) from None


@jax.jit
def _fold(
    counts: UnitCounts,
    z: Array,
    a: Array | None,
    slope: Array | None,
    gradient: Array | None,
    keep: Array | None,
) -> UnitCounts:
    """The counts after the samples of arrays that have been checked."""
    return append(counts, tally(z, a, slope, gradient, keep, exact=True))

"""The state machine: what is remembered of the samples a layer has seen, and how two memories become one."""

from __future__ import annotations

import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import AxisType, NamedSharding, PartitionSpec, auto_axes
from jax.typing import ArrayLike

from jax_leaky.units import _inputs, _pair, _wide
from jax_leaky.units._pair import Pair
from jax_leaky.units._tally import tally
from jax_leaky.units._wide import Wide


class UnitCounts(NamedTuple):
    """All that is remembered of a layer: O(units) numbers, however many samples were seen.

    Integers are exact to 2^64, and any split of the samples and any order of merging gives the same bits. The
    three float sums are kept as compensated pairs, so that the order shows only below 2^-40 of their value.
    Samples with a non-finite value enter `n` and `nonfinite` and nothing else of their unit.

    Attributes:
        n: samples seen. (), as are `grad_n` and `end`; all others have the shape (units,).
        nonfinite: samples whose z, a or gradient is not finite (in float32, the widest that is accumulated).
        fired: samples with z > 0.
        nonzero: samples with a != 0.
        abs_sum: the sum of abs(a).
        positive_sum: the sum of max(z, 0).
        z_min: the least z, float32; infinity before the first sample.
        z_max: the greatest z, float32; minus infinity before the first sample.
        end: the position in the stream of samples after the last one seen.
        last_fired: 1 + the position of the last sample with z > 0; 0 when there was none.
        grad_n: samples seen with a gradient.
        grad_nonzero: samples with dL/dz != 0.
        grad_sum: the sum of abs(dL/dz).
    """

    n: Wide
    nonfinite: Wide
    fired: Wide
    nonzero: Wide
    abs_sum: Pair
    positive_sum: Pair
    z_min: Array
    z_max: Array
    end: Wide
    last_fired: Wide
    grad_n: Wide
    grad_nonzero: Wide
    grad_sum: Pair


def init(num_units: int, *, start: int | Array | Wide = 0) -> UnitCounts:
    """The empty counts of a layer.

    Args:
        num_units: the number of units; for a convolution its channels.
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
        num_units = operator.index(num_units)
    except TypeError:
        raise TypeError(f"num_units={num_units!r} is not an integer: give the number of units.") from None
    if num_units < 1:
        raise ValueError(f"num_units={num_units} leaves nothing to count: give 1 or more.")
    units = (num_units,)
    return UnitCounts(
        n=_wide.wide(0),
        nonfinite=_wide.wide(0, units),
        fired=_wide.wide(0, units),
        nonzero=_wide.wide(0, units),
        abs_sum=_pair.zeros(units),
        positive_sum=_pair.zeros(units),
        z_min=jnp.full(units, jnp.inf, jnp.float32),
        z_max=jnp.full(units, -jnp.inf, jnp.float32),
        end=_inputs.position(start),
        last_fired=_wide.wide(0, units),
        grad_n=_wide.wide(0),
        grad_nonzero=_wide.wide(0, units),
        grad_sum=_pair.zeros(units),
    )


def update(
    counts: UnitCounts,
    z: ArrayLike,
    a: ArrayLike | None = None,
    *,
    negative_slope: ArrayLike = 0.0,
    gradient: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> UnitCounts:
    """The counts after some more samples.

    A unit fires on a sample where z > 0; 0 and -0 do not fire. Comparisons are the backend's own: XLA on the
    CPU takes a subnormal for 0, as the network that runs there does. No gradient flows through the counts.

    Args:
        counts: of the samples before, from `init`, `update` or `merge`.
        z: the input of the activation, (..., units), of any floating type; every leading index is a sample,
            in C order.
        a: the output of the activation, of z's shape; by default the leaky ReLU of z.
        negative_slope: of that default; a number, a traced scalar, or (units,).
        gradient: dL/dz of each sample by itself, of z's shape: not of the mean over a batch, whose sum can
            cancel.
        where: bool, broadcasts to z.shape[:-1]; False marks padding, which is not counted and takes no
            position.

    Raises:
        TypeError: if z, a or gradient is not real floating point, or `where` is not bool.
        ValueError: if a shape does not fit, or z holds 2^32 samples or more.

    Example:
        >>> import jax.numpy as jnp
        >>> import jax_leaky.units as units
        >>> counts = units.update(units.init(2), jnp.array([[1.0, -1.0], [0.0, -2.0]]))
        >>> counts.fired.to_numpy()
        array([1, 0], dtype=uint64)
    """
    z = _inputs.floating("z", z)
    if counts.fired.low.ndim != 1:
        raise ValueError(f"counts is a stack of shape {counts.fired.low.shape}: use jax.vmap(units.update).")
    units = counts.fired.low.shape[0]
    if z.ndim == 0 or z.shape[-1] != units:
        raise ValueError(f"z has the shape {z.shape}, but counts holds {units} units: give (..., {units}).")
    if z.size // units >= 2**32:
        raise ValueError(f"z of shape {z.shape} holds 2**32 samples or more: update in smaller batches.")
    a = None if a is None else _inputs.like_z("a", a, z)
    gradient = None if gradient is None else _inputs.like_z("gradient", gradient, z)
    where = None if where is None else _inputs.kept(where, z)
    slope = _inputs.slope_of(negative_slope, units, z.dtype)
    fold, mesh = _fold, jax.typeof(z).sharding.mesh
    if AxisType.Explicit in mesh.axis_types:  # the counts are the same everywhere: leave the way there to XLA
        fold = auto_axes(_fold, out_sharding=NamedSharding(mesh, PartitionSpec()))
    return fold(counts, z, a, slope, gradient, where)


@jax.jit
def merge(first: UnitCounts, second: UnitCounts) -> UnitCounts:
    """The counts of both, as if one had seen all samples.

    By + and max (and min) alone: integers are the same to the bit whatever the order and the split. For `end`
    and `last_fired` that takes the `start` of each stretch of the stream in `init`.

    Raises:
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
    if first.fired.low.shape != second.fired.low.shape:
        raise ValueError(
            f"first has the shape {first.fired.low.shape} and second {second.fired.low.shape}: "
            "merge counts of the same layer only."
        )
    return UnitCounts(
        n=first.n + second.n,
        nonfinite=first.nonfinite + second.nonfinite,
        fired=first.fired + second.fired,
        nonzero=first.nonzero + second.nonzero,
        abs_sum=_pair.add(first.abs_sum, second.abs_sum),
        positive_sum=_pair.add(first.positive_sum, second.positive_sum),
        z_min=jnp.minimum(first.z_min, second.z_min),
        z_max=jnp.maximum(first.z_max, second.z_max),
        end=_wide.maximum(first.end, second.end),
        last_fired=_wide.maximum(first.last_fired, second.last_fired),
        grad_n=first.grad_n + second.grad_n,
        grad_nonzero=first.grad_nonzero + second.grad_nonzero,
        grad_sum=_pair.add(first.grad_sum, second.grad_sum),
    )


@jax.jit
def _fold(
    counts: UnitCounts, z: Array, a: Array | None, slope: Array, gradient: Array | None, keep: Array | None
) -> UnitCounts:
    """The counts after the samples of arrays that have been checked."""

    def rows(x: Array | None) -> Array | None:
        return None if x is None else x.reshape(-1, z.shape[-1])

    keep = None if keep is None else keep.reshape(-1, 1)
    n = jnp.uint32(z.size // z.shape[-1]) if keep is None else jnp.sum(keep, dtype=jnp.uint32)
    seen = tally(z.reshape(-1, z.shape[-1]), rows(a), slope, rows(gradient), keep)
    last_fired = counts.end + seen.last
    last_fired = jax.tree.map(lambda limb: jnp.where(seen.last > 0, limb, jnp.uint32(0)), last_fired)
    counts = counts._replace(
        n=counts.n + n,
        nonfinite=counts.nonfinite + seen.nonfinite,
        fired=counts.fired + seen.fired,
        nonzero=counts.nonzero + seen.a.nonzero,
        abs_sum=_pair.add(counts.abs_sum, seen.a.total),
        positive_sum=_pair.add(counts.positive_sum, seen.positive_sum),
        z_min=jnp.minimum(counts.z_min, seen.z_min),
        z_max=jnp.maximum(counts.z_max, seen.z_max),
        end=counts.end + n,
        last_fired=_wide.maximum(counts.last_fired, last_fired),
    )
    if seen.gradient is None:
        return counts
    return counts._replace(
        grad_n=counts.grad_n + n,
        grad_nonzero=counts.grad_nonzero + seen.gradient.nonzero,
        grad_sum=_pair.add(counts.grad_sum, seen.gradient.total),
    )

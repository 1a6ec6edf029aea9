"""Merging the counts of all devices inside shard_map (or vmap with an axis name)."""

from __future__ import annotations

from collections.abc import Hashable

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_leaky.units import _pair
from jax_leaky.units._counts import UnitCounts
from jax_leaky.units._pair import Pair
from jax_leaky.units._wide import Wide

_HALF = 0xFFFF


def all_reduce(counts: UnitCounts, axis_name: Hashable) -> UnitCounts:
    """The counts of all devices along a mesh axis, the same bits on every one of them.

    Call it once on the counts of a device's own samples, and `merge` the outcome with what was counted
    before; counts that are already the same everywhere would be added once for each device. Integers are
    exact for up to 65,536 devices. The float sums of all devices are brought together and merged in the order
    of the axis.

    Args:
        counts: of this device's samples.
        axis_name: the name of the mesh axis, or a tuple of names.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jax_leaky.units as units
        >>> def count(z):
        ...     return units.all_reduce(units.update(units.init(1), z), "devices")
        >>> counts = jax.vmap(count, axis_name="devices", out_axes=None)(jnp.ones((4, 3, 1)))
        >>> int(counts.n)
        12
    """
    return UnitCounts(
        n=_total(counts.n, axis_name),
        nonfinite=_total(counts.nonfinite, axis_name),
        fired=_total(counts.fired, axis_name),
        nonzero=_total(counts.nonzero, axis_name),
        abs_sum=_total_pair(counts.abs_sum, axis_name),
        positive_sum=_total_pair(counts.positive_sum, axis_name),
        z_min=lax.pmin(counts.z_min, axis_name),
        z_max=lax.pmax(counts.z_max, axis_name),
        end=_maximum(counts.end, axis_name),
        last_fired=_maximum(counts.last_fired, axis_name),
        grad_n=_total(counts.grad_n, axis_name),
        grad_nonzero=_total(counts.grad_nonzero, axis_name),
        grad_sum=_total_pair(counts.grad_sum, axis_name),
    )


def _total(count: Wide, axis_name: Hashable) -> Wide:
    # A sum of uint32 limbs would lose its carries. A sum of 16-bit parts cannot overflow 32 bits; its own
    # upper half is the carry into the next part.
    parts = (count.low & _HALF, count.low >> 16, count.high & _HALF, count.high >> 16)
    sums = lax.psum(parts, axis_name)
    second = sums[1] + (sums[0] >> 16)
    third = sums[2] + (second >> 16)
    fourth = sums[3] + (third >> 16)
    return Wide((fourth << 16) | (third & _HALF), (second << 16) | (sums[0] & _HALF))


def _maximum(count: Wide, axis_name: Hashable) -> Wide:
    high = lax.pmax(count.high, axis_name)
    return Wide(high, lax.pmax(jnp.where(count.high == high, count.low, jnp.uint32(0)), axis_name))


def _total_pair(pair: Pair, axis_name: Hashable) -> Pair:
    # psum would add the floats without their errors. Each device puts its pair in a row of its own, the other
    # rows being 0, so that this psum rounds nothing; and unlike all_gather it is known to shard_map to be
    # replicated.
    devices, device = lax.axis_size(axis_name), lax.axis_index(axis_name)

    def gather(x: Array) -> Array:
        return lax.psum(jnp.zeros((devices, *x.shape), x.dtype).at[device].set(x), axis_name)

    return _pair.sum_pairs(jax.tree.map(gather, pair))

"""Sites inside a shard_map whose units are spread over shards: all units are brought together before they are seen."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax import Array, lax

from jax_leaky._tracing._sharding import COPY, DOUBTFUL, Placement
from jax_leaky._tracing._visitor import Visit


class Layout(NamedTuple):
    """How z lies on the shards.

    Attributes:
        shape: of z in one shard, with all units.
        units: the mesh axis over which the units are spread, None if every shard holds all of them.
        copies: the mesh axes over which z differs by its type alone.
    """

    shape: tuple[int, ...]
    units: str | None = None
    copies: frozenset[str] = frozenset()


def layout_of(
    z: Any, axes: frozenset[str], placement: Placement, sizes: Mapping[str, int], branching: frozenset[str]
) -> Layout | None:
    """The layout of a site, None where its units may be spread in a way that is not known.

    Args:
        z: the type of the activation's input in one shard.
        axes: the mesh axes along which it differs by its type.
        placement: how it is split.
        sizes: of the mesh axes.
        branching: the mesh axes along which shards may take different branches, so that they cannot exchange units.
    """
    shape = tuple(z.shape)
    places = {axis: placement.get(axis, COPY) for axis in axes}
    spread = [axis for axis, place in places.items() if place == len(shape) - 1]
    if DOUBTFUL in places.values() or len(spread) > 1 or not branching.isdisjoint(spread):
        return None
    copies = frozenset(axis for axis, place in places.items() if place == COPY) - branching
    if not spread:
        return Layout(shape, None, copies)
    return Layout((*shape[:-1], shape[-1] * sizes[spread[0]]), spread[0], copies)


def whole(x: Array, axis: str | None) -> Array:
    """An array with the units of all shards; `axis` as in `Layout.units`."""
    return x if axis is None else lax.all_gather(x, axis, axis=x.ndim - 1, tiled=True)


def own_part(x: Array, axis: str | None, last: Sequence[int]) -> Array:
    """The part of `whole(x)` that lies on the shard; `last` is the shape of its last axis."""
    if axis is None:
        return x
    (units,) = last
    return lax.dynamic_slice_in_dim(x, lax.axis_index(axis) * units, units, x.ndim - 1)


def whole_visit(visit: Visit, axis: str | None) -> Visit:
    """What stands at a site, with all units; a slope for each unit is brought together like z."""
    if axis is None:
        return visit
    units = visit.z.shape[-1]
    return jax.tree.map(
        lambda leaf: whole(lax.stop_gradient(leaf), axis) if leaf.shape[-1:] == (units,) else leaf, visit
    )


def whole_shape(shape: tuple[int, ...], z: tuple[int, ...], layout: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that `whole_visit` gives to an array of `shape` at a site of z."""
    return (*shape[:-1], layout[-1]) if shape and shape[-1] == z[-1] else shape


def first_copy(leaf: Array, sizes: Mapping[str, int], apart: frozenset[str]) -> Array:
    """Records that are stacked in front over all mesh axes of `sizes`, stacked over those in `apart` alone."""
    rest = leaf.shape[1:]
    leaf = leaf.reshape(*sizes.values(), *rest)
    leaf = leaf[tuple(slice(None) if axis in apart else 0 for axis in sizes)]
    kept = [size for axis, size in sizes.items() if axis in apart]
    return leaf.reshape(*([math.prod(kept)] if kept else []), *rest)

"""Meshes with explicit axes, on which JAX asks of every operation how its result is to be placed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, auto_axes


def placed_as(like: Any, fn: Callable[..., Any], *args: Any) -> Any:
    """The result of a function of arrays, each array of it placed as its like where a mesh has explicit axes.

    The masks of a layer's units are small and are met by parameters placed in any way, so that the way there is left to
    XLA.

    Args:
        like: pytree of arrays of the structure of the result, or None to have all of it on every device.
        fn: function of arrays, which closes over none of JAX.
        *args: arguments of the function.
    """
    shardings = [_sharding(leaf) for leaf in jax.tree.leaves((like, args))]
    mesh = next((own.mesh for own in shardings if own and AxisType.Explicit in own.mesh.axis_types), None)
    if mesh is None:
        return fn(*args)

    def place(leaf: Any) -> NamedSharding:
        own = _sharding(leaf)
        return NamedSharding(mesh, own.spec if own else PartitionSpec())

    out = NamedSharding(mesh, PartitionSpec()) if like is None else jax.tree.map(place, like)
    placed = auto_axes(fn, axes=mesh.explicit_axes, out_sharding=out)
    # Compiled with an argument on the mesh: outside of jit what is on one device (a count of steps) does not get there.
    return jax.jit(lambda _, *args: placed(*args), keep_unused=True)(like, *args)


def _sharding(leaf: Any) -> Any:
    """How an array lies on a mesh; None of what lies on none, as arrays of NumPy and shapes."""
    own = getattr(getattr(leaf, "aval", None), "sharding", None)
    return own if own and own.mesh.axis_names else None

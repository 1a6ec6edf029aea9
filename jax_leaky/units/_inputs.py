"""What the counters accept, and the one sentence for what they do not."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jax_leaky.units import _wide
from jax_leaky.units._wide import Wide


def floating(name: str, value: Any) -> Array:
    """The argument as a real floating-point array, cut from the gradient."""
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r} is not an array: give real floating-point values.") from None
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} has the dtype {array.dtype}: give real floating-point values, such as float32.")
    return lax.stop_gradient(array)


def like_z(name: str, value: ArrayLike, z: Array) -> Array:
    """The argument as a floating array of z's shape."""
    array = floating(name, value)
    if array.shape != z.shape:
        raise ValueError(f"{name} has the shape {array.shape}, but z has {z.shape}: give one value for each of z's.")
    return array


def kept(where: ArrayLike | None, z: Array) -> Array:
    """Which samples are counted, of z's shape without the units."""
    samples = z.shape[:-1]
    if where is None:
        return jnp.ones(samples, bool)
    where = jnp.asarray(where)
    if where.dtype != jnp.bool_:
        raise TypeError(f"where has the dtype {where.dtype}: give bool, False for padding.")
    try:
        return jnp.broadcast_to(where, samples)
    except ValueError:
        raise ValueError(
            f"where has the shape {where.shape}, which does not broadcast to {samples}, z's shape {z.shape} without "
            "its units: add axes of length 1 at the right."
        ) from None


def slope_of(negative_slope: ArrayLike, units: int, dtype: Any) -> Array:
    """The slope as an array () or (units,) of a floating dtype, cut from the gradient."""
    slope = jnp.asarray(negative_slope)
    if not (jnp.issubdtype(slope.dtype, jnp.floating) or jnp.issubdtype(slope.dtype, jnp.integer)):
        raise TypeError(f"negative_slope has the dtype {slope.dtype}: give a real number.")
    if slope.shape not in ((), (1,), (units,)):
        raise ValueError(
            f"negative_slope has the shape {slope.shape}, but there are {units} units: give a number or ({units},)."
        )
    return lax.stop_gradient(slope.astype(dtype))


def position(start: Any) -> Wide:
    """The scalar `start` of init as a Wide."""
    if isinstance(start, Wide):
        array: Any = start.low
    elif isinstance(start, (jax.Array, np.ndarray, np.generic)):
        array = start
    elif isinstance(start, int) and not isinstance(start, bool):
        array = np.uint32(0)
        if not 0 <= start < 2**64:
            raise ValueError(f"start={start} is not a position: give an integer from 0 to 2**64 - 1.")
    else:
        raise TypeError(f"start={start!r} is not an integer: give the position of the first sample.")
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"start has the dtype {array.dtype}: give an integer, the position of the first sample.")
    if array.shape != ():
        raise ValueError(f"start has the shape {array.shape}: give one position, or use jax.vmap(units.init).")
    return _wide.wide(start)

"""What the counters accept, and the one sentence for what they do not."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jax_leaky.units._fields import UnitCounts
from jax_leaky.units._wide import Wide, wide


def check_counts(name: str, counts: Any) -> None:
    """Refuses what are no counts.

    Raises:
        TypeError: they are none.
    """
    if not isinstance(counts, UnitCounts):
        raise TypeError(
            f"{name} is of type {type(counts).__name__}: give the UnitCounts of units.init or units.update."
        )


def floating(name: str, value: Any) -> Array:
    """The argument as a real floating-point array, cut from the gradient."""
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r} is not an array: give real floating-point values.") from None
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{name} has the dtype {array.dtype}: give real floating-point values, such as float32."
        )
    return lax.stop_gradient(array)


def like_z(name: str, value: ArrayLike, z: Array) -> Array:
    """The argument as a floating array of z's shape."""
    array = floating(name, value)
    if array.shape != z.shape:
        raise ValueError(
            f"{name} has the shape {array.shape}, but z has {z.shape}: give one value for each of z's."
        )
    return array


def unit_axes(unit_axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes of z that hold its units, counted from the front.

    Raises:
        TypeError: `unit_axis` is neither an integer nor integers.
        ValueError: one is no axis of z, or stands twice.
    """
    given = tuple(unit_axis) if isinstance(unit_axis, tuple | list) else (unit_axis,)
    try:
        numbers = tuple(map(operator.index, given))
    except TypeError:
        raise TypeError("is no integer, nor several") from None
    axes = tuple(axis % ndim for axis in numbers if -ndim <= axis < ndim)
    if not axes or len(set(axes)) < len(given):
        raise ValueError("is no axis" if len(given) == 1 else "are no different axes")
    return axes


def units_last(x: Array, axes: Sequence[int]) -> Array:
    """An array (..., units) whose units are the indices of some axes, in C order, the other axes being samples."""
    if tuple(axes) == (x.ndim - 1,):
        return x
    moved = jnp.moveaxis(x, tuple(axes), tuple(range(-len(axes), 0)))
    samples = moved.shape[: x.ndim - len(axes)]
    return moved.reshape(*samples, math.prod(x.shape[axis] for axis in axes))


def kept(where: ArrayLike, z: Array) -> Array:
    """Which samples are counted, of z's shape without the units."""
    samples = z.shape[:-1]
    where = jnp.asarray(where)
    if where.dtype != jnp.bool_:
        raise TypeError(f"where has the dtype {where.dtype}: give bool, False for padding.")
    try:
        return jnp.broadcast_to(where, samples)
    except ValueError:
        raise ValueError(
            f"where has the shape {where.shape}, which does not broadcast to {samples}, the shape of z "
            f"{z.shape} without its units: add axes of length 1 at the right."
        ) from None


def slope_of(negative_slope: ArrayLike, unit_shape: tuple[int, ...]) -> Array:
    """The slope as an array (units,) of float32, cut from the gradient."""
    units = math.prod(unit_shape)
    slope = jnp.asarray(negative_slope)
    if not (jnp.issubdtype(slope.dtype, jnp.floating) or jnp.issubdtype(slope.dtype, jnp.integer)):
        raise TypeError(f"negative_slope has the dtype {slope.dtype}: give a real number.")
    if slope.shape == unit_shape:
        slope = slope.reshape(units)
    if slope.shape not in ((), (1,), (units,)):
        raise ValueError(
            f"negative_slope has the shape {slope.shape}, but there are {units} units: "
            f"give a number or ({units},)."
        )
    return lax.stop_gradient(jnp.broadcast_to(slope.astype(jnp.float32), (units,)))


def position(start: Any) -> Wide:
    """The scalar `start` of init as a Wide."""
    if isinstance(start, Wide):
        if start.low.shape != ():
            raise ValueError(f"start has the shape {start.low.shape}: give one position.")
        return start
    try:
        array = jnp.asarray(start) if isinstance(start, jax.core.Tracer) else np.asarray(start)
        integer = jnp.issubdtype(array.dtype, jnp.integer) and array.shape == ()
    except (TypeError, ValueError, OverflowError):
        integer = False
    # A Python int of 2^63 or more becomes a NumPy array of uint64, one of 2^64 or more an array of objects.
    if not integer and type(start) is not int:
        raise TypeError(f"start={start!r} is not an integer: give the position of the first sample.")
    return wide(start if isinstance(start, jax.core.Tracer) else int(start))

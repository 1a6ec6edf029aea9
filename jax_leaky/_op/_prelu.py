"""One slope for each channel, which the Linen and the NNX module of PReLU share."""

import jax.numpy as jnp
from jax import Array


def check_channels(num_features: int | None, axis: int, inputs: Array) -> None:
    """Raise a ValueError unless ``num_features`` is None, 1 or the size of that ``axis`` of ``inputs``."""
    shape = jnp.shape(inputs)
    if num_features in (None, 1):
        return
    if not -len(shape) <= axis < len(shape):
        raise ValueError(
            f"axis must be an axis of the inputs, got axis={axis} for shape {shape}; name the axis of the channels."
        )
    if isinstance(shape[axis], int) and shape[axis] != num_features:
        raise ValueError(
            f"num_features must be the size of axis {axis} of the inputs, got num_features={num_features} for shape "
            f"{shape}; set num_features={shape[axis]}, or axis to the axis of the channels."
        )


def along(axis: int, slope: Array, inputs: Array) -> Array:
    """``slope`` (num_features,), or () as it is, in a shape that broadcasts along that ``axis`` of ``inputs``."""
    last = jnp.ndim(inputs) - 1
    if slope.size == 1 or axis in (-1, last):
        return slope
    return slope.reshape(-1, *[1] * (last - axis % (last + 1)))

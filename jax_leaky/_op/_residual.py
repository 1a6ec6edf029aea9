"""What a leaky ReLU keeps for its backward pass: which elements were above zero, in one of three forms."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

Residual = Literal["bits", "mask", "output"]


def keep_sign(value: Array, residual: Residual) -> Array:
    """What to keep of ``value``, an array that is above zero exactly where x is.

    Always decided by ``> 0``, never by ``>= 0``: at slope 0, and where a product underflows, an element that was
    below zero has become 0.
    """
    if residual == "output":
        return value
    axis = _packing_axis(value)
    if residual == "mask" or axis is None:
        return value > 0
    return _pack(value > 0, axis)


def was_positive(kept: Array, like: Array, residual: Residual) -> Array:
    """A bool array, True where x > 0, of the shape and sharding of ``like``: those of what ``keep_sign`` was given.

    How the bits lie is read from ``kept``, not decided again: the backward pass may run under another mesh.
    """
    if residual == "output":
        return kept > 0
    if kept.dtype == jnp.bool_:
        return kept
    eighths = [axis for axis, size in enumerate(kept.shape) if size != like.shape[axis]]
    # Of an axis of size 1 or 0 there are as many eighths as elements; any such axis is unpacked alike.
    eighths += [axis for axis, size in enumerate(like.shape) if isinstance(size, int) and size < 2]
    return _unpack(kept, like.shape, eighths[0])


# jnp.packbits packs as well, but goes through a transposition and a sum of 32-bit numbers. A shift and a sum of bytes
# along the axis itself need less memory on the CPU and fewer cycles on a TPU, which
# `python -m experiments.benchmark residuals` measures.


def _pack(positive: Array, axis: int) -> Array:
    """(..., n, ...) bool -> (..., ceil(n / 8), ...) uint8, along ``axis``."""
    shape = positive.shape
    padding = [(0, -size % 8 if place == axis else 0) for place, size in enumerate(shape)]
    octets = jnp.pad(positive, padding).reshape(*shape[:axis], -(-shape[axis] // 8), 8, *shape[axis + 1 :])
    shifted = octets.astype(jnp.uint8) << _places(octets.ndim, axis + 1)
    return jnp.sum(shifted, axis=axis + 1, dtype=jnp.uint8)  # an or that XLA also knows across devices


def _unpack(packed: Array, shape: tuple[int, ...], axis: int) -> Array:
    """The inverse: (..., ceil(n / 8), ...) uint8 -> the bool array of ``shape``."""
    octets = jnp.expand_dims(packed, axis + 1) & (jnp.uint8(1) << _places(len(shape) + 1, axis + 1))
    padded = (octets != 0).reshape(*shape[:axis], 8 * packed.shape[axis], *shape[axis + 1 :])
    return lax.slice_in_dim(padded, 0, shape[axis], axis=axis)


def _places(rank: int, axis: int) -> Array:
    """0 to 7 along ``axis``, the places of eight elements in their byte.

    Of size 1 along the others: XLA lifts it out of a loop, and at full size it would lie in memory beside the bits.
    """
    return lax.broadcasted_iota(jnp.uint8, [8 if place == axis else 1 for place in range(rank)], axis)


def _packing_axis(value: Array) -> int | None:
    """The axis along which eight elements share a byte; None if there is none.

    Of images, or whatever has four axes or more, the first: a TPU lays a convolution out with the batch next to the
    channels, and cannot take bits apart along the width inside of it. Of all else that one of the last two which
    wastes fewer bits, on a tie the last but one: there the eight elements of a byte lie in eight rows, and packing is
    arithmetic on whole vector registers; along the last axis it moves data between their lanes.

    The first axis may be a batch that lies on several devices, unless it is the only one. It is packed only where
    each of 8 devices, or of all there are if there are more, gets whole bytes, so that none is exchanged. An axis of
    unknown size (a symbolic dimension) or one that is sharded explicitly is not packed.
    """
    sharding, last = jax.typeof(value).sharding, value.ndim - 1
    whole_bytes = 8 * max(8, jax.device_count(), sharding.mesh.size)

    def can_be_packed(axis: int) -> bool:
        if not isinstance(value.shape[axis], int) or (
            axis < len(sharding.spec) and sharding.spec[axis] is not None
        ):
            return False
        return axis > 0 or axis == last or value.shape[axis] % whole_bytes == 0

    if value.ndim > 3 and can_be_packed(0):
        return 0
    axes = filter(can_be_packed, range(max(last - 1, 0), last + 1))
    return min(axes, key=lambda axis: -value.shape[axis] % 8 / max(value.shape[axis], 1), default=None)

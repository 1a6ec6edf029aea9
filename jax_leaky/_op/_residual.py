"""What a leaky ReLU keeps for its backward pass: which elements were above zero, in one of three forms.

Each form is an object with two methods. ``keep(value)`` is what to keep of ``value``, an array that is above zero
exactly where x is. ``positive(kept, like)`` is the bool array that tells where, of the shape and sharding of ``like``,
which are those of ``value``. Both decide by ``> 0``, never by ``>= 0``: at slope 0, and where a product underflows, an
element that was below zero has become 0.
"""

from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import NamedSharding, PartitionSpec

Residual = Literal["bits", "mask", "output"]
RESIDUAL_NAME = "leaky_relu_residual"


class Form(Protocol):
    """What the derivative rules ask of a form."""

    def keep(self, value: Array) -> Array:
        """What the backward pass keeps of ``value`` (any shape)."""

    def positive(self, kept: Array, like: Array) -> Array:
        """Where ``value`` was above zero: a bool array of the shape of ``like``."""


class Bits:
    """One bit per element; one byte where no axis can be packed."""

    def keep(self, value: Array) -> Array:
        """(..., n, ...) -> (..., ceil(n / 8), ...) uint8, or (..., n, ...) bool."""
        axis = _packing_axis(value)
        positive = value > 0
        return checkpoint_name(positive if axis is None else _pack(positive, axis), RESIDUAL_NAME)

    def positive(self, kept: Array, like: Array) -> Array:
        """How the bits lie is read from ``kept``, not decided again: the backward pass may run under another mesh."""
        if kept.dtype == jnp.bool_:
            return kept
        eighths = [axis for axis, size in enumerate(kept.shape) if size != like.shape[axis]]
        # An axis of size 1 or 0 has as many eighths as elements: each byte is one element.
        return _unpack(kept, like.shape, eighths[0]) if eighths else kept != 0


class Mask:
    """One byte per element."""

    def keep(self, value: Array) -> Array:
        """The mask, of the shape of ``value``."""
        return checkpoint_name(value > 0, RESIDUAL_NAME)

    def positive(self, kept: Array, like: Array) -> Array:  # noqa: ARG002  the form, not each class, names arguments
        """The mask itself."""
        return kept


class Output:
    """The result itself, whose sign is that of x under a number, not below 0, as slope."""

    def keep(self, value: Array) -> Array:
        """``value``, without a second name, by which y would be two arrays outside of a jit."""
        return value

    def positive(self, kept: Array, like: Array) -> Array:  # noqa: ARG002  likewise
        """Where the result is above zero."""
        return kept > 0


BITS = Bits()
FORMS: dict[Residual, Form] = {"bits": BITS, "mask": Mask(), "output": Output()}


# jnp.packbits packs as well, but goes through a transposition and a sum of 32-bit numbers. A shift and a sum of bytes
# along the axis itself need less memory on the CPU and fewer cycles on a TPU, which
# `python -m experiments.benchmark residuals` measures.


def _pack(positive: Array, axis: int) -> Array:
    """(..., n, ...) bool -> (..., ceil(n / 8), ...) uint8, along ``axis``."""
    shape = positive.shape
    padding = [(0, -size % 8 if place == axis else 0) for place, size in enumerate(shape)]
    split = (*shape[:axis], -(-shape[axis] // 8), 8, *shape[axis + 1 :])
    octets = _reshape(jnp.pad(positive, padding), split, slice(axis, axis + 1), 2)
    shifted = octets.astype(jnp.uint8) << _places(octets.ndim, axis + 1)
    return jnp.sum(shifted, axis=axis + 1, dtype=jnp.uint8)  # an or that XLA also knows across devices


def _unpack(packed: Array, shape: tuple[int, ...], axis: int) -> Array:
    """The inverse: (..., ceil(n / 8), ...) uint8 -> the bool array of ``shape``."""
    octets = jnp.expand_dims(packed, axis + 1) & (jnp.uint8(1) << _places(len(shape) + 1, axis + 1))
    joined = (*shape[:axis], 8 * packed.shape[axis], *shape[axis + 1 :])
    padded = _reshape(octets != 0, joined, slice(axis, axis + 2), 1)
    return lax.slice_in_dim(padded, 0, shape[axis], axis=axis)


def _reshape(array: Array, shape: tuple[int, ...], axes: slice, count: int) -> Array:
    """``array`` in ``shape``, where its ``axes``, none of which is sharded, have become ``count`` axes."""
    spec = explicit_axes(array)
    if not any(spec):
        return array.reshape(shape)
    # Left to itself, a reshape forgets that an axis of size 1 is sharded explicitly.
    spec[axes] = [None] * count
    sharding = NamedSharding(jax.typeof(array).sharding.mesh, PartitionSpec(*spec))
    return lax.reshape(array, shape, out_sharding=sharding)


def explicit_axes(array: Array) -> list[Any]:
    """The axes of the mesh over which each axis of ``array`` is sharded explicitly; None for an axis that is not."""
    spec = jax.typeof(array).sharding.spec
    return [*spec, *[None] * (array.ndim - len(spec))]


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
    spec, last = explicit_axes(value), value.ndim - 1
    # Under automatic sharding the type of an array knows no mesh: there may be as many devices as the process has.
    whole_bytes = 8 * max(8, jax.device_count(), jax.typeof(value).sharding.mesh.size)

    def can_be_packed(axis: int) -> bool:
        if not isinstance(value.shape[axis], int) or spec[axis] is not None:
            return False
        return axis > 0 or axis == last or value.shape[axis] % whole_bytes == 0

    if value.ndim > 3 and can_be_packed(0):
        return 0
    axes = filter(can_be_packed, range(max(last - 1, 0), last + 1))
    return min(axes, key=lambda axis: -value.shape[axis] % 8 / max(value.shape[axis], 1), default=None)

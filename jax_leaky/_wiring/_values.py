"""What is known of one value of the program, and how operations that only move elements about move it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_leaky._wiring._sets import EMPTY, EVERYTHING, Labels, compressed


@dataclasses.dataclass(frozen=True)
class Value:
    """What is known of a value.

    Attributes:
        direct: (of the value's shape) for each element the set of parameter entries and units that it comes from, each
            by a path of its own.
        mixed: (of the value's shape) for each element the set of entries and units that reach it through a mixture (a
            mean over units, a softmax).
        zero: (of the value's shape) for each element the set of entries and units that make it 0 by being 0, each
            alone; everything where it is 0 anyhow. Of a value that depends on data, units alone.
        data: whether the value depends on an argument that is no parameter, or on a unit.
        known: the value itself where the program holds it, else None.
        plain: whether each element is a parameter's entry as it stands, or a sum of such entries times data and of
            such entries alone.
    """

    direct: Labels
    mixed: Labels
    zero: Labels
    data: bool
    known: Any = None
    plain: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self.direct.shape

    @property
    def is_labelled(self) -> bool:
        """Whether any element comes from a parameter or a unit."""
        return bool(compressed(self.direct).any() or compressed(self.mixed).any())

    @property
    def is_weight(self) -> bool:
        """Whether it comes from parameters alone."""
        return not self.data and self.is_labelled

    @property
    def is_plain(self) -> bool:
        """Whether it is a plain sum of entries and of entries times data, or of neither."""
        return self.plain or not self.is_labelled

    @property
    def is_nothing(self) -> bool:
        """Whether every element is 0."""
        return bool((compressed(self.zero) == EVERYTHING).all())

    def moved(self, move: Callable[[Any], Any]) -> Value:
        """The value after a movement of its elements."""
        known = None if self.known is None else move(self.known)
        return Value(move(self.direct), move(self.mixed), move(self.zero), self.data, known, self.plain)

    def at(self, axis: int, places: Any) -> Value:
        """The value at a place, or some places, along an axis."""
        return self.moved(lambda part: part[(slice(None),) * axis + (places,)])


def full(number: int, shape: Sequence[int]) -> Labels:
    """An array of one set, which takes no memory."""
    return np.broadcast_to(np.int32(number), tuple(shape))


def value(direct: Labels, mixed: Labels, zero: Labels, data: bool) -> Value:
    """A value; what is 0 anyhow comes from nothing."""
    if (compressed(zero) == EVERYTHING).any():
        direct = np.where(zero == EVERYTHING, np.int32(EMPTY), direct)
        mixed = np.where(zero == EVERYTHING, np.int32(EMPTY), mixed)
    return Value(direct, mixed, zero, data)


def unlabelled(shape: Sequence[int], data: bool) -> Value:
    """A value that comes from no parameter and no unit."""
    none = full(EMPTY, shape)
    return Value(none, none, none, data)


def constant(number: Any, *, closed_over: bool = False) -> Value:
    """A value that the program holds.

    Args:
        number: value, an array or a number.
        closed_over: whether the value is an array that the function was given rather than made. It may be a batch, and
            a 0 in that says nothing of the program.
    """
    if jnp.issubdtype(getattr(number, "dtype", np.float32), jax.dtypes.extended):
        return unlabelled(number.shape, data=False)
    number = np.asarray(number)
    if closed_over and jnp.issubdtype(number.dtype, jnp.floating):
        return dataclasses.replace(unlabelled(number.shape, data=False), known=number)
    none = full(EMPTY, number.shape)
    return Value(none, none, np.where(number == 0, np.int32(EVERYTHING), np.int32(EMPTY)), False, number)


def _reshape(eqn: Any, operand: Any) -> Any:
    # Where `vmap` meets a convolution it has a reshape transpose the image first. A squeeze has other dimensions.
    if eqn.primitive.name == "reshape" and eqn.params["dimensions"] is not None:
        operand = operand.transpose(eqn.params["dimensions"])
    return operand.reshape(eqn.outvars[0].aval.shape)


def _transpose(eqn: Any, operand: Any) -> Any:
    return operand.transpose(eqn.params["permutation"])


def _broadcast(eqn: Any, operand: Any) -> Any:
    shape, axes = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    lengths = [1] * len(shape)
    for axis, length in zip(axes, operand.shape, strict=True):
        lengths[axis] = length
    # Reshaping what is repeated would copy it.
    small = compressed(operand)
    ones = [1] * len(shape)
    for axis, length in zip(axes, small.shape, strict=True):
        ones[axis] = length
    return np.broadcast_to(small.reshape(ones), shape)


def _slice(eqn: Any, operand: Any) -> Any:
    limits = zip(eqn.params["start_indices"], eqn.params["limit_indices"], strict=True)
    steps = eqn.params["strides"] or [1] * operand.ndim
    return operand[tuple(slice(*limit, step) for limit, step in zip(limits, steps, strict=True))]


def _reverse(eqn: Any, operand: Any) -> Any:
    return np.flip(operand, eqn.params["dimensions"])


def _concatenate(eqn: Any, *operands: Any) -> Any:
    return np.concatenate(operands, axis=eqn.params["dimension"])


def _pad(eqn: Any, operand: Any, padding: Any) -> Any:
    for axis, (low, high, between) in enumerate(eqn.params["padding_config"]):
        length = operand.shape[axis]
        spread = np.arange(length) * (between + 1) + low
        total = low + high + length + max(length - 1, 0) * between
        out = np.full((*operand.shape[:axis], total, *operand.shape[axis + 1 :]), padding, operand.dtype)
        inside = (spread >= 0) & (spread < total)
        out[(slice(None),) * axis + (spread[inside],)] = np.compress(inside, operand, axis)
        operand = out
    return operand


MOVEMENTS: dict[str, Callable[..., Any]] = {
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "slice": _slice,
    "rev": _reverse,
    "concatenate": _concatenate,
    "pad": _pad,
}
"""Primitives that put each element of their operands somewhere, unchanged."""


def movement(eqn: Any, operands: Sequence[Value]) -> Value:
    """The value after one of `MOVEMENTS`."""
    move = MOVEMENTS[eqn.primitive.name]
    parts = ("direct", "mixed", "zero")
    moved = [move(eqn, *(getattr(operand, part) for operand in operands)) for part in parts]
    known = None
    if all(operand.known is not None for operand in operands):
        known = move(eqn, *(operand.known for operand in operands))
    direct, mixed, zero = moved
    data, plain = any(operand.data for operand in operands), all(operand.is_plain for operand in operands)
    return Value(direct, mixed, zero, data, known, plain)

"""What is known of several values, or of several places of one, when they become one.

What keeps its place is joined. What does not is mixed: units that differ from place to place are told apart no more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jax_leaky._wiring._records import Records
from jax_leaky._wiring._sets import EMPTY, EVERYTHING, Labels, compressed, distinct
from jax_leaky._wiring._values import Value, full, value


class Mixing:
    """The ways of becoming one, with the records that they write.

    Attributes:
        records: notes of where paths end.
        sets: all sets of entries and units that have come up.

    Args:
        records: notes of where paths end.
    """

    def __init__(self, records: Records) -> None:
        self.records = records
        self.sets = records.sets

    def unknown(self, name: str, operands: Sequence[Value], shapes: Sequence[tuple[int, ...]]) -> list[Value]:
        """The results of an operation of which nothing is known."""
        labels = [part for operand in operands for part in (operand.direct, operand.mixed)]
        everything = self.sets.together(np.concatenate([distinct(part) for part in labels] or [[EMPTY]]))
        self.records.mix(np.array([everything]), name)
        self.meet(operands, always=True)
        data = any(operand.data for operand in operands) or bool(everything)
        return [Value(full(EMPTY, s), full(everything, s), full(EMPTY, s), data) for s in shapes]

    def mixed_in(self, result: Value, causes: Sequence[Value], name: str) -> Value:
        """A value whose choice, not its elements, depends on others (a branch taken, a number of steps)."""
        if not any(cause.is_labelled for cause in causes):
            return result
        (cause,) = self.unknown(name, causes, [result.shape])
        mixed = self.sets.union(result.mixed, cause.mixed)
        return Value(result.direct, mixed, full(EMPTY, result.shape), True)

    def join(self, one: Value, other: Value) -> Value:
        """What is known of a value that is one or the other."""
        known = None
        if one.known is not None and other.known is not None and np.array_equal(one.known, other.known):
            known = one.known
        joined = value(
            self.sets.union(one.direct, other.direct),
            self.sets.union(one.mixed, other.mixed),
            self.sets.intersection(one.zero, other.zero),
            one.data or other.data,
        )
        return Value(joined.direct, joined.mixed, joined.zero, joined.data, known)

    def first_axis(self, operand: Value) -> tuple[Value, bool]:
        """A value with all places of its first axis as one, and whether their labels were alike."""
        uniform = all(
            bool(compressed(self.sets.is_uniform(part, (0,))).all())
            for part in (operand.direct, operand.mixed)
        )
        return (
            value(
                self.sets.union_over(operand.direct, (0,)),
                self.sets.union_over(operand.mixed, (0,)),
                self.sets.intersection_over(operand.zero, (0,)),
                operand.data,
            ),
            uniform,
        )

    def meet(self, operands: Sequence[Value], always: bool = False) -> None:
        """Notes that weights have met data, or anything else of which no unit is a factor."""
        for operand in operands:
            if operand.is_weight and (always or any(other.data for other in operands)):
                self.records.meet(operand.direct, operand.mixed, full(EMPTY, operand.shape))

    def of_data(self, operand: Value) -> Labels:
        """What makes a value 0, entries apart."""
        return operand.zero if operand.data else _only_everything(operand.zero)

    def collapsed(self, operand: Value, axes: Sequence[int], name: str) -> tuple[Labels, Labels]:
        """The direct and the mixed labels when places along axes are put together."""
        direct = self.sets.union_over(operand.direct, axes)
        mixed = self.sets.union_over(operand.mixed, axes)
        uniform = self.sets.is_uniform(operand.direct, axes)
        if not uniform.all():
            differing = np.where(uniform, np.int32(EMPTY), direct)
            self.records.mix(differing, name)
            mixed = self.sets.union(mixed, differing)
            direct = np.where(uniform, direct, np.int32(EMPTY))
        return direct, mixed

    def reduced(self, operand: Value, axes: Sequence[int], name: str, vanishes: bool = True) -> Value:
        """A value with the places along axes put together; `vanishes` tells whether 0 everywhere gives 0."""
        direct, mixed = self.collapsed(operand, axes, name)
        zero = self.sets.intersection_over(operand.zero, axes) if vanishes else full(EMPTY, direct.shape)
        return value(direct, mixed, zero, operand.data)

    def along(self, operand: Value, axis: int, name: str, length: int | None = None) -> Value:
        """Each place along an axis depends on all of them, and there may be another number of places."""
        reduced = self.reduced(operand, (axis,), name, vanishes=name != "cumlogsumexp")
        length = operand.shape[axis] if length is None else length
        shape = (*operand.shape[:axis], length, *operand.shape[axis + 1 :])
        return reduced.moved(lambda part: np.broadcast_to(np.expand_dims(part, axis), shape))


def _only_everything(zero: Labels) -> Labels:
    return np.where(zero == EVERYTHING, zero, np.int32(EMPTY))

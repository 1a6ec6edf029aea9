"""Sets of numbered things, each set kept once and written as one number, so that an array holds a set per element.

A network's values hold few different sets: all positions of a channel depend on the same kernel column. So an array
of the value's shape holds the numbers of sets, data movement moves these numbers, and a union of two arrays costs a
Python step per different pair rather than per element. Set 0 is empty, set 1 holds everything, set `i + 2` is {i}.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Labels = np.ndarray[Any, Any]
"""int32, a set in each place."""

EMPTY = 0
EVERYTHING = 1
_FIRST = 2


class Sets:
    """All sets over the numbers below `count` that have come up.

    Args:
        count: number of things that sets are made of.
    """

    def __init__(self, count: int) -> None:
        self._composite = _FIRST + count
        self._members: list[Any] = []
        self._numbers: dict[bytes, int] = {}
        self._memory: dict[tuple[str, int, int], int] = {}

    def singles(self, things: Any) -> Labels:
        """The sets that hold one thing each."""
        return (np.asarray(things) + _FIRST).astype(np.int32)

    def is_single(self, labels: Labels) -> Any:
        """Whether each set has one member."""
        return (labels >= _FIRST) & (labels < self._composite)

    def thing(self, labels: Labels) -> Any:
        """The only member of each set with one member."""
        return labels - _FIRST

    def members(self, number: int) -> Any:
        """The members of a set, ascending; none of the set of everything."""
        if number < _FIRST:
            return np.zeros(0, np.int32)
        if number < self._composite:
            return np.array([number - _FIRST], np.int32)
        return self._members[number - self._composite]

    def number(self, members: Any) -> int:
        """The set with these members."""
        members = distinct(np.asarray(members, np.int32))
        if len(members) == 0:
            return EMPTY
        if len(members) == 1:
            return int(members[0]) + _FIRST
        key = members.tobytes()
        if key not in self._numbers:
            self._numbers[key] = self._composite + len(self._members)
            self._members.append(members)
        return self._numbers[key]

    def together(self, numbers: Any) -> int:
        """The union of all of some sets."""
        numbers = distinct(numbers)
        if EVERYTHING in numbers:
            return EVERYTHING
        single = self.is_single(numbers)
        parts = [self.thing(numbers[single]), *map(self.members, numbers[~single].tolist())]
        return self.number(np.concatenate(parts)) if len(numbers) != 1 else int(numbers[0])

    def common(self, numbers: Any) -> int:
        """The intersection of all of some sets."""
        numbers = distinct(numbers)
        numbers = numbers[numbers != EVERYTHING]
        if len(numbers) == 0:
            return EVERYTHING
        left = set(self.members(int(numbers[0])).tolist())
        for number in numbers[1:].tolist():
            left &= set(self.members(number).tolist())
            if not left:
                break
        return self.number(sorted(left))

    def any_of(self, labels: Labels, first: int, count: int) -> Any:
        """Whether each set holds any of the things from `first` on."""
        numbers, inverse = np.unique(labels, return_inverse=True)
        members = map(self.members, numbers.tolist())
        held = [bool(((part >= first) & (part < first + count)).any()) for part in members]
        return np.array(held, bool)[inverse.reshape(labels.shape)]

    def union(self, a: Labels, b: Labels) -> Labels:
        """The union, element by element."""
        return self._pairwise("union", a, b, self._union)

    def intersection(self, a: Labels, b: Labels) -> Labels:
        """The intersection, element by element."""
        return self._pairwise("intersection", a, b, self._intersection)

    def union_over(self, labels: Labels, axes: Sequence[int]) -> Labels:
        """The union along axes, which are gone afterwards."""
        return self._over(labels, axes, self.together, EMPTY)

    def intersection_over(self, labels: Labels, axes: Sequence[int]) -> Labels:
        """The intersection along axes, which are gone afterwards."""
        return self._over(labels, axes, self.common, EVERYTHING)

    def is_uniform(self, labels: Labels, axes: Sequence[int]) -> Any:
        """Whether all sets along axes that are not empty are the same."""
        rows, small, shape = _rows(labels, axes)
        if rows.size == 0:
            return np.ones(shape, bool)
        most = rows.max(axis=1, keepdims=True)
        return np.broadcast_to(((rows == most) | (rows == EMPTY)).all(axis=1).reshape(small), shape)

    def _pairwise(
        self, name: str, a: Labels, b: Labels, settled: Callable[[Labels, Labels], Labels]
    ) -> Labels:
        shape = np.broadcast_shapes(a.shape, b.shape)
        small_a, small_b = np.broadcast_arrays(compressed(a), compressed(b))
        if small_a.size == 0 or np.array_equal(small_a, small_b):
            return np.broadcast_to(small_a, shape)
        result = settled(small_a, small_b)
        left = np.flatnonzero(result < 0)
        if len(left):
            pairs = small_a.ravel()[left].astype(np.int64) << 32 | small_b.ravel()[left]
            codes, inverse = np.unique(pairs, return_inverse=True)
            result.reshape(-1)[left] = self._each(name, codes >> 32, codes & 0xFFFFFFFF)[inverse.reshape(-1)]
        return np.broadcast_to(result, shape)

    def _union(self, a: Labels, b: Labels) -> Labels:
        result = np.where(b == EMPTY, a, np.where(a == EMPTY, b, np.int32(-1)))
        result = np.where(a == b, a, result)
        return np.where((a == EVERYTHING) | (b == EVERYTHING), np.int32(EVERYTHING), result)

    def _intersection(self, a: Labels, b: Labels) -> Labels:
        result = np.where(self.is_single(a) & self.is_single(b), np.int32(EMPTY), np.int32(-1))
        result = np.where((a == EMPTY) | (b == EMPTY), np.int32(EMPTY), result)
        result = np.where((b == EVERYTHING) | (a == b), a, result)
        return np.where(a == EVERYTHING, b, result)

    def _each(self, name: str, a: Any, b: Any) -> Any:
        """Pairs of different sets, at least one of each with several members, or two to be united."""
        is_union = name == "union"
        result = np.full(a.shape, -1, np.int32)
        # A set with one member and a larger one that holds it are settled many at a time.
        for one, other in ((a, b), (b, a)):
            single = self.is_single(one) & (other >= self._composite)
            for many in np.unique(other[single]).tolist():
                here = np.flatnonzero(single & (other == many))
                # Members ascend; np.isin would sort them again.
                members, things = self.members(many), self.thing(one[here])
                nearest = np.minimum(np.searchsorted(members, things), len(members) - 1)
                held = here[members[nearest] == things]
                result[held] = many if is_union else one[held]
        for place in np.flatnonzero(result < 0).tolist():
            first, second = sorted((int(a[place]), int(b[place])))
            key = (name, first, second)
            if key not in self._memory:
                if is_union:
                    # Neither holds everything, so that their members are all there is to unite.
                    united = self.number(np.concatenate([self.members(first), self.members(second)]))
                    self._memory[key] = united
                else:
                    self._memory[key] = self.common(np.array([first, second]))
            result[place] = self._memory[key]
        return result

    def _over(self, labels: Labels, axes: Sequence[int], fold: Callable[[Any], int], nothing: int) -> Labels:
        rows, small, shape = _rows(labels, axes)
        if rows.size == 0:
            return np.full(shape, nothing, np.int32)
        result = rows[:, 0].copy()
        differing = np.flatnonzero((rows != rows[:, :1]).any(axis=1))
        if len(differing):
            rows = np.ascontiguousarray(rows[differing])
            as_bytes = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).reshape(-1)
            _, first, inverse = np.unique(as_bytes, return_index=True, return_inverse=True)
            result[differing] = np.array([fold(rows[row]) for row in first.tolist()], np.int32)[
                inverse.reshape(-1)
            ]
        return np.broadcast_to(result.reshape(small), shape)


def compressed(array: Any) -> Any:
    """An array without the repetitions that `broadcast_to` made: such axes have length 1."""
    return array[tuple(slice(0, 1) if step == 0 else slice(None) for step in array.strides)]


def distinct(labels: Any) -> Any:
    """The different numbers in an array, ascending."""
    small = compressed(np.asarray(labels)).ravel()
    if small.size and (small == small[0]).all():
        return small[:1]
    # Several times faster than np.unique, which hashes from NumPy 2.3 on.
    ordered = np.sort(small)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]]


def _rows(labels: Labels, axes: Sequence[int]) -> tuple[Labels, tuple[int, ...], tuple[int, ...]]:
    """An array as a table with a row per group; the shape of the rows, repetitions apart, and with them."""
    axes = sorted(axis % labels.ndim for axis in axes)
    kept = [axis for axis in range(labels.ndim) if axis not in axes]
    shape = tuple(labels.shape[axis] for axis in kept)
    moved = compressed(labels).transpose([*kept, *axes])
    small = moved.shape[: len(kept)]
    # An axis of repetitions adds no new member, so one of them stands for all; an empty axis stays empty.
    length = math.prod(moved.shape[len(kept) :]) if all(labels.shape[axis] for axis in axes) else 0
    rows = moved.reshape(math.prod(small), length) if length else np.zeros((math.prod(small), 0))
    return rows.astype(np.int32, copy=False), small, shape

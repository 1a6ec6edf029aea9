"""Sets of numbered things, each set kept once and written as one number, so that an array holds a set per element.

A network's values hold few different sets: all positions of a channel depend on the same kernel column. So an array
of the value's shape holds the numbers of sets, data movement moves these numbers, and a union of two arrays costs a
Python step per different pair rather than per element. Set 0 is empty, set 1 holds everything, set `i + 2` is {i}.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Labels = np.ndarray[Any, np.dtype[np.int32]]

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
        members = np.unique(np.asarray(members, np.int32))
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
        numbers = np.unique(numbers)
        if EVERYTHING in numbers:
            return EVERYTHING
        single = self.is_single(numbers)
        parts = [self.thing(numbers[single]), *map(self.members, numbers[~single].tolist())]
        return self.number(np.concatenate(parts)) if len(numbers) != 1 else int(numbers[0])

    def common(self, numbers: Any) -> int:
        """The intersection of all of some sets."""
        numbers = np.unique(numbers)
        numbers = numbers[numbers != EVERYTHING]
        if len(numbers) == 0:
            return EVERYTHING
        left = set(self.members(int(numbers[0])).tolist())
        for number in numbers[1:].tolist():
            left &= set(self.members(number).tolist())
            if not left:
                break
        return self.number(sorted(left))

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

    def _pairwise(self, name: str, a: Labels, b: Labels, pairs: Callable[[Any, Any], Any]) -> Labels:
        shape = np.broadcast_shapes(a.shape, b.shape)
        small_a, small_b = np.broadcast_arrays(compressed(a), compressed(b))
        if small_a.size == 0 or np.array_equal(small_a, small_b):
            return np.broadcast_to(small_a, shape)
        size = self._composite + len(self._members)
        codes, inverse = np.unique(small_a.astype(np.int64) * size + small_b, return_inverse=True)
        left, right = codes // size, codes % size
        result = pairs(left, right)
        for place in np.flatnonzero(result < 0).tolist():
            one, other = sorted((int(left[place]), int(right[place])))
            key = (name, one, other)
            if key not in self._memory:
                both = np.array([one, other])
                self._memory[key] = self.together(both) if name == "union" else self.common(both)
            result[place] = self._memory[key]
        return np.broadcast_to(result[inverse.reshape(small_a.shape)].astype(np.int32), shape)

    def _union(self, a: Any, b: Any) -> Any:
        result = np.full(a.shape, -1, np.int64)
        result[a == EMPTY] = b[a == EMPTY]
        result[(b == EMPTY) | (a == b)] = a[(b == EMPTY) | (a == b)]
        result[(a == EVERYTHING) | (b == EVERYTHING)] = EVERYTHING
        self._absorb(a, b, result, lambda single, many: many)
        self._absorb(b, a, result, lambda single, many: many)
        return result

    def _intersection(self, a: Any, b: Any) -> Any:
        result = np.full(a.shape, -1, np.int64)
        result[(a == EMPTY) | (b == EMPTY)] = EMPTY
        result[(a == EVERYTHING)] = b[a == EVERYTHING]
        result[(b == EVERYTHING) | (a == b)] = a[(b == EVERYTHING) | (a == b)]
        result[self.is_single(a) & self.is_single(b) & (a != b)] = EMPTY
        self._absorb(a, b, result, lambda single, many: single)
        self._absorb(b, a, result, lambda single, many: single)
        return result

    def _absorb(self, a: Any, b: Any, result: Any, choose: Callable[[Any, int], Any]) -> None:
        """Settles the pairs of a set with one member and a larger set that holds it, many at a time."""
        todo = (result < 0) & self.is_single(a) & (b >= self._composite)
        for many in np.unique(b[todo]).tolist():
            here = np.flatnonzero(todo & (b == many))
            held = here[np.isin(self.thing(a[here]), self.members(many))]
            result[held] = choose(a[held], many)

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

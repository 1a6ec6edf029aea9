"""What is noted while the program is walked through: where parameter entries and units end up.

A path ends at the activation that it feeds, at the weights that read it, or at an output of the function. Entries and
units are numbered together: the entries of all parameters in order, then the units, then one number for "elsewhere".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jax_leaky._wiring._sets import EMPTY, EVERYTHING, Labels, Sets, compressed, distinct
from jax_leaky._wiring._values import Value, full


class Records:
    """Where parameter entries and units end up.

    Attributes:
        sets: all sets of entries and units that have come up.
        entries: number of parameter entries.
        elsewhere: number that stands for what is neither an entry nor a unit.
        feeds: (things,) for each entry the set of units whose z it is a direct part of.
        after: (things,) for each entry the set of units whose output it scales before weights read it.
        touches: (things,) for each entry the set of all units that it influences before weights read them, and
            "elsewhere".
        read_by: (things,) for each entry the set of units that it multiplies on their way into the next sum.
        safe: (things,) for each entry the set of units each of which is a factor of all that the entry multiplies.
        offsets: (things,) for each entry the set of entries that are added, as they stand, to the sum of its products.
        grouped: (things,) for each entry whether a grouped convolution or a batched product reads through it.
        together: sets of two or more units that are multiplied by each other.
        times: number of times that the part of the program at hand is run.
        trouble: reason why the effect of a unit cannot be told from others', by the unit's number.

    Args:
        names: names of the parameters, in order.
        sizes: number of entries of each parameter.
        most_units: upper bound of the number of units of all sites together.
    """

    def __init__(self, names: Sequence[str], sizes: Sequence[int], most_units: int) -> None:
        self.entries = sum(sizes)
        self.elsewhere = self.entries + most_units
        count = self.elsewhere + 1
        self.sets = Sets(count)
        self.feeds, self.after, self.touches, self.read_by, self.offsets = (
            np.zeros(count, np.int32) for _ in range(5)
        )
        self.safe = np.full(count, EVERYTHING, np.int32)
        self.grouped = np.zeros(count, bool)
        self.together: set[int] = set()
        self.times = 1
        self.trouble: dict[int, str] = {}
        self._silences: list[tuple[Any, Any]] = []
        self._products: list[tuple[Any, int]] = []
        self._names = list(names)
        self._ends = np.cumsum(sizes)

    def name(self, entry: int) -> str:
        """The name of the parameter that holds an entry."""
        return self._names[int(np.searchsorted(self._ends, entry, side="right"))]

    def mix(self, labels: Any, by: str) -> None:
        """Units have been mixed by an operation."""
        for unit in self._units_in(labels):
            self.trouble.setdefault(unit, f"{by} mixes its units before weights read them")

    def arrive(self, direct: Labels, mixed: Labels, units: Labels, site: str) -> None:
        """Values have reached the input of a site."""
        self._unite(self.feeds, direct, units)
        self._unite(self.touches, direct, units)
        self._unite(self.touches, mixed, units)
        for unit in self._units_in(direct):
            self.trouble.setdefault(unit, f"its output reaches {site} with no weights between")

    def leave(self, value: Value, reader: str) -> None:
        """Values have reached weights that read them (`reader` names them), or, if "", an output of the function."""
        elsewhere = self.sets.singles(self.elsewhere)
        touched = np.where(value.zero == EMPTY, elsewhere, value.zero)
        things, zero = self._expanded(*self._pairs(value.direct, value.zero))
        scaling = zero != EMPTY
        self._update(self.after, things[scaling], zero[scaling], self.sets.union)
        for labels in (value.direct, value.mixed):
            self._unite(self.touches, labels, touched)
        of_units = things >= self.entries
        units, zero = things[of_units], zero[of_units]
        alone = self.sets.intersection(self.sets.singles(units), zero) != EMPTY
        for unit, is_alone in zip(units.tolist(), alone.tolist(), strict=True):
            if not reader:
                self.trouble.setdefault(
                    unit, "its output reaches the function's output with no weights between"
                )
            elif not is_alone:
                why = f"{reader} reads it summed with something else (a residual sum, or an offset behind it)"
                self.trouble.setdefault(unit, why)

    def read(
        self,
        direct: Labels,
        mixed: Labels,
        zero: Labels,
        units: Labels,
        vanishing: Labels,
        grouped: bool,
    ) -> None:
        """Weights have been multiplied by values and summed; all arrays broadcast against each other.

        Args:
            direct: sets of entries that each weight comes from.
            mixed: sets of entries that each weight comes from through a mixture.
            zero: sets of entries that make a weight 0 by being 0.
            units: sets of units that a weight is multiplied by.
            vanishing: sets of units that are factors of all that a weight is multiplied by.
            grouped: whether this is a grouped convolution or a batched product.
        """
        self.meet(direct, mixed, vanishing)
        units = self._only_units(units)
        is_nothing = zero == EVERYTHING
        zero = np.where(is_nothing | (direct == EMPTY), np.int32(EMPTY), zero)
        candidates = np.where(zero == EMPTY, direct, zero)
        self._unite(self.read_by, candidates, units)
        if grouped:
            self.grouped[self._expanded(*self._pairs(candidates, full(EMPTY, candidates.shape)))[0]] = True
        weights = np.where(is_nothing, np.int32(EVERYTHING), np.where(zero == EMPTY, -candidates, zero))
        one, other = self._pairs(units, weights)
        asked = (one != EMPTY) & (other != EVERYTHING)
        self._silences.append((one[asked], other[asked]))
        for number in distinct(one).tolist():
            if number > EVERYTHING and len(self.sets.members(number)) > 1:
                self.together.add(number)

    def meet(self, direct: Labels, mixed: Labels, vanishing: Labels) -> None:
        """Entries have met data, of which some units are factors."""
        for labels in (direct, mixed):
            pairs = self._one_beside_each(labels, vanishing, self.sets.common)
            self._update(self.safe, *self._expanded(*pairs), self.sets.intersection)

    def offset(self, sums: Labels, added: Labels) -> None:
        """Entries have been added to sums of entries times data."""
        self._unite(self.offsets, sums, added)

    def multiply(self, weights: Labels, count: int) -> None:
        """Each of some weights is multiplied `count` times."""
        small = compressed(weights)
        copies = weights.size // max(small.size, 1)
        self._products.append((small.ravel(), copies * count * self.times))

    def forget_products(self, since: int) -> None:
        """Products that have been noted after the first `since` notes will be noted again."""
        del self._products[since:]

    @property
    def product_notes(self) -> int:
        """The number of notes about products."""
        return len(self._products)

    def products(self, gone: Any) -> tuple[int, int]:
        """How many multiplications of weights by data there are, and how many would go with some entries.

        Args:
            gone: (entries,) whether an entry goes; a weight goes with any entry that it is made of.
        """
        of_set: dict[int, bool] = {}
        total = less = 0
        for numbers, count in self._products:
            single = self.sets.is_single(numbers)
            going = np.zeros(len(numbers), bool)
            going[single] = gone[self.sets.thing(numbers[single])]
            for place in np.flatnonzero(~single).tolist():
                number = int(numbers[place])
                if number not in of_set:
                    of_set[number] = bool(gone[self.sets.members(number)].any())
                going[place] = of_set[number]
            total += count * len(numbers)
            less += count * int(going.sum())
        return total, less

    def multiplied(self) -> Any:
        """(entries,) whether each entry is part of a weight in a matrix product or a convolution with data."""
        found = np.zeros(self.elsewhere + 1, bool)
        for numbers, _ in self._products:
            single = self.sets.is_single(numbers)
            found[self.sets.thing(numbers[single])] = True
            for number in distinct(numbers[~single]).tolist():
                found[self.sets.members(number)] = True
        return found[: self.entries]

    def check_silence(self) -> None:
        """Notes the units whose effect no entry of their own can switch off."""
        for units, weights in self._silences:
            single = self.sets.is_single(weights) & self.sets.is_single(units)
            safe = self.safe[self.sets.thing(np.where(single, weights, 2))]
            silent = single & (self.sets.intersection(units, safe) == units)
            for number, weight in zip(units[~silent].tolist(), weights[~silent].tolist(), strict=True):
                self._check(self.sets.members(number), weight)

    def _check(self, units: Any, weight: int) -> None:
        entries = self.sets.members(abs(weight))
        if weight <= 0:
            name = self.name(entries[0]) if len(entries) else "a weight"
            why = f"{name} reads it, but not as it is: setting an entry to 0 does not set its weight to 0"
            for unit in units.tolist():
                self.trouble.setdefault(unit, why)
            return
        for unit in units.tolist():
            if not any(unit in self.members_of(int(self.safe[entry])) for entry in entries.tolist()):
                why = f"{self.name(entries[0])}, which reads it, is also used for something else"
                self.trouble.setdefault(unit, why)

    def members_of(self, number: int) -> Any:
        """The members of a set, ascending."""
        return self.sets.members(number)

    def _only_units(self, labels: Labels) -> Labels:
        small = compressed(labels)
        numbers, inverse = np.unique(small, return_inverse=True)
        kept = []
        for number in numbers.tolist():
            members = self.sets.members(number)
            kept.append(self.sets.number(members[members >= self.entries]))
        return np.broadcast_to(np.array(kept, np.int32)[inverse.reshape(small.shape)], labels.shape)

    def _units_in(self, labels: Any) -> list[int]:
        found = [self.sets.members(number) for number in distinct(labels).tolist()]
        # Members ascend and units come last, so a set without a unit is known by its last member.
        with_units = [members for members in found if len(members) and members[-1] >= self.entries]
        members = distinct(np.concatenate([*with_units, np.zeros(0, np.int32)]))
        return [int(thing) for thing in members if thing >= self.entries]

    def _pairs(self, one: Labels, other: Labels) -> tuple[Any, Any]:
        """The different pairs of sets that stand in the same place."""
        one, other = np.broadcast_arrays(compressed(one), compressed(other))
        # The sets of the others are few; of a kernel's entries no two are alike, and sorting them would tell nothing.
        offset = int(other.min(initial=0))
        codes = one.ravel().astype(np.int64) << 32 | (other.ravel().astype(np.int64) - offset)
        if not (_are_distinct(one.ravel()) or _are_distinct(other.ravel() - offset)):
            codes = distinct(codes)
        return (codes >> 32).astype(np.int32), ((codes & 0xFFFFFFFF) + offset).astype(np.int32)

    def _one_beside_each(
        self, labels: Labels, others: Labels, together: Callable[[Any], int]
    ) -> tuple[Any, Any]:
        """The pairs in which all that stands beside a set of several members has become one.

        A norm over n units mixes all entries of a kernel into each of them: their set is expanded once, not n times.
        """
        one, other = self._pairs(labels, others)
        several = np.flatnonzero(~self.sets.is_single(one) & (one > EVERYTHING))
        if len(several) > 1 and (other[several] == other[several[0]]).all():
            # Sets beside one and the same hold much in common: what they hold together is expanded once.
            whole = self.sets.together(one[several])
            one = np.append(np.delete(one, several), np.int32(whole))
            return one, np.append(np.delete(other, several), other[several[0]])
        if _are_distinct(one[several]):
            return one, other
        several = several[np.argsort(one[several], kind="stable")]
        numbers, first = np.unique(one[several], return_index=True)
        beside = [together(other[places]) for places in np.split(several, first[1:])]
        rest = np.delete(np.arange(len(one)), several)
        return (
            np.concatenate([one[rest], numbers]),
            np.concatenate([other[rest], np.array(beside, np.int32)]),
        )

    def _unite(self, table: Any, labels: Labels, others: Labels) -> None:
        """Adds to the set of each thing in a set of `labels` what stands beside it."""
        pairs = self._one_beside_each(labels, others, self.sets.together)
        self._update(table, *self._expanded(*pairs), self.sets.union)

    def _expanded(self, one: Any, other: Any) -> tuple[Any, Any]:
        """Each member of each set beside the other set of the pair."""
        one, other = one[one > EVERYTHING], other[one > EVERYTHING]
        single = self.sets.is_single(one)
        things, beside = [self.sets.thing(one[single])], [other[single]]
        for number, companion in zip(one[~single].tolist(), other[~single].tolist(), strict=True):
            members = self.sets.members(number)
            things.append(members)
            beside.append(np.full(len(members), companion, np.int32))
        return np.concatenate(things).astype(np.int64), np.concatenate(beside).astype(np.int32)

    def _update(self, table: Any, things: Any, labels: Any, fold: Callable[[Labels, Labels], Labels]) -> None:
        if _are_distinct(things):
            table[things] = fold(table[things], labels)
            return
        # A kernel's entry comes once for each of a sequence's places, beside the same set: once is enough.
        codes = distinct(things << 32 | labels)
        things, labels = codes >> 32, (codes & 0xFFFFFFFF).astype(np.int32)
        first = np.searchsorted(things, things)
        rank = np.arange(len(things)) - first
        for turn in range(int(rank.max(initial=-1)) + 1):
            here = rank == turn
            table[things[here]] = fold(table[things[here]], labels[here])


def _are_distinct(numbers: Any) -> bool:
    """Whether no number comes twice; numbers are not negative."""
    # A table of all numbers would take longer than a sort.
    if len(numbers) < 2 or 8 * len(numbers) < numbers.max():
        return len(distinct(numbers)) == len(numbers)
    last = np.zeros(int(numbers.max(initial=0)) + 1, np.int64)
    last[numbers] = np.arange(len(numbers))
    return bool((last[numbers] == np.arange(len(numbers))).all())

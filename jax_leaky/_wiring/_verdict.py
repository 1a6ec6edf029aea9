"""From the records of a walk to the wires of each site: which entries are whose, and where that cannot be told."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jax_leaky._tracing import Site
from jax_leaky._wiring._flow import Place
from jax_leaky._wiring._records import Records
from jax_leaky._wiring._sets import EMPTY, distinct

SetsOfLeaves = Sequence[tuple[Any, Any]]
"""For each parameter the different sets of its entries, and the place among these of each entry's."""

MOST_PLANES = 64
"""How many units of one site an entry may serve, in arrays that hold one unit each."""


@dataclasses.dataclass(frozen=True)
class Wires:
    """What feeds the units of one site, and what reads them.

    Attributes:
        shape: shape of a mask of the site's units.
        incoming: arrays by a parameter's place among the leaves, which broadcast to the parameter's shape and hold at
            each entry the unit that the entry feeds, -1 where none.
        outgoing: arrays of the same kind with the unit that an entry reads.
        counts: numbers of incoming and of outgoing entries.
        reason: sentence that says why the site's units cannot be told apart, "" if they can.
        is_lost: whether there are no entries to go on with either.
    """

    shape: tuple[int, ...]
    incoming: Mapping[int, Sequence[Any]]
    outgoing: Mapping[int, Sequence[Any]]
    counts: tuple[int, int]
    reason: str
    is_lost: bool = False


def nowhere(site: Site) -> Wires:
    """The wires of a site that the walk has not reached."""
    unentered = [name for name in site.inside if name.startswith("shard_map")]
    reason = (
        f"wiring does not enter a {unentered[0]}" if unentered else "no output of the function depends on it"
    )
    return Wires((), {}, {}, (0, 0), reason, is_lost=True)


class Verdict:
    """The wires of every site.

    Attributes:
        grouped: for each parameter whether a grouped convolution or a batched product reads through it.
        multiplied: for each parameter whether it multiplies data in a matrix product or a convolution: it is a kernel.
        coupled: sets of units, as (site, unit), that are multiplied by each other.
        places: places of the units of each site that the walk has reached, by its name.
        wires: wires of each such site, by its name.
        offsets: for each parameter the entries added to the sums of its products: by the other parameter's place among
            the leaves, an array as in `Wires` of entries of that parameter, -1 where none.
        scaled: names of the parameters that scale units of a site together with others, by the site's name.

    Args:
        records: notes of the walk.
        places: places of the units of each site that the walk has reached, by the site's name.
        shapes: shapes of the parameters, in the order of the leaves.
    """

    def __init__(
        self, records: Records, places: Mapping[str, Place], shapes: Sequence[tuple[int, ...]]
    ) -> None:
        self._records, self.places, self._shapes = records, places, shapes
        self._ends = np.cumsum([0, *(int(np.prod(shape, dtype=np.int64)) for shape in shapes)])
        records.check_silence()
        entries = slice(0, records.entries)
        feeds, after, touches = (table[entries] for table in (records.feeds, records.after, records.touches))
        # What scales units that are multiplied by each other belongs to all of them.
        whole = records.sets.is_single(after) | np.isin(after, list(records.together))
        self._own = np.where(
            feeds != EMPTY, feeds, np.where(whole & (after == touches), after, np.int32(EMPTY))
        )
        self._feeds = feeds
        self._touches, self._after = touches, after
        self._safe = records.safe[entries]
        # Found once for all sites: for each of 18 sites, among 20 million parameters, it took 80 of 97 seconds.
        own, reads = (
            [_distinct(np.ravel(part)) for part in self._by_leaf(table)]
            for table in (self._own, records.read_by[entries])
        )
        self.grouped = [bool(part.any()) for part in self._by_leaf(records.grouped[entries])]
        self._multiplied = records.multiplied()
        self.multiplied = [bool(part.any()) for part in self._by_leaf(self._multiplied)]
        self.coupled = [self._named(records.sets.members(number)) for number in records.together]
        self.wires = {name: self._wires(place, own, reads) for name, place in places.items()}
        self.scaled = {name: self._scaled(place) for name, place in places.items()}
        self.offsets = [self._offsets(part) for part in self._by_leaf(records.offsets[entries])]

    def _by_leaf(self, table: Any) -> Iterator[Any]:
        for shape, start, end in zip(self._shapes, self._ends[:-1], self._ends[1:], strict=True):
            yield table[start:end].reshape(shape)

    def _offsets(self, table: Any) -> dict[int, Any]:
        numbers, inverse = np.unique(table, return_inverse=True)
        # Of several offsets of one sum the first stands for all.
        entries = np.array([next(iter(self._records.sets.members(n).tolist()), -1) for n in numbers.tolist()])
        leaves = np.searchsorted(self._ends, entries, side="right") - 1
        found = {}
        for leaf in sorted({*leaves[entries >= 0].tolist()}):
            own = np.where((leaves == leaf) & (entries >= 0), entries - self._ends[leaf], -1)
            found[leaf] = _smallest(own[inverse.reshape(table.shape)])
        return found

    def products(self, gone: Sequence[Any]) -> tuple[int, int]:
        """How many multiplications of weights by data there are, and how many would go with some entries.

        Args:
            gone: for each parameter its entries that go, booleans of its shape.
        """
        flat = [np.ravel(part) for part in gone]
        return self._records.products(np.concatenate([*flat, np.zeros(0, bool)]))

    def _named(self, units: Any) -> frozenset[tuple[str, int]]:
        return frozenset(
            (name, int(unit) - place.first)
            for name, place in self.places.items()
            for unit in units
            if place.first <= unit < place.first + place.count
        )

    def _wires(self, place: Place, own: SetsOfLeaves, reads: SetsOfLeaves) -> Wires:
        incoming, in_reason = self._incoming(place, own)
        outgoing, out_reason = self._outgoing(place, reads)
        troubles = (self._records.trouble.get(place.first + unit, "") for unit in range(place.count))
        reason = next(filter(None, troubles), "") or in_reason or out_reason
        counts, is_lost = [], False
        for kind, planes in (("feed", incoming), ("read", outgoing)):
            if any(len(arrays) > MOST_PLANES for arrays in planes.values()):
                planes.clear()
                reason = f"the entries that {kind} it serve more than {MOST_PLANES} of its units each"
                is_lost = True
            counts.append(sum(self._count(leaf, arrays) for leaf, arrays in planes.items()))
        return Wires(place.shape, incoming, outgoing, (counts[0], counts[1]), reason, is_lost)

    def _count(self, leaf: int, planes: Sequence[Any]) -> int:
        shape = self._shapes[leaf]
        return int(np.any([np.broadcast_to(plane >= 0, shape) for plane in planes], axis=0).sum())

    def _incoming(self, place: Place, sets_of: SetsOfLeaves) -> tuple[dict[int, Any], str]:
        kept, served = self._of_site(sets_of, place)
        reason, has_kernel = "", False
        for leaf, part in kept.items():
            own = slice(self._ends[leaf], self._ends[leaf + 1])
            has_kernel = has_kernel or bool((self._multiplied[own] & (part != EMPTY)).any())
            # An entry that feeds a unit of this site and influences anything else is shared.
            fed = (part != EMPTY) & (self._feeds[own] != EMPTY)
            shared = np.flatnonzero(fed & ~self._records.sets.is_single(self._touches[own]))
            if len(shared) and not reason:
                reason = self._shared(place, int(shared[0]) + int(own.start))
        if not served.all():
            reason = "no weights of its own feed it"
        elif not reason and not has_kernel:
            # Biases are its own, and the kernel is everybody's.
            common = np.flatnonzero(
                self._multiplied & self._records.sets.any_of(self._feeds, place.first, place.count)
            )
            if len(common):
                name = self._records.name(int(common[0]))
                reason = f"{name}, which feeds it, moves all of its units (a norm over the whole of it)"
        return self._planes(kept, place), reason

    def _shared(self, place: Place, entry: int) -> str:
        records = self._records
        others = set(records.sets.members(int(self._touches[entry])).tolist())
        who = f"{records.name(entry)}, which feeds it,"
        own = set(range(place.first, place.first + place.count))
        if records.elsewhere in others:
            return f"{who} also reaches other weights, or the function's output, with no activation between"
        if others <= own:
            return f"{who} moves several of its units (a norm over units, or weights used at several places)"
        elsewhere = self._named(sorted(others - own))
        return f"{who} also feeds {', '.join(sorted({site for site, _ in elsewhere}))}"

    def _outgoing(self, place: Place, sets_of: SetsOfLeaves) -> tuple[dict[int, Any], str]:
        sets = self._records.sets
        kept, _ = self._of_site(sets_of, place)
        read = np.zeros(place.count, bool)
        for leaf, part in kept.items():
            exclusive = sets.intersection(part, self._safe[self._ends[leaf] : self._ends[leaf + 1]])
            # Entries that are safe for one of their units are that unit's; the rest are shared.
            kept[leaf] = np.where(exclusive != EMPTY, exclusive, part)
            for number in distinct(kept[leaf]).tolist():
                read[sets.members(number) - place.first] = True
        return self._planes(kept, place), "" if read.all() else "no weights read it"

    def _of_site(self, sets_of: SetsOfLeaves, place: Place) -> tuple[dict[int, Any], Any]:
        """For each entry the units of the site in its set, but whole layers; and which units have an entry.

        Returns:
            A row of sets for each parameter that has any, by its place among the leaves; and (units,).
        """
        sets = self._records.sets
        found, served = {}, np.zeros(place.count, bool)
        for leaf, (numbers, inverse) in enumerate(sets_of):
            kept = np.zeros(len(numbers), np.int32)
            for index, number in enumerate(numbers.tolist()):
                members = sets.members(number)
                members = members[(members >= place.first) & (members < place.first + place.count)]
                if len(members) == 0:
                    continue
                is_member = np.zeros((place.count // place.shape[-1], place.shape[-1]), bool)
                is_member.reshape(-1)[members - place.first] = True
                if place.shape[-1] > 1:
                    is_member[is_member.all(axis=1)] = False  # it belongs to the layer, not to a unit
                served |= is_member.ravel()
                kept[index] = sets.number(np.flatnonzero(is_member) + place.first)
            if kept.any():
                found[leaf] = kept[inverse]
        return found, served

    def _planes(self, kept: Mapping[int, Any], place: Place) -> dict[int, Any]:
        sets = self._records.sets
        planes = {}
        for leaf, row in kept.items():
            part = row.reshape(self._shapes[leaf])
            numbers, inverse = _distinct(row)
            members = [sets.members(number) - place.first for number in numbers.tolist()]
            depth = max(map(len, members), default=0)
            if depth == 0:
                continue
            table = np.full((depth, len(numbers)), -1, np.int32)
            for column, units in enumerate(members):
                table[: len(units), column] = units
            planes[leaf] = [_smallest(row[inverse.reshape(part.shape)]) for row in table]
        return planes

    def _scaled(self, place: Place) -> list[str]:
        """Parameters that scale units of a site together with other units, and so cannot be cut with one of them."""
        sets, records = self._records.sets, self._records
        units = set(range(place.first, place.first + place.count))
        names = set()
        foreign = (self._after != EMPTY) & (self._own == EMPTY)
        numbers, first = np.unique(self._after[foreign], return_index=True)
        entries = np.flatnonzero(foreign)[first]
        for number, entry in zip(numbers.tolist(), entries.tolist(), strict=True):
            members = set(sets.members(number).tolist())
            if members & units and not units <= members:
                names.add(records.name(entry))
        return sorted(names)


def _distinct(row: Any) -> tuple[Any, Any]:
    """The different numbers of a row of sets, ascending, and the place among them of each, where possible unsorted."""
    if not row.any():
        return np.zeros(1, np.int32), np.zeros(row.size, np.int32)
    least = int(row[row != EMPTY].min(initial=np.iinfo(np.int32).max))
    span = int(row.max(initial=EMPTY)) - least + 2
    if not 0 < span <= 4 * row.size:
        numbers, inverse = np.unique(row, return_inverse=True)
        return numbers, inverse.reshape(-1)
    shifted = np.where(row == EMPTY, 0, row - (least - 1))
    there = np.zeros(span, bool)
    there[shifted] = True
    numbers = np.flatnonzero(there)
    return np.where(numbers == 0, EMPTY, numbers + (least - 1)).astype(np.int32), (
        np.cumsum(there, dtype=np.int32) - 1
    )[shifted]


def _smallest(plane: Any) -> Any:
    """An array without the axes along which it does not differ: they have length 1."""
    for axis in range(plane.ndim):
        first = plane[(slice(None),) * axis + (slice(0, 1),)]
        if plane.shape[axis] > 1 and (plane == first).all():
            plane = first
    return np.ascontiguousarray(plane)

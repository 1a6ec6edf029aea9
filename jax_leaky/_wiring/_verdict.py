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
        coupled: sets of units, as (site, unit), that are multiplied by each other.
        wires: wires of each site that the walk has reached, by its name.
        scaled: names of the parameters that scale units of a site together with others, by the site's name.

    Args:
        records: notes of the walk.
        places: places of the units of each site that the walk has reached, by the site's name.
        shapes: shapes of the parameters, in the order of the leaves.
    """

    def __init__(
        self, records: Records, places: Mapping[str, Place], shapes: Sequence[tuple[int, ...]]
    ) -> None:
        self._records, self._places, self._shapes = records, places, shapes
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
        self._reads, self._safe = records.read_by[entries], records.safe[entries]
        self.grouped = [bool(part.any()) for part in self._by_leaf(records.grouped[entries])]
        self.coupled = [self._named(records.sets.members(number)) for number in records.together]
        self.wires = {name: self._wires(place) for name, place in places.items()}
        self.scaled = {name: self._scaled(place) for name, place in places.items()}

    def _by_leaf(self, table: Any) -> Iterator[Any]:
        for shape, start, end in zip(self._shapes, self._ends[:-1], self._ends[1:], strict=True):
            yield table[start:end].reshape(shape)

    def _named(self, units: Any) -> frozenset[tuple[str, int]]:
        return frozenset(
            (name, int(unit) - place.first)
            for name, place in self._places.items()
            for unit in units
            if place.first <= unit < place.first + place.count
        )

    def _wires(self, place: Place) -> Wires:
        incoming, in_reason = self._incoming(place)
        outgoing, out_reason = self._outgoing(place)
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

    def _incoming(self, place: Place) -> tuple[dict[int, Any], str]:
        kept, served = self._of_site(self._own, place)
        reason = ""
        # An entry that feeds a unit of this site and influences anything else is shared.
        fed = (kept != EMPTY) & (self._feeds != EMPTY)
        shared = np.flatnonzero(fed & ~self._records.sets.is_single(self._touches))
        if len(shared):
            reason = self._shared(place, int(shared[0]))
        if not served.all():
            reason = "no weights of its own feed it"
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

    def _outgoing(self, place: Place) -> tuple[dict[int, Any], str]:
        sets = self._records.sets
        kept, _ = self._of_site(self._reads, place)
        exclusive = sets.intersection(kept, self._safe)
        # Entries that are safe for one of their units are that unit's; the rest are shared.
        kept = np.where(exclusive != EMPTY, exclusive, kept)
        read = np.zeros(place.count, bool)
        for number in distinct(kept).tolist():
            read[sets.members(number) - place.first] = True
        return self._planes(kept, place), "" if read.all() else "no weights read it"

    def _of_site(self, table: Any, place: Place) -> tuple[Any, Any]:
        """For each entry the units of the site in its set, but whole layers; and which units have an entry."""
        sets = self._records.sets
        numbers, inverse = np.unique(table, return_inverse=True)
        kept, served = [], np.zeros(place.count, bool)
        for number in numbers.tolist():
            members = sets.members(number)
            members = members[(members >= place.first) & (members < place.first + place.count)]
            is_member = np.zeros((place.count // place.shape[-1], place.shape[-1]), bool)
            is_member.reshape(-1)[members - place.first] = True
            if place.shape[-1] > 1:
                is_member[is_member.all(axis=1)] = False  # it belongs to the layer, not to a unit
            served |= is_member.ravel()
            kept.append(sets.number(np.flatnonzero(is_member) + place.first))
        return np.array(kept, np.int32)[inverse], served

    def _planes(self, kept: Any, place: Place) -> dict[int, Any]:
        sets = self._records.sets
        planes = {}
        for leaf, part in enumerate(self._by_leaf(kept)):
            numbers, inverse = np.unique(part, return_inverse=True)
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


def _smallest(plane: Any) -> Any:
    """An array without the axes along which it does not differ: they have length 1."""
    for axis in range(plane.ndim):
        first = plane[(slice(None),) * axis + (slice(0, 1),)]
        if plane.shape[axis] > 1 and (plane == first).all():
            plane = first
    return np.ascontiguousarray(plane)

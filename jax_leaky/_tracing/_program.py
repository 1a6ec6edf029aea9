"""A traced function as replay sees it: its jaxprs, the sites in them, and the constructs that are entered."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from jax_leaky._tracing._jax_internals import Body, Source
from jax_leaky._tracing._recognise import Match
from jax_leaky._tracing._site import Loop, Site
from jax_leaky._tracing._visitor import Visitor


class Shards(NamedTuple):
    """The mesh axes, with their sizes, that a shard_map makes manual."""

    sizes: tuple[tuple[str, int], ...]

    def along(self, axes: frozenset[str]) -> int | None:
        """How many shards differ where only some axes make a difference; None if they are all alike."""
        differing = [size for name, size in self.sizes if name in axes]
        return math.prod(differing) if differing else None


@dataclasses.dataclass(frozen=True)
class Scope:
    """What surrounds a jaxpr; the fields that `Site` shares are explained there.

    Attributes:
        path: the named scopes, with a mark for each loop and branch.
        named: whether a scope of the user's is in the path, and not only marks.
        inside: the constructs entered.
        stacked: the scans and the shard_maps entered.
        conditional: whether the jaxpr may run any number of times, none included.
        needs_merge: why records cannot be kept one by one.
        fixed: why activations cannot be replaced.
        manual: the mesh axes of the shard_maps entered.
        varying: those of them along which shards may take different branches.
        source: the line of the innermost equation entered.
        plumbing: whether this is the inside of one of JAX's own functions.
        under_derivative: whether this belongs to a derivative that the traced function takes itself.
    """

    path: tuple[str, ...] = ()
    named: bool = False
    inside: tuple[str, ...] = ()
    stacked: "tuple[Loop | Shards, ...]" = ()
    conditional: bool = False
    needs_merge: str = ""
    fixed: str = ""
    manual: frozenset[str] = frozenset()
    varying: frozenset[str] = frozenset()
    source: Source | None = None
    plumbing: bool = False
    under_derivative: bool = False

    def enter(self, **changes: Any) -> "Scope":
        """The scope of an inner jaxpr."""
        return dataclasses.replace(self, **changes)

    def mesh_sizes(self) -> dict[str, int]:
        """The sizes of the mesh axes in `manual`."""
        return {name: size for part in self.stacked if isinstance(part, Shards) for name, size in part.sizes}

    def front(
        self, axes: frozenset[str], visitor: Visitor | None = None, outside: "Scope | None" = None
    ) -> tuple[int, ...]:
        """The axes that a record gains in front.

        Args:
            axes: the mesh axes along which the site's shards differ.
            visitor: what merges records; None if nothing does.
            outside: a scope around this one, from which the record is seen; None for the whole function.
        """
        around = self.stacked[len(outside.stacked) if outside is not None else 0 :]
        sizes: list[int | None] = []
        for part in around:
            if isinstance(part, Shards):
                sizes.append(part.along(axes) if visitor is None or visitor.merge is None else None)
            else:
                sizes.append(part.length if visitor is None or not visitor.folds(part) else None)
        return tuple(size for size in sizes if size is not None)


class Spot(NamedTuple):
    """A site in its jaxpr.

    Attributes:
        site: what the user sees of it.
        match: where it stands.
        axes: the mesh axes along which its values differ by their type.
        scope: what surrounds it.
        apart: those of `axes` along which the shards' records differ.
        units: the mesh axis over which its units are spread, so that they are brought together for a record; or None.
    """

    site: Site
    match: Match
    axes: frozenset[str]
    scope: Scope
    apart: frozenset[str]
    units: str | None


class Inner(NamedTuple):
    """A jaxpr inside an equation, to be entered.

    Attributes:
        jaxpr: open or closed.
        scope: what surrounds it.
        operands: for each of its arguments the index of the equation's input that it always is, or None.
    """

    jaxpr: Any
    scope: Scope
    operands: tuple[int | None, ...]


class CannotEnter(Exception):  # noqa: N818 it is a message between two functions, not an error of the user's
    """An equation has to be run as it is; the text says why."""


UNDER_DERIVATIVE = (
    "the function itself takes the derivative around it, whose backward pass would stay that of the old one"
)
"""Why an activation whose backward pass stands in the same jaxpr cannot be replaced (`Site.fixed`)."""

Records = dict[str, Any]


class Construct(Protocol):
    """An equation with jaxprs inside that replay knows how to rebuild around them."""

    def open(self, eqn: Any, scope: Scope) -> Sequence[Inner]:
        """The jaxprs to enter. Raises `CannotEnter`."""

    def unseen(self, eqn: Any) -> Sequence[tuple[Any, str]]:
        """The jaxprs that are not entered though the equation is, each with the reason."""

    def run(
        self, eqn: Any, values: Sequence[Any], plans: Sequence["Plan"], visitor: Visitor
    ) -> tuple[list[Any], Records]:
        """The outputs of the equation and the records of the sites inside."""


class Region(NamedTuple):
    """An equation that is entered, with a plan for each of its inner jaxprs."""

    construct: Construct
    plans: tuple["Plan", ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A jaxpr with what replay does at its equations.

    Attributes:
        body: the jaxpr.
        scope: what surrounds it.
        spots: the sites among its own equations, by index of the activation's last equation.
        regions: the equations to enter, by index.
        all_spots: its sites and those of its regions, in the order of the program.
    """

    body: Body
    scope: Scope
    spots: dict[int, Spot]
    regions: dict[int, Region]
    all_spots: tuple[Spot, ...]

    def has_work(self, visitor: Visitor) -> bool:
        """Whether any of its sites concerns the visitor."""
        return any(visitor.wants(spot.site) for spot in self.all_spots)

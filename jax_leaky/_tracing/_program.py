"""A traced function as replay sees it: its jaxprs, the sites in them, and the constructs that are entered."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from jax_leaky._tracing._jax_internals import Body, ClosedJaxpr, Equation, Jaxpr, Source
from jax_leaky._tracing._recognise import Match
from jax_leaky._tracing._site import Loop, Site
from jax_leaky._tracing._visitor import Visitor


class Choices(NamedTuple):
    """What the user decides in place of a rule.

    Attributes:
        scan_rows: whether the steps of every scan have records of their own; None where the rule of `Loop` decides.
        sample_axes: names of the mesh axes along which the shards of a shard_map hold other samples.
    """

    scan_rows: bool | None = None
    sample_axes: frozenset[str] = frozenset()


class Shards(NamedTuple):
    """The mesh axes, with their sizes, that a shard_map makes manual."""

    sizes: tuple[tuple[str, int], ...]

    def along(self, axes: frozenset[str]) -> int | None:
        """How many shards differ where only some axes make a difference; None if they are all alike."""
        differing = [size for name, size in self.sizes if name in axes]
        return math.prod(differing) if differing else None


class Where(NamedTuple):
    """Place of a jaxpr, as a reader is told of it.

    Attributes:
        path: named scopes around it, with a mark for each loop and branch.
        named: whether a scope of the user's is in the path, and not only marks.
        inside: descriptions of the constructs around it (`Site.inside`).
        source: line of the innermost equation around it.
    """

    path: tuple[str, ...] = ()
    named: bool = False
    inside: tuple[str, ...] = ()
    source: Source | None = None


@dataclasses.dataclass(frozen=True)
class Scope:
    """What surrounds a jaxpr.

    Attributes:
        where: place of the jaxpr, for names and tables.
        choices: decisions of the user's in place of a rule.
        stacked: scans and shard_maps around it, outermost first.
        conditional: whether the jaxpr may run any number of times, none included.
        needs_merge: reason why records cannot be kept one by one, "" if they can.
        fixed: reason why activations cannot be replaced, "" if they can.
        varying: mesh axes along which shards may take different branches to get here.
        plumbing: whether this is the inside of one of JAX's own functions.
        under_derivative: whether this belongs to a derivative that the traced function takes itself.
    """

    where: Where = Where()  # noqa: RUF009 a NamedTuple cannot change
    choices: Choices = Choices()  # noqa: RUF009 likewise
    stacked: "tuple[Loop | Shards, ...]" = ()
    conditional: bool = False
    needs_merge: str = ""
    fixed: str = ""
    varying: frozenset[str] = frozenset()
    plumbing: bool = False
    under_derivative: bool = False

    def enter(self, mark: str = "", inside: str = "", **changes: Any) -> "Scope":
        """The scope of an inner jaxpr.

        Args:
            mark: scope that is added to the path, "" for none.
            inside: description of the construct in `Site.inside`; "" for none.
            **changes: fields that change.
        """
        where = self.where._replace(
            path=(*self.where.path, mark) if mark else self.where.path,
            inside=(*self.where.inside, inside) if inside else self.where.inside,
        )
        return dataclasses.replace(self, where=where, **changes)

    @property
    def mesh_sizes(self) -> dict[str, int]:
        """The sizes of the mesh axes that the shard_maps around make manual."""
        return {name: size for part in self.stacked if isinstance(part, Shards) for name, size in part.sizes}

    def front(
        self, axes: frozenset[str], visitor: Visitor | None = None, outside: "Scope | None" = None
    ) -> tuple[int, ...]:
        """The axes that a record gains in front.

        Args:
            axes: mesh axes along which the site's shards differ.
            visitor: visitor that merges records; None if none does.
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
        site: description for the user.
        match: place among the equations.
        axes: mesh axes along which its values differ by their type.
        scope: surroundings of the jaxpr.
        apart: mesh axes, of `axes`, along which the shards' records differ.
        units: mesh axis over which its units are spread, so that they are brought together for a record; None if
            every shard holds all of them.
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
        jaxpr: the jaxpr.
        scope: surroundings of the jaxpr.
        operands: for each of its arguments the index of the equation's input that it always is, or None.
    """

    jaxpr: Jaxpr | ClosedJaxpr
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

    def open(self, eqn: Equation, scope: Scope) -> Sequence[Inner]:
        """The jaxprs to enter. Raises `CannotEnter`."""

    def unseen(self, eqn: Equation) -> Sequence[tuple[ClosedJaxpr, str]]:
        """The jaxprs that are not entered though the equation is, each with the reason."""
        del eqn
        return ()

    def run(
        self, eqn: Equation, values: Sequence[Any], plans: Sequence["Plan"], visitor: Visitor
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
        body: the jaxpr and its constants.
        scope: surroundings of the jaxpr.
        spots: sites among its own equations, by index of the activation's last equation.
        regions: equations to enter, by index.
        all_spots: sites of the jaxpr and of its regions, in the order of the program.
    """

    body: Body
    scope: Scope
    spots: dict[int, Spot]
    regions: dict[int, Region]
    all_spots: tuple[Spot, ...]

    def has_work(self, visitor: Visitor) -> bool:
        """Whether any of its sites concerns the visitor."""
        return any(visitor.wants(spot.site) for spot in self.all_spots)

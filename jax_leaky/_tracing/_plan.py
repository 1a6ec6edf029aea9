"""Reads a traced function: finds and names its sites, and lists what is opaque."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._activations import CALLS, Value, bends, constant
from jax_leaky._tracing._constructs import ClosedCall, Cond, CustomRule, Jit, Remat, Scan, ShardMap, While
from jax_leaky._tracing._jax_internals import Atom, ClosedJaxpr, Equation, Jaxpr
from jax_leaky._tracing._program import (
    UNDER_DERIVATIVE,
    CannotEnter,
    Construct,
    Inner,
    Plan,
    Region,
    Scope,
    Spot,
)
from jax_leaky._tracing._recognise import Match, Recognition, recognise
from jax_leaky._tracing._sharding import CannotTell, Placement, layout_of, of_inner, of_variables
from jax_leaky._tracing._site import Loop, Opaque, Site

CONSTRUCTS: Mapping[str, Construct] = {
    "jit": Jit(),
    "closed_call": ClosedCall(),
    "remat2": Remat(),
    "custom_jvp_call": CustomRule(),
    "custom_vjp_call": CustomRule(),
    "cond": Cond(),
    "scan": Scan(),
    "while": While(),
    "shard_map": ShardMap(),
}

UNSEEN = {
    "pallas_call": "a Pallas kernel",
    "pure_callback": "a function on the host",
    "io_callback": "a function on the host",
    "ffi_call": "a foreign function",
    "call_exported": "an exported function",
    "custom_partitioning": "a function with a partitioning rule of its own",
}
"""Primitives whose inside cannot be read as a jaxpr of array operations."""


class Planner:
    """Plans one function.

    Attributes:
        opaque: parts that are not entered; the list grows while jaxprs are planned.
        hides: whether a derivative that the function takes itself holds what might be an activation not recognised.
        mesh_axes: names of the mesh axes of the shard_maps that are entered.
    """

    def __init__(self) -> None:
        self.opaque: list[Opaque] = []
        self.hides = False
        self.mesh_axes: set[str] = set()
        self._names: dict[str, int] = {}
        self._recognitions: dict[Any, tuple[Any, Recognition]] = {}

    def plan(
        self,
        jaxpr: Jaxpr | ClosedJaxpr | internals.Body,
        scope: Scope,
        given: Sequence[Value | None] = (),
        placed: Sequence[Placement] | None = None,
    ) -> Plan:
        """Plans a jaxpr and those inside it.

        Args:
            jaxpr: open or closed.
            scope: what surrounds it.
            given: for each of its arguments the number that it is known to hold, or None.
            placed: inside a shard_map, how its arguments are split.
        """
        body = internals.body(jaxpr)
        self.mesh_axes |= scope.mesh_sizes.keys()
        known = [*map(constant, body.consts), *given]
        numbers: dict[Atom, Value] = {
            v: value for v, value in zip(body.invars, known, strict=False) if value is not None
        }
        found = self._recognise(body.jaxpr, numbers, scope)
        spots: dict[int, Spot] = {}
        regions: dict[int, Region] = {}
        everything: list[Spot] = []
        places = {} if placed is None else of_variables(body, placed)
        for index, eqn in enumerate(body.jaxpr.eqns):
            if index in found.matches:
                spot = self._spot(body.jaxpr.eqns, found.matches[index], scope, places)
                if spot is not None:
                    spots[index] = spot
                    everything.append(spot)
            elif index not in found.absorbed:
                self.hides |= bends(eqn) and (scope.under_derivative or internals.is_of_derivative(eqn))
                region = self._region(eqn, scope, found.constants, places)
                if region is not None:
                    regions[index] = region
                    everything += [spot for inner in region.plans for spot in inner.all_spots]
        return Plan(body, scope, spots, regions, tuple(everything))

    def _recognise(self, jaxpr: Jaxpr, numbers: Mapping[Atom, Value], scope: Scope) -> Recognition:
        """A jaxpr called twice with the same numbers is looked at once; keeping it keeps its id its own."""
        known = tuple((id(v), float(value.at_probes)) for v, value in numbers.items())
        key = (id(jaxpr), scope.plumbing, scope.under_derivative, known)
        if key not in self._recognitions:
            # JAX's own functions hold a maximum with 0 here and there; what they hold of the user's goes by a name.
            found = recognise(jaxpr, numbers, scope.plumbing, scope.under_derivative)
            self._recognitions[key] = (jaxpr, found)
        return self._recognitions[key][1]

    def _spot(
        self, eqns: Sequence[Equation], match: Match, scope: Scope, places: Mapping[Atom, Placement]
    ) -> Spot | None:
        eqn = eqns[match.position]
        own_axes = internals.varying_axes(match.z.aval)
        samples = scope.choices.sample_axes
        try:
            layout = layout_of(
                match.z, own_axes, places.get(match.z, {}), scope.mesh_sizes, scope.varying, samples
            )
        except CannotTell as reason:
            self._note(eqn, scope, f"a {match.kind.name} {reason}")
            return None
        differentiated = scope.under_derivative or any(
            internals.is_of_derivative(eqns[index]) for index in match.interior
        )
        own = internals.module_path(eqn)
        path = "/".join((*scope.where.path, *own))
        source = internals.source(eqn) or scope.where.source
        line = _line(source)
        last = match.kind.name if own or scope.where.named or not line else f"{line} {match.kind.name}"
        axes = scope.varying | own_axes
        apart = axes - layout.copies - {layout.units}
        site = Site(
            name=self._unique("/".join(filter(None, (path, last)))),
            kind=match.kind.name,
            negative_slope=match.kind.negative_slope,
            shape=layout.shape,
            dtype=internals.dtype_of(match.z),
            source=f"{line} ({source.function})" if source is not None else "",
            path=path,
            inside=scope.where.inside,
            stacked=scope.front(apart),
            loops=tuple(part for part in scope.stacked if isinstance(part, Loop)),
            conditional=scope.conditional,
            needs_merge=scope.needs_merge,
            fixed=scope.fixed or UNDER_DERIVATIVE * differentiated,
        )
        return Spot(site, match, axes, scope, apart, layout.units)

    def _unique(self, name: str) -> str:
        self._names[name] = self._names.get(name, -1) + 1
        return f"{name}_{self._names[name]}" if self._names[name] else name

    def _region(
        self,
        eqn: Equation,
        scope: Scope,
        constants: Mapping[Atom, Value],
        places: Mapping[Atom, Placement],
    ) -> Region | None:
        name = eqn.primitive.name
        if name in UNSEEN:
            self._note(eqn, scope, UNSEEN[name])
            return None
        jaxprs = internals.inner_jaxprs(eqn)
        if not jaxprs:
            return None
        try:
            inners = self._open(eqn, scope)
        except CannotEnter as reason:
            self._note_sites(eqn, scope, jaxprs, str(reason))
            return None
        construct = CONSTRUCTS[name]
        for jaxpr, why in construct.unseen(eqn):
            self._note_sites(eqn, scope, [jaxpr], why)
        plans = []
        placed = of_inner(eqn, places) if inners and inners[0].scope.mesh_sizes else [None] * len(inners)
        for inner, placements in zip(inners, placed, strict=True):
            atoms = [None if i is None else eqn.invars[i] for i in inner.operands]
            given = [None if atom is None else _number(atom, constants) for atom in atoms]
            # A function of JAX that is a branch, a body or a shard is there because the user gave it.
            own = internals.is_plumbing(inner.jaxpr) and (scope.plumbing or name in CALLS)
            plans.append(self.plan(inner.jaxpr, replace(inner.scope, plumbing=own), given, placements))
        return Region(construct, tuple(plans)) if any(plan.all_spots for plan in plans) else None

    def _open(self, eqn: Equation, scope: Scope) -> Sequence[Inner]:
        name = eqn.primitive.name
        if name not in CONSTRUCTS:
            raise CannotEnter("an operation that is not entered")
        if strange := internals.unknown_parameters(eqn):
            raise CannotEnter(f"it has parameters that are new to this package: {', '.join(strange)}")
        own = internals.module_path(eqn)
        where = scope.where._replace(
            path=(*scope.where.path, *own),
            named=scope.where.named or bool(own),
            source=internals.source(eqn) or scope.where.source,
        )
        under_derivative = scope.under_derivative or internals.is_of_derivative(eqn)
        return CONSTRUCTS[name].open(eqn, replace(scope, where=where, under_derivative=under_derivative))

    def _note(self, eqn: Equation, scope: Scope, why: str) -> None:
        line = _line(internals.source(eqn) or scope.where.source)
        self.opaque.append(Opaque(eqn.primitive.name, why, line))

    def _note_sites(
        self, eqn: Equation, scope: Scope, jaxprs: Sequence[Jaxpr | ClosedJaxpr], why: str
    ) -> None:
        """Lists an equation as opaque if there is an activation in it, or a part that is opaque itself."""
        judge = Planner()
        count = sum(len(judge.plan(jaxpr, Scope()).all_spots) for jaxpr in jaxprs)
        if count or judge.opaque:
            held = f"{count} activation{'' if count == 1 else 's'} inside"
            self._note(eqn, scope, f"{why}, {held}")


def _number(atom: Atom, constants: Mapping[Atom, Value]) -> Value | None:
    return constant(atom.val) if internals.is_literal(atom) else constants.get(atom)


def _line(source: internals.Source | None) -> str:
    return f"{Path(source.file).name}:{source.line}" if source is not None else ""

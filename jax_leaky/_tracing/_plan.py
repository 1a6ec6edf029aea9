"""Reads a traced function: finds and names its sites, and lists what is opaque."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing import _origin
from jax_leaky._tracing._bends import bends
from jax_leaky._tracing._constructs import ClosedCall, Cond, CustomRule, Jit, Remat, Scan, ShardMap, While
from jax_leaky._tracing._graph import Frame, Graph
from jax_leaky._tracing._jax_internals import Atom, ClosedJaxpr, Equation, Jaxpr
from jax_leaky._tracing._origin import Origin, Origins
from jax_leaky._tracing._program import (
    UNDER_DERIVATIVE,
    CannotEnter,
    Choices,
    Construct,
    Inner,
    Plan,
    Region,
    Scope,
    Spot,
)
from jax_leaky._tracing._recognise import Match, Recognition, Walk, recognise
from jax_leaky._tracing._sharding import (
    CannotTell,
    Placement,
    deciding_axes,
    layout_of,
    of_inner,
    of_variables,
)
from jax_leaky._tracing._site import Loop, Opaque, Site
from jax_leaky._tracing._values import CALLS, Value, constant, may_bend

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
"""Primitives whose inside cannot be read as a jaxpr of array operations. Any other that holds a function that is no
jaxpr is opaque too, and what holds jaxprs is entered (`CONSTRUCTS`) or opaque where something bends in them."""


class Planner:
    """Plans one function.

    Attributes:
        opaque: parts that are not entered; the list grows while jaxprs are planned.
        hides: whether a derivative that the function takes itself holds what might be an activation not recognised.
        mesh_axes: names of the mesh axes of the shard_maps that are entered.

    Args:
        held: by id the origins of the arrays that the function holds.
    """

    def __init__(self, held: Mapping[int, Origin] | None = None) -> None:
        self.opaque: list[Opaque] = []
        self.hides = False
        self.mesh_axes: set[str] = set()
        self._held = held or {}
        self._names: dict[str, int] = {}
        self._walks: dict[Any, tuple[Any, Walk]] = {}
        self._graph: Graph | None = None
        self._inputs: set[int] = set()
        self._outputs: set[int] = set()

    def plan_function(self, body: internals.Body, choices: Choices, origins: Origins = ()) -> Plan:
        """Plans a whole function, and lists what bends in it and is no site.

        Args:
            body: the function's jaxpr.
            choices: decisions of the user's.
            origins: for each of its arguments the parameter that it comes from, or None.
        """
        self._graph = Graph(body, frozenset(CONSTRUCTS))
        plan = self.plan(body, Scope(choices=choices), frame=self._graph.frame, origins=origins)
        self.opaque += bends(self._graph, self._inputs, self._outputs)
        return plan

    def plan(
        self,
        jaxpr: Jaxpr | ClosedJaxpr | internals.Body,
        scope: Scope,
        given: Sequence[Value | None] = (),
        placed: Sequence[Placement] | None = None,
        frame: Frame | None = None,
        origins: Origins = (),
    ) -> Plan:
        """Plans a jaxpr and those inside it.

        Args:
            jaxpr: open or closed.
            scope: what surrounds it.
            given: for each of its arguments the number that it is known to hold, or None.
            placed: inside a shard_map, how its arguments are split.
            frame: place of the jaxpr in the graph of the function; None where it is judged alone.
            origins: for each of its arguments the parameter that it comes from, or None.
        """
        body = internals.body(jaxpr)
        self.mesh_axes |= scope.mesh_sizes.keys()
        known = [*map(constant, body.consts), *given]
        numbers: dict[Atom, Value] = {
            v: value for v, value in zip(body.invars, known, strict=False) if value is not None
        }
        found = self._recognise(body.jaxpr, numbers, scope, frame)
        self._account(found, frame)
        spots: dict[int, Spot] = {}
        regions: dict[int, Region] = {}
        everything: list[Spot] = []
        places = {} if placed is None else of_variables(body, placed)
        came = _origin.of_variables(body, origins, self._held)
        for index, eqn in enumerate(body.jaxpr.eqns):
            if index in found.matches:
                spot = self._spot(body.jaxpr.eqns, found.matches[index], scope, places, came)
                if spot is not None:
                    spots[index] = spot
                    everything.append(spot)
            elif index not in found.absorbed:
                self.hides |= may_bend(eqn) and (scope.under_derivative or internals.is_of_derivative(eqn))
                region = self._region(eqn, scope, found.constants, places, came, frame, index)
                if region is not None:
                    regions[index] = region
                    everything += [spot for inner in region.plans for spot in inner.all_spots]
        return Plan(body, scope, spots, regions, tuple(everything))

    def _recognise(
        self, jaxpr: Jaxpr, numbers: Mapping[Atom, Value], scope: Scope, frame: Frame | None
    ) -> Recognition:
        """A jaxpr called twice with the same numbers is evaluated once; keeping it keeps its id its own."""
        known = tuple((id(v), float(value.at_probes)) for v, value in numbers.items())
        key = (id(jaxpr), scope.plumbing, known)
        if key not in self._walks:
            # JAX's own functions hold a maximum with 0 here and there; what they hold of the user's goes by a name.
            self._walks[key] = (jaxpr, recognise(jaxpr, numbers, scope.plumbing))
        return self._walks[key][1].result(scope.under_derivative, self._graph, frame)

    def _account(self, found: Recognition, frame: Frame | None) -> None:
        if frame is not None:
            for index in (*found.matches, *found.absorbed, *found.copies):
                frame.cover(index)
            self._inputs |= {frame.ids[match.z] for match in found.matches.values()}
            self._outputs |= {frame.ids[match.a] for match in found.matches.values()}

    def _spot(
        self,
        eqns: Sequence[Equation],
        match: Match,
        scope: Scope,
        places: Mapping[Atom, Placement],
        came: Mapping[Atom, Origin],
    ) -> Spot | None:
        eqn = eqns[match.position]
        source = internals.source(eqn) or scope.where.source
        if source is not None and source.is_of_loss:
            return None
        placement = places.get(match.z, {})
        own_axes = internals.varying_axes(match.z.aval) | placement.keys()
        samples = scope.choices.sample_axes
        try:
            layout = layout_of(match.z, own_axes, placement, scope.mesh_sizes, scope.varying, samples)
        except CannotTell as reason:
            self._note(eqn, scope, f"a {match.kind.name} {reason}")
            return None
        differentiated = (
            scope.under_derivative
            or len(eqn.outvars) > 1
            or any(internals.is_of_derivative(eqns[index]) for index in match.interior)
        )
        own = internals.module_path(eqn)
        path = "/".join((*scope.where.path, *own))
        line = _line(source)
        module = _module(match, came)
        holder = "" if own or scope.where.named else module or (source.caller if source is not None else "")
        axes = scope.varying | own_axes
        apart = axes - layout.copies - {layout.units}
        site = Site(
            name=self._unique("/".join(filter(None, (path, holder, match.kind.name)))),
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
        came: Mapping[Atom, Origin],
        frame: Frame | None,
        index: int,
    ) -> Region | None:
        name = eqn.primitive.name
        jaxprs = internals.inner_jaxprs(eqn)
        if name in UNSEEN or (not jaxprs and eqn.outvars and internals.holds_function(eqn)):
            self._note(eqn, scope, UNSEEN.get(name, "a function that cannot be read"))
            if frame is not None:
                frame.cover(index)
            return None
        if not jaxprs:
            return None
        try:
            inners = self._open(eqn, scope)
        except CannotEnter as reason:
            if self._note_sites(eqn, scope, jaxprs, str(reason)) and frame is not None:
                frame.cover(index)
            return None
        if not inners and frame is not None:  # a scan without steps, which runs nothing
            frame.cover(index)
        construct = CONSTRUCTS[name]
        for jaxpr, why in construct.unseen(eqn):
            self._note_sites(eqn, scope, [jaxpr], why)
        plans = []
        placed = of_inner(eqn, places) if inners and inners[0].scope.mesh_sizes else [None] * len(inners)
        frames: Sequence[Frame | None] = [None] * len(inners) if frame is None else frame.inner[index]
        origins = _origin.of_inner(eqn, _origin.inputs_of(eqn, came)) if inners else []
        for inner, placements, of_inner_arguments, inside in zip(
            inners, placed, origins, frames, strict=False
        ):
            atoms = [None if i is None else eqn.invars[i] for i in inner.operands]
            given = [None if atom is None else _number(atom, constants) for atom in atoms]
            # A function of JAX that is a branch, a body or a shard is there because the user gave it.
            own = internals.is_plumbing(inner.jaxpr) and (scope.plumbing or name in CALLS)
            varying = inner.scope.varying | deciding_axes(eqn, places)
            within = replace(inner.scope, plumbing=own, varying=varying)
            plans.append(self.plan(inner.jaxpr, within, given, placements, inside, of_inner_arguments))
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
        source = internals.source(eqn) or scope.where.source
        if source is None or not source.is_of_loss:
            self.opaque.append(Opaque(eqn.primitive.name, why, _line(source)))

    def _note_sites(
        self, eqn: Equation, scope: Scope, jaxprs: Sequence[Jaxpr | ClosedJaxpr], why: str
    ) -> bool:
        """Lists an equation as opaque if there is an activation in it, or a part that is opaque itself."""
        judge = Planner()
        bodies = list(map(internals.body, jaxprs))
        if scope.under_derivative or internals.is_of_derivative(eqn):  # whose own operations bend, too
            count = sum(len(judge.plan(body, Scope()).all_spots) for body in bodies)
        else:
            count = sum(len(judge.plan_function(body, Choices()).all_spots) for body in bodies)
        if not count and not judge.opaque:
            return False
        held = f"{count} activation{'' if count == 1 else 's'} inside"
        self._note(eqn, scope, f"{why}, {held}" if count else f"{why}, with what is opaque inside")
        return True


def _module(match: Match, came: Mapping[Atom, Origin]) -> str:
    """The module of an activation: that of its own parameter, a learned slope, or the one whose parameter came last."""
    slope = None if match.kind.parameter is None else came.get(match.kind.parameter)
    if slope is not None and slope.time == 0 and slope.path:
        return slope.path
    return came[match.z].path if match.z in came else ""


def _number(atom: Atom, constants: Mapping[Atom, Value]) -> Value | None:
    return constant(atom.val) if internals.is_literal(atom) else constants.get(atom)


def _line(source: internals.Source | None) -> str:
    return f"{Path(source.file).name}:{source.line}" if source is not None else ""

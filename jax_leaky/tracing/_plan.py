"""Reads a traced function: finds and names its sites, and lists what is opaque."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jax_leaky.tracing import _jax_internals as internals
from jax_leaky.tracing._branches import Cond
from jax_leaky.tracing._calls import ClosedCall, CustomRule, Jit, Remat
from jax_leaky.tracing._elementwise import CALLS, Value, constant
from jax_leaky.tracing._loops import Scan, While
from jax_leaky.tracing._program import CannotEnter, Construct, Plan, Region, Scope, Spot
from jax_leaky.tracing._recognise import Match, Recognition, recognise
from jax_leaky.tracing._shards import ShardMap
from jax_leaky.tracing._site import Loop, Opaque, Site

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
    "custom_partitioning": "a function with a partitioning rule of its own",
}
"""Primitives whose inside cannot be read as a jaxpr of array operations."""


class Planner:
    """Plans one function. `opaque` grows while jaxprs are planned."""

    def __init__(self) -> None:
        self.opaque: list[Opaque] = []
        self._names: dict[str, int] = {}
        self._recognitions: dict[Any, tuple[Any, Recognition]] = {}

    def plan(self, jaxpr: Any, scope: Scope, given: Sequence[Value | None] = ()) -> Plan:
        """Plans a jaxpr and those inside it.

        Args:
            jaxpr: open or closed.
            scope: what surrounds it.
            given: those of its arguments that are known numbers.
        """
        body = internals.body(jaxpr)
        known = [*map(constant, body.consts), *given]
        numbers = {v: value for v, value in zip(body.invars, known, strict=False) if value is not None}
        found = self._recognise(body.jaxpr, numbers, scope.plumbing)
        spots: dict[int, Spot] = {}
        regions: dict[int, Region] = {}
        everything: list[Spot] = []
        for index, eqn in enumerate(body.jaxpr.eqns):
            if index in found.matches:
                spots[index] = self._spot(eqn, found.matches[index], scope)
                everything.append(spots[index])
            elif index not in found.absorbed:
                region = self._region(eqn, scope, found.constants)
                if region is not None:
                    regions[index] = region
                    everything += [spot for inner in region.plans for spot in inner.all_spots]
        return Plan(body, scope, spots, regions, tuple(everything))

    def _recognise(self, jaxpr: Any, numbers: Mapping[Any, Value], plumbing: bool) -> Recognition:
        """A jaxpr called twice with the same numbers is looked at once; keeping it keeps its id its own."""
        key = (id(jaxpr), plumbing, tuple((id(v), float(value.at_probes)) for v, value in numbers.items()))
        if key not in self._recognitions:
            # JAX's own functions hold a maximum with 0 here and there; what they hold of the user's goes by a name.
            self._recognitions[key] = (jaxpr, recognise(jaxpr, numbers, only_named=plumbing))
        return self._recognitions[key][1]

    def _spot(self, eqn: Any, match: Match, scope: Scope) -> Spot:
        own = internals.module_path(eqn)
        path = "/".join((*scope.path, *own))
        source = internals.source(eqn) or scope.source
        line = _line(source)
        last = match.kind.name if own or scope.named or not line else f"{line} {match.kind.name}"
        axes = scope.varying | internals.varying_axes(match.z.aval)
        site = Site(
            name=self._unique("/".join(filter(None, (path, last)))),
            kind=match.kind.name,
            negative_slope=match.kind.negative_slope,
            shape=tuple(match.z.aval.shape),
            dtype=match.z.aval.dtype,
            source=f"{line} ({source.function})" if source is not None else "",
            path=path,
            inside=scope.inside,
            stacked=scope.front(axes),
            loops=tuple(part for part in scope.stacked if isinstance(part, Loop)),
            conditional=scope.conditional,
            needs_merge=scope.needs_merge,
            fixed=scope.fixed,
        )
        return Spot(site, match, axes, scope)

    def _unique(self, name: str) -> str:
        self._names[name] = self._names.get(name, -1) + 1
        return f"{name}_{self._names[name]}" if self._names[name] else name

    def _region(self, eqn: Any, scope: Scope, constants: Mapping[Any, Value]) -> Region | None:
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
        for inner in inners:
            atoms = [None if i is None else eqn.invars[i] for i in inner.operands]
            given = [None if atom is None else _number(atom, constants) for atom in atoms]
            # A function of JAX that is a branch, a body or a shard is there because the user gave it.
            own = internals.is_plumbing(inner.jaxpr) and (scope.plumbing or name in CALLS)
            plans.append(self.plan(inner.jaxpr, inner.scope.enter(plumbing=own), given))
        return Region(construct, tuple(plans)) if any(plan.all_spots for plan in plans) else None

    def _open(self, eqn: Any, scope: Scope) -> Sequence[Any]:
        name = eqn.primitive.name
        if name not in CONSTRUCTS:
            raise CannotEnter("an operation that is not entered")
        if strange := internals.unknown_parameters(eqn):
            raise CannotEnter(f"it has parameters that are new to this package: {', '.join(strange)}")
        own = internals.module_path(eqn)
        inside = scope.enter(
            path=(*scope.path, *own),
            named=scope.named or bool(own),
            source=internals.source(eqn) or scope.source,
        )
        return CONSTRUCTS[name].open(eqn, inside)

    def _note(self, eqn: Any, scope: Scope, why: str) -> None:
        line = _line(internals.source(eqn) or scope.source)
        self.opaque.append(Opaque(eqn.primitive.name, why, line))

    def _note_sites(self, eqn: Any, scope: Scope, jaxprs: Sequence[Any], why: str) -> None:
        """Lists an equation as opaque if there is an activation in it, or a part that is opaque itself."""
        judge = Planner()
        count = sum(len(judge.plan(jaxpr, Scope()).all_spots) for jaxpr in jaxprs)
        if count or judge.opaque:
            held = f"{count} activation{'' if count == 1 else 's'} inside"
            self._note(eqn, scope, f"{why}, {held}")


def _number(atom: Any, constants: Mapping[Any, Value]) -> Value | None:
    return constant(atom.val) if internals.is_literal(atom) else constants.get(atom)


def _line(source: internals.Source | None) -> str:
    return f"{Path(source.file).name}:{source.line}" if source is not None else ""

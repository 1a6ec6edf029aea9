"""Runs a traced function again, equation by equation, with a visitor at its sites.

The second half is how records leave loops, branches and shards.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._jax_internals import Atom, Equation, Variable
from jax_leaky._tracing._program import Plan, Records, Scope, Spot
from jax_leaky._tracing._sharding import own_part, whole, whole_shape, whole_visit
from jax_leaky._tracing._visitor import Visit, Visitor


def replay(plan: Plan, visitor: Visitor, arguments: Sequence[Any]) -> tuple[list[Any], Records]:
    """The outputs of a plan's jaxpr, and the records of the sites in it and inside it.

    Every equation runs as it was traced, in its order, and so do the equations of an activation, unless a
    visitor replaces it. Equations that are entered are rebuilt with the same jaxprs, in which the same holds.
    """
    jaxpr = plan.body.jaxpr
    values: dict[Atom, Any] = {}
    records: Records = {}
    skipped = _skipped(plan, visitor)
    free = _last_uses(plan)
    taps = _taps(plan, visitor)

    def write(variable: Variable, value: Any) -> None:
        for spot in taps.get(variable, ()):
            assert visitor.tap is not None
            tapped = visitor.tap(spot.site, whole(value, spot.units), visitor.steps)
            own = own_part(tapped, spot.units, internals.shape_of(variable)[-1:])
            value = internals.as_type_of(own, variable.aval)
        values[variable] = value

    def read(atom: Atom) -> Any:
        return atom.val if internals.is_literal(atom) else values[atom]

    for variable, value in zip(plan.body.invars, (*plan.body.consts, *arguments), strict=True):
        write(variable, internals.as_type_of(value, variable.aval))
    for index, eqn in enumerate(jaxpr.eqns):
        if index not in skipped:
            spot, region = plan.spots.get(index), plan.regions.get(index)
            if spot is not None and visitor.wants(spot.site):
                outputs = _visit(eqn, spot, visitor, values, plan, records)
            elif region is not None and any(inner.has_work(visitor) for inner in region.plans):
                inputs = [read(atom) for atom in eqn.invars]
                outputs, inner_records = region.construct.run(eqn, inputs, region.plans, visitor)
                records |= inner_records
            else:
                outputs = internals.bind(eqn, [read(atom) for atom in eqn.invars])
            for variable, value in zip(eqn.outvars, outputs, strict=True):
                write(variable, value)
        for variable in free.get(index, ()):
            values.pop(variable, None)
    return [internals.as_type_of(read(atom), atom.aval) for atom in jaxpr.outvars], records


def _visit(
    eqn: Equation, spot: Spot, visitor: Visitor, values: dict[Atom, Any], plan: Plan, records: Records
) -> list[Any]:
    site, kind = spot.site, spot.match.kind
    z = values[spot.match.z]
    parameter = None if kind.parameter is None else values[kind.parameter]
    if kind.axes is not None and parameter is not None:
        parameter = parameter.reshape(kind.shape(parameter.shape, z.ndim))
    if kind.negated and parameter is not None:
        parameter = -parameter
    if visitor.replace is not None:  # only where the equation has no other output (`Site.fixed`)
        with internals.equation_context(eqn):
            a = visitor.replace(site, Visit(z, None, parameter))
        a = internals.as_type_of(a, spot.match.a.aval)
        outputs = [a]
    else:
        inputs = [atom.val if internals.is_literal(atom) else values[atom] for atom in eqn.invars]
        outputs = internals.bind(eqn, inputs)
        a = outputs[eqn.outvars.index(spot.match.a)]
    if visitor.record is not None:
        # A function that counts itself may be traced again: its counts are no activations of the model's line.
        with internals.equation_context(eqn, own_lines=True):
            records[site.name] = record_at(spot, visitor, Visit(z, a, parameter), plan.scope)
    return outputs


def _taps(plan: Plan, visitor: Visitor) -> dict[Atom, list[Spot]]:
    taps: dict[Atom, list[Spot]] = {}
    if visitor.tap is not None:
        for spot in plan.spots.values():
            if visitor.wants(spot.site) and not spot.site.fixed:
                taps.setdefault(spot.match.z, []).append(spot)
    return taps


def _skipped(plan: Plan, visitor: Visitor) -> set[int]:
    """The equations of replaced activations whose results nothing else needs."""
    if visitor.replace is None:
        return set()
    replaced = {index: spot for index, spot in plan.spots.items() if visitor.wants(spot.site)}
    inner = {i for spot in replaced.values() for i in spot.match.interior} - set(replaced)
    skipped: set[int] = set()
    eqns = plan.body.jaxpr.eqns
    needed = set(internals.variables(plan.body.jaxpr.outvars))
    for index in range(len(eqns) - 1, -1, -1):
        eqn = eqns[index]
        if index in replaced:
            match = replaced[index].match
            needed |= {match.z} if match.kind.parameter is None else {match.z, match.kind.parameter}
        elif index in inner and not needed.intersection(eqn.outvars):
            skipped.add(index)
        else:
            needed.update(internals.variables(eqn.invars))
    return skipped


def _last_uses(plan: Plan) -> dict[int, list[Variable]]:
    """By index of an equation, the variables that nothing needs after it: an eager replay frees their memory."""
    last: dict[Variable, int] = {}
    for index, eqn in enumerate(plan.body.jaxpr.eqns):
        last |= dict.fromkeys(internals.variables(eqn.invars), index)
        last |= dict.fromkeys(eqn.outvars, index)
        if index in plan.spots:
            match = plan.spots[index].match
            last |= {variable: index for variable in (match.z, match.kind.parameter) if variable is not None}
    free: dict[int, list[Variable]] = {}
    kept = set(internals.variables(plan.body.jaxpr.outvars))
    for variable, index in last.items():
        if variable not in kept:
            free.setdefault(index, []).append(variable)
    return free


Merge = Callable[[Any, Any], Any]


class Reached(NamedTuple):
    """The record of a site that is reached only at times: a branch of a cond, the body of a while loop.

    Attributes:
        times: number of times that the site was reached, int32. A scan around it stacks this
            too, unless records are merged.
        record: what `record` gave, zeros where `times` is 0; if it was reached more than once, merged.
    """

    times: Array
    record: Any


def wanted(plans: Sequence[Plan], visitor: Visitor) -> list[Spot]:
    """The spots in some plans that are to be recorded."""
    if visitor.record is None:
        return []
    return [spot for plan in plans for spot in plan.all_spots if visitor.wants(spot.site)]


def record_at(spot: Spot, visitor: Visitor, visit: Visit, scope: Scope) -> Any:
    """The record of one visit."""
    record = visitor.record_of(spot.site, whole_visit(visit, spot.units))
    if spot.site.conditional:
        record = Reached(jnp.ones((), jnp.int32), record)
    return vary(record, spot, scope)


def never(spot: Spot, visitor: Visitor, scope: Scope) -> Reached:
    """What stands for the record of a site that has not been reached (yet), seen from a scope around it."""
    kind = spot.match.kind
    parameter = None
    if kind.parameter is not None:
        lengths = kind.shape(internals.shape_of(kind.parameter), len(internals.shape_of(spot.match.z)))
        parameter = _struct(kind.parameter, spot, lengths)
    z = _struct(spot.match.z, spot)
    spec = jax.eval_shape(lambda visit: visitor.record_of(spot.site, visit), Visit(z, z, parameter))
    front = spot.scope.front(spot.apart, visitor, scope)
    record = jax.tree.map(lambda leaf: jnp.zeros((*front, *leaf.shape), leaf.dtype), spec)
    return vary(Reached(jnp.zeros(front, jnp.int32), record), spot, scope)


def vary(record: Any, spot: Spot, scope: Scope) -> Any:
    """A record typed as the shards of the site differ, so that all branches of a cond give one type."""
    axes = spot.axes & scope.mesh_sizes.keys()
    return jax.tree.map(lambda leaf: internals.as_varying(leaf, axes), record) if axes else record


def fold(older: Records, newer: Records, merge: Merge) -> Records:
    """The records of one more step of a loop; `older` holds `Reached` for every site."""
    return {name: _fold(record, newer[name], merge) for name, record in older.items()}


def settle(records: Records, spots: Sequence[Spot]) -> Records:
    """Folded records, as plain ones where the site was surely reached."""
    conditional = {spot.site.name: spot.site.conditional for spot in spots}
    return {name: record if conditional[name] else record.record for name, record in records.items()}


def fold_shards(records: Any, front: tuple[int, ...], merge: Merge) -> Any:
    """One record out of those of all shards, stacked in front of the axes that are stacked inside."""
    first, rest = jax.tree.map(lambda leaf: leaf[0], records), jax.tree.map(lambda leaf: leaf[1:], records)
    start = first if isinstance(first, Reached) else Reached(jnp.ones(front, jnp.int32), first)
    folded, _ = lax.scan(lambda older, newer: (_fold(older, newer, merge), None), start, rest)
    return folded if isinstance(records, Reached) else folded.record


def _fold(older: Reached, newer: Any, merge: Merge) -> Reached:
    if not isinstance(newer, Reached):
        newer = Reached(jnp.ones_like(older.times), newer)
    # Under disable_jit a loop runs step by step, and merge would see the zeros that stand for no record.
    if _is_never(newer.times):
        return older
    if _is_never(older.times):
        return newer

    def fold_one(older: Reached, newer: Reached) -> Reached:
        merged = merge(older.record, newer.record)
        if jax.tree.flatten(_types(merged)) != jax.tree.flatten(_types(newer.record)):
            raise ValueError(
                f"merge must give a record of the same structure, shapes and dtypes as record does: "
                f"{_types(newer.record)}, got {_types(merged)}."
            )

        def choose(both: Array, old: Array, new: Array) -> Array:
            return jnp.where(newer.times == 0, old, jnp.where(older.times == 0, new, both))

        return Reached(older.times + newer.times, jax.tree.map(choose, merged, older.record, newer.record))

    for _ in range(older.times.ndim):  # axes that stay stacked inside
        fold_one = jax.vmap(fold_one)
    return fold_one(older, newer)


def _is_never(times: Array) -> bool:
    """Whether a site is known not to have been reached; in a trace nothing is known."""
    return not (isinstance(times, jax.core.Tracer) or times.any())


def _types(record: Any) -> Any:
    return jax.tree.map(lambda leaf: f"{jnp.result_type(leaf).name}{list(jnp.shape(leaf))}", record)


def _struct(variable: Variable, spot: Spot, lengths: tuple[int, ...] | None = None) -> Any:
    own = internals.shape_of(variable) if lengths is None else lengths
    shape = whole_shape(own, internals.shape_of(spot.match.z), spot.site.shape)
    return jax.ShapeDtypeStruct(shape, internals.dtype_of(variable))

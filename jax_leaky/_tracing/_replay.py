"""Runs a traced function again, equation by equation, with a visitor at its sites."""

from collections.abc import Sequence
from typing import Any

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing import _records
from jax_leaky._tracing._layout import own_part, whole
from jax_leaky._tracing._program import Plan, Records, Spot
from jax_leaky._tracing._visitor import Visit, Visitor


def replay(plan: Plan, visitor: Visitor, arguments: Sequence[Any]) -> tuple[list[Any], Records]:
    """The outputs of a plan's jaxpr, and the records of the sites in it and inside it.

    Every equation runs as it was traced, in its order, and so do the equations of an activation, unless a
    visitor replaces it. Equations that are entered are rebuilt with the same jaxprs, in which the same holds.
    """
    jaxpr = plan.body.jaxpr
    values: dict[Any, Any] = {}
    records: Records = {}
    skipped = _skipped(plan, visitor)
    free = _last_uses(plan)
    taps = _taps(plan, visitor)

    def write(variable: Any, value: Any) -> None:
        for spot in taps.get(variable, ()):
            assert visitor.tap is not None
            tapped = visitor.tap(spot.site, whole(value, spot.units), visitor.steps)
            own = own_part(tapped, spot.units, variable.aval.shape[-1:])
            value = internals.as_type_of(own, variable.aval)
        values[variable] = value

    def read(atom: Any) -> Any:
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
    eqn: Any, spot: Spot, visitor: Visitor, values: dict[Any, Any], plan: Plan, records: Records
) -> list[Any]:
    site, kind = spot.site, spot.match.kind
    z = values[spot.match.z]
    parameter = None if kind.parameter is None else values[kind.parameter]
    out = eqn.outvars[0]
    if visitor.replace is not None:
        with internals.equation_context(eqn):
            a = visitor.replace(site, Visit(z, None, parameter))
        a = internals.as_type_of(a, out.aval)
    else:
        inputs = [atom.val if internals.is_literal(atom) else values[atom] for atom in eqn.invars]
        (a,) = internals.bind(eqn, inputs)
    if visitor.record is not None:
        with internals.equation_context(eqn):
            records[site.name] = _records.make(spot, visitor, Visit(z, a, parameter), plan.scope)
    return [a]


def _taps(plan: Plan, visitor: Visitor) -> dict[Any, list[Spot]]:
    taps: dict[Any, list[Spot]] = {}
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
    needed = {atom for atom in plan.body.jaxpr.outvars if not internals.is_literal(atom)}
    for index in range(len(eqns) - 1, -1, -1):
        eqn = eqns[index]
        if index in replaced:
            needed |= {replaced[index].match.z, replaced[index].match.kind.parameter}
        elif index in inner and not needed.intersection(eqn.outvars):
            skipped.add(index)
        else:
            needed |= {atom for atom in eqn.invars if not internals.is_literal(atom)}
    return skipped


def _last_uses(plan: Plan) -> dict[int, list[Any]]:
    """By index of an equation, the variables that nothing needs after it: an eager replay frees their memory."""
    last: dict[Any, int] = {}
    for index, eqn in enumerate(plan.body.jaxpr.eqns):
        last |= {atom: index for atom in eqn.invars if not internals.is_literal(atom)}
        last |= dict.fromkeys(eqn.outvars, index)
        if index in plan.spots:
            match = plan.spots[index].match
            last |= {variable: index for variable in (match.z, match.kind.parameter) if variable is not None}
    free: dict[int, list[Any]] = {}
    kept = {atom for atom in plan.body.jaxpr.outvars if not internals.is_literal(atom)}
    for variable, index in last.items():
        if variable not in kept:
            free.setdefault(index, []).append(variable)
    return free

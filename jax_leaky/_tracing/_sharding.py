"""Along which of its dimensions each value inside a shard_map is split over each mesh axis.

Shards that hold other samples are merged unit by unit; shards that hold other units (a layer whose weights are split,
as in tensor parallelism) must not be. Which of the two a mesh axis does at a site follows from how the inputs are
split (`in_specs`) and from the equations between them and the site.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax import Array, lax

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._activations import CALLS, PRIMITIVES
from jax_leaky._tracing._visitor import Visit

COPY = -1
"""All shards hold the same, whatever the type says. It stands for axes over which a value does not differ, too."""
UNKNOWN = -2
"""Shards differ, in no dimension that is known; the last one of no array was involved."""
DOUBTFUL = -3
"""Shards may differ in the last dimension."""

Placement = Mapping[str, int]
"""By mesh axis: a dimension, `COPY`, `UNKNOWN` or `DOUBTFUL`."""

_SAME_RANK = frozenset(
    {
        *PRIMITIVES,
        "sin",
        "cos",
        "tan",
        "atan2",
        "rem",
        "floor",
        "ceil",
        "round",
        "cbrt",
        "stop_gradient",
        "ppermute",
    }
    | {"optimization_barrier", "pcast", "pbroadcast", "rev", "cumsum", "slice", "pad", "dynamic_update_slice"}
    | {"reduce_window", "reduce_window_max", "reduce_window_sum"}
)
"""Primitives that leave each element, or its window, in the dimensions that it was in."""


def of_specs(specs: Sequence[Any]) -> list[Placement]:
    """The placements of the inputs of a shard_map."""
    placements: list[Placement] = []
    for spec in specs:
        axes: dict[str, int] = {}
        for dimension, names in enumerate(spec):
            for name in (names,) if isinstance(names, str) else names or ():
                axes[name] = dimension
        placements.append(axes)
    return placements


def of_variables(body: internals.Body, arguments: Sequence[Placement]) -> dict[Any, Placement]:
    """The placements of all variables of a jaxpr, given those of its arguments."""
    known: dict[Any, Placement] = dict(zip(body.invars[len(body.consts) :], arguments, strict=True))
    for eqn in body.jaxpr.eqns:
        known |= dict(zip(eqn.outvars, _outputs(eqn, _inputs(eqn, known)), strict=True))
    return known


def of_inner(eqn: Any, known: Mapping[Any, Placement]) -> list[list[Placement]]:
    """The placements of the arguments of the jaxprs of an equation that are entered."""
    if eqn.primitive.name == "shard_map":
        specs = of_specs(eqn.params["in_specs"])
        return [[{**around, **own} for around, own in zip(_inputs(eqn, known), specs, strict=True)]]
    return _arguments(eqn, _inputs(eqn, known))


def _inputs(eqn: Any, known: Mapping[Any, Placement]) -> list[Placement]:
    return [{} if internals.is_literal(atom) else known.get(atom, {}) for atom in eqn.invars]


def _arguments(eqn: Any, inputs: list[Placement]) -> list[list[Placement]]:
    name = eqn.primitive.name
    if name == "cond":
        return [inputs[1:] for _ in eqn.params["branches"]]
    if name == "scan":
        consts, carried = internals.scan_split(eqn)
        steps: list[Placement] = [
            {a: d - 1 if d > 0 else UNKNOWN if d == 0 else d for a, d in p.items()} for p in inputs
        ]
        return [
            [*_settled(eqn, eqn.params["jaxpr"], inputs, steps, consts, carried), *steps[consts + carried :]]
        ]
    if name == "while":
        tested, held = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        carried = len(inputs) - tested - held
        return [_settled(eqn, eqn.params["body_jaxpr"], inputs[tested:], [], held, carried)]
    return [inputs]


def _settled(
    eqn: Any, jaxpr: Any, inputs: list[Placement], steps: list[Placement], consts: int, carried: int
) -> list[Placement]:
    """The constants and the carry of a loop, the carry as it is after any number of steps."""
    carry = inputs[consts : consts + carried]
    for _ in range(4 * len(eqn.outvars) + 1):  # a placement moves through at most four states
        after = _results(jaxpr, [*inputs[:consts], *carry, *steps[consts + carried :]])[:carried]
        joined = [_join(old, new) for old, new in zip(carry, after, strict=True)]
        if joined == carry:
            break
        carry = joined
    return [*inputs[:consts], *carry]


def _results(jaxpr: Any, arguments: Sequence[Placement]) -> list[Placement]:
    body = internals.body(jaxpr)
    known = of_variables(body, arguments)
    return [{} if internals.is_literal(atom) else known.get(atom, {}) for atom in body.jaxpr.outvars]


def _join(one: Placement, other: Placement) -> Placement:
    return {axis: _agreed([one.get(axis, COPY), other.get(axis, COPY)]) for axis in {*one, *other}}


def _agreed(states: Sequence[int]) -> int:
    """What values of one shape have in common; one that is known to be split says how the outcome is."""
    dimensions = {state for state in states if state >= 0}
    if DOUBTFUL in states or len(dimensions) > 1:
        return DOUBTFUL
    return dimensions.pop() if dimensions else UNKNOWN if UNKNOWN in states else COPY


def _outputs(eqn: Any, inputs: list[Placement]) -> list[Placement]:
    name = eqn.primitive.name
    if name in {*CALLS, "remat2", "cond", "scan", "while"}:
        arguments = _arguments(eqn, inputs)
        jaxprs = {"while": [eqn.params.get("body_jaxpr")]}.get(name, internals.inner_jaxprs(eqn))
        results = [_results(jaxpr, given) for jaxpr, given in zip(jaxprs, arguments, strict=True)]
        first = results[0]
        for other in results[1:]:
            first = [_join(one, two) for one, two in zip(first, other, strict=True)]
        if name in {"cond", "while"}:
            choice = _choice(eqn, inputs, arguments)
            first = [_join(choice, placement) for placement in first]
        if name == "scan":
            _, carried = internals.scan_split(eqn)
            first[carried:] = [{a: d + 1 if d >= 0 else d for a, d in p.items()} for p in first[carried:]]
        return first
    return [
        {
            axis: _through(eqn, axis, [p.get(axis, COPY) for p in inputs])
            for axis in internals.varying_axes(out.aval)
        }
        for out in eqn.outvars
    ]


def _choice(eqn: Any, inputs: list[Placement], arguments: list[list[Placement]]) -> Placement:
    """The axes along which shards may take other branches, or other numbers of steps, so that nothing is a copy."""
    decides = inputs[0]
    if eqn.primitive.name == "while":
        tested, held = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        (decides,) = _results(eqn.params["cond_jaxpr"], [*inputs[:tested], *arguments[0][held:]])
    return {axis: UNKNOWN for axis, place in decides.items() if place != COPY}


def _through(eqn: Any, axis: str, states: list[int]) -> int:
    """Where an equation puts the dimension that is split over a mesh axis."""
    name, parameters = eqn.primitive.name, eqn.params
    if axis in internals.collective_axes(eqn) and name != "ppermute":
        everywhere = COPY if parameters.get("axis_index_groups") is None else DOUBTFUL
        after = {"all_gather": everywhere, "axis_index": UNKNOWN}
        return after.get(name, parameters.get("scatter_dimension", DOUBTFUL))
    if all(state == COPY for state in states):
        return COPY
    ranks = [len(getattr(atom.aval, "shape", ())) for atom in eqn.invars]
    last = any(state == rank - 1 > 0 for state, rank in zip(states, ranks, strict=True))
    lost = DOUBTFUL if last or DOUBTFUL in states else UNKNOWN
    if DOUBTFUL in states:
        return DOUBTFUL
    d = states[0]
    if name in _SAME_RANK:
        return _agreed(states)
    if name == "dynamic_slice":  # a part that depends on the shard may be a part of the units
        return d if all(state == COPY for state in states[1:]) else DOUBTFUL
    if name == "concatenate":
        known = set(states)
        return lost if len(known) > 1 and parameters["dimension"] in known else _agreed(states)
    if name == "dot_general":
        return _dot(parameters["dimension_numbers"], states, ranks, lost)
    if name == "conv_general_dilated":
        return _conv(parameters, states, lost)
    if name == "gather":
        return _gather(parameters, states, len(eqn.outvars[0].aval.shape), lost)
    if d < 0:
        return lost
    if name == "broadcast_in_dim":
        return int(parameters["broadcast_dimensions"][d])
    if name == "transpose":
        return tuple(parameters["permutation"]).index(d)
    if name == "squeeze":
        gone = parameters["dimensions"]
        return lost if d in gone else d - sum(dimension < d for dimension in gone)
    if name == "reshape":
        return _reshape(d, eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape, lost)
    if name.startswith(("reduce_", "arg")) and "axes" in parameters:
        return lost if d in parameters["axes"] else d - sum(dimension < d for dimension in parameters["axes"])
    if name == "all_gather":
        return d + (not parameters["tiled"] and d >= parameters["all_gather_dimension"])
    return lost


def _dot(numbers: Any, states: list[int], ranks: list[int], lost: int) -> int:
    contracted, batched = numbers
    split = [side for side in (0, 1) if states[side] >= 0]
    if any(states[side] in contracted[side] for side in split) or UNKNOWN in states:
        return lost
    if all(states[side] in batched[side] for side in split):
        places = {tuple(batched[side]).index(states[side]) for side in split}
        return places.pop() if len(places) == 1 else lost
    if len(split) > 1:
        return lost
    (side,) = split
    free = [[i for i in range(ranks[s]) if i not in contracted[s] and i not in batched[s]] for s in (0, 1)]
    return len(batched[0]) + side * len(free[0]) + free[side].index(states[side])


def _conv(parameters: Mapping[str, Any], states: list[int], lost: int) -> int:
    numbers = parameters["dimension_numbers"]
    image, kernel = states[:2]
    if image >= 0 and image != numbers.lhs_spec[1] and kernel == COPY:
        return int(numbers.out_spec[numbers.lhs_spec.index(image)])
    depthwise = parameters["feature_group_count"] > 1 and image == numbers.lhs_spec[1]
    if kernel == numbers.rhs_spec[0] and (image == COPY or depthwise):
        return int(numbers.out_spec[1])
    return lost


def _gather(parameters: Mapping[str, Any], states: list[int], rank: int, lost: int) -> int:
    numbers = parameters["dimension_numbers"]
    operand, indices = states[:2]
    if operand == COPY and indices >= 0:
        places = [i for i in range(rank) if i not in numbers.offset_dims]
        return places[indices] if indices < len(places) else lost
    # The part of an array that a shard takes by its own number may be a part of the units.
    return DOUBTFUL if (operand, indices) == (COPY, UNKNOWN) else lost


def _reshape(d: int, old: Sequence[int], new: Sequence[int], lost: int) -> int:
    before = math.prod(old[:d])
    for e, size in enumerate(new):
        start = math.prod(new[:e])
        starts_here = start == before and (size > 1 or old[d] == 1)
        if starts_here and (size % old[d] == 0 or old[d] % size == 0):
            return e
        if start < before < start * size:  # a minor part of a merged dimension
            return DOUBTFUL if e == len(new) - 1 else e
    return lost


class Layout(NamedTuple):
    """How z lies on the shards.

    Attributes:
        shape: of z in one shard, with all units.
        units: the mesh axis over which the units are spread, None if every shard holds all of them.
        copies: the mesh axes over which z differs by its type alone.
    """

    shape: tuple[int, ...]
    units: str | None = None
    copies: frozenset[str] = frozenset()


def layout_of(
    z: Any, axes: frozenset[str], placement: Placement, sizes: Mapping[str, int], branching: frozenset[str]
) -> Layout | None:
    """The layout of a site, None where its units may be spread in a way that is not known.

    Args:
        z: the type of the activation's input in one shard.
        axes: the mesh axes along which it differs by its type.
        placement: how it is split.
        sizes: of the mesh axes.
        branching: the mesh axes along which shards may take different branches, so that they cannot exchange units.
    """
    shape = tuple(z.shape)
    places = {axis: placement.get(axis, COPY) for axis in axes}
    spread = [axis for axis, place in places.items() if place == len(shape) - 1]
    if DOUBTFUL in places.values() or len(spread) > 1 or not branching.isdisjoint(spread):
        return None
    copies = frozenset(axis for axis, place in places.items() if place == COPY) - branching
    if not spread:
        return Layout(shape, None, copies)
    return Layout((*shape[:-1], shape[-1] * sizes[spread[0]]), spread[0], copies)


def whole(x: Array, axis: str | None) -> Array:
    """An array with the units of all shards; `axis` as in `Layout.units`."""
    return x if axis is None else lax.all_gather(x, axis, axis=x.ndim - 1, tiled=True)


def own_part(x: Array, axis: str | None, last: Sequence[int]) -> Array:
    """The part of `whole(x)` that lies on the shard; `last` is the shape of its last axis."""
    if axis is None:
        return x
    (units,) = last
    return lax.dynamic_slice_in_dim(x, lax.axis_index(axis) * units, units, x.ndim - 1)


def whole_visit(visit: Visit, axis: str | None) -> Visit:
    """What stands at a site, with all units; a slope for each unit is brought together like z."""
    if axis is None:
        return visit
    units = visit.z.shape[-1]
    return jax.tree.map(
        lambda leaf: whole(lax.stop_gradient(leaf), axis) if leaf.shape[-1:] == (units,) else leaf, visit
    )


def whole_shape(shape: tuple[int, ...], z: tuple[int, ...], layout: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that `whole_visit` gives to an array of `shape` at a site of z."""
    return (*shape[:-1], layout[-1]) if shape and shape[-1] == z[-1] else shape


def first_copy(leaf: Array, sizes: Mapping[str, int], apart: frozenset[str]) -> Array:
    """Records that are stacked in front over all mesh axes of `sizes`, stacked over those in `apart` alone."""
    rest = leaf.shape[1:]
    leaf = leaf.reshape(*sizes.values(), *rest)
    leaf = leaf[tuple(slice(None) if axis in apart else 0 for axis in sizes)]
    kept = [size for axis, size in sizes.items() if axis in apart]
    return leaf.reshape(*([math.prod(kept)] if kept else []), *rest)

"""Whether the shards of a shard_map hold other samples of a site's units, or other units.

Shards that hold other samples are merged unit by unit; shards that hold other units (a layer whose weights are split,
as in tensor parallelism) must be brought together first. The user says which mesh axes hold samples (`sample_axes`).
For an axis that is not named, the split of each value is followed from the `in_specs` through the program: a split
along the last dimension is one of units, and along any other dimension one of samples. Where the split is lost, the
site is opaque, and the message names the argument.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax import Array, lax

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._jax_internals import Atom, ClosedJaxpr, Equation, Jaxpr, Variable
from jax_leaky._tracing._values import CALLS, PRIMITIVES
from jax_leaky._tracing._visitor import Visit

WHOLE = -1
"""Shards differ as a whole, in no dimension that is known."""
DOUBTFUL = -2
"""Shards may differ in the last dimension."""

Placement = Mapping[str, int]
"""By mesh axis: the dimension that is split over it, `WHOLE` or `DOUBTFUL`; no entry where all shards are alike,
whatever the type says."""

_SAME_RANK = frozenset(
    {*PRIMITIVES, "sin", "cos", "tan", "atan2", "rem", "floor", "ceil", "round", "cbrt", "stop_gradient", "ppermute"}
    | {"optimization_barrier", "pcast", "pbroadcast", "rev", "cumsum", "slice", "pad", "dynamic_update_slice"}
    | {"reduce_window", "reduce_window_max", "reduce_window_sum", "psum", "psum_invariant", "pmax", "pmin"}
)  # fmt: skip
"""Primitives that leave each element, or its window, in the dimensions that it was in; a sum over shards for the mesh
axes that it leaves."""


_MAKE_ALIKE = ("all_gather", "psum", "pmax", "pmin")
"""Collectives that give all shards the same, their variants included."""


def of_specs(specs: Iterable[Any]) -> list[Placement]:
    """The placements of the inputs of a shard_map."""
    return [
        {
            name: dimension
            for dimension, names in enumerate(spec)
            for name in ((names,) if isinstance(names, str) else names or ())
        }
        for spec in specs
    ]


def of_variables(body: internals.Body, arguments: Sequence[Placement]) -> dict[Atom, Placement]:
    """The placements of all variables of a jaxpr, given those of its arguments."""
    known: dict[Atom, Placement] = dict(zip(body.arguments, arguments, strict=True))
    for eqn in body.jaxpr.eqns:
        known |= dict(zip(eqn.outvars, _outputs(eqn, _inputs(eqn, known)), strict=True))
    return known


def of_inner(eqn: Equation, known: Mapping[Atom, Placement]) -> list[list[Placement]]:
    """The placements of the arguments of the jaxprs of an equation that are entered."""
    if eqn.primitive.name == "shard_map":
        specs = of_specs(internals.shard_map(eqn).in_specs)
        return [[{**around, **own} for around, own in zip(_inputs(eqn, known), specs, strict=True)]]
    return [given for _, given in _entered(eqn, _inputs(eqn, known))]


def deciding_axes(eqn: Equation, known: Mapping[Atom, Placement]) -> frozenset[str]:
    """The mesh axes along which shards may take other branches of an equation, or another number of steps."""
    return frozenset(_decides(eqn, _inputs(eqn, known)))


def _inputs(eqn: Equation, known: Mapping[Atom, Placement]) -> list[Placement]:
    return [{} if internals.is_literal(atom) else known.get(atom, {}) for atom in eqn.invars]


def _entered(eqn: Equation, inputs: list[Placement]) -> list[tuple[ClosedJaxpr | Jaxpr, list[Placement]]]:
    """The jaxprs that are entered, with the placements of their arguments."""
    name = eqn.primitive.name
    if name == "cond":
        return [(branch, inputs[1:]) for branch in internals.branches(eqn)]
    if name == "while":
        loop = internals.while_loop(eqn)
        return [(loop.step, _settled(loop.step, inputs[loop.tested :], loop.held))]
    if name == "scan":
        scan = internals.scan(eqn)
        split = scan.consts + scan.carried
        # A step is given its part along dimension 0, whichever shard that came from.
        steps = [{axis: max(d - 1, WHOLE) if d >= 0 else d for axis, d in p.items()} for p in inputs[split:]]
        return [(scan.jaxpr, _settled(scan.jaxpr, [*inputs[:split], *steps], scan.consts, scan.carried))]
    return [(jaxpr, inputs) for jaxpr in internals.inner_jaxprs(eqn)]


def _settled(
    jaxpr: ClosedJaxpr, inputs: list[Placement], consts: int, carried: int | None = None
) -> list[Placement]:
    """The arguments of a loop's body, with the carry as it is after any number of steps."""
    end = len(inputs) if carried is None else consts + carried
    while True:  # a placement only moves from whole to a dimension to doubtful
        carry = inputs[consts:end]
        after = _results(jaxpr, inputs)[: len(carry)]
        joined = [_join(old, new) for old, new in zip(carry, after, strict=True)]
        if joined == carry:
            return inputs
        inputs = [*inputs[:consts], *joined, *inputs[end:]]


def _results(jaxpr: ClosedJaxpr | Jaxpr, arguments: Sequence[Placement]) -> list[Placement]:
    body = internals.body(jaxpr)
    known = of_variables(body, arguments)
    return [{} if internals.is_literal(atom) else known.get(atom, {}) for atom in body.jaxpr.outvars]


def _join(*placements: Placement) -> Placement:
    axes = {axis for placement in placements for axis in placement}
    return {axis: _agreed([p[axis] for p in placements if axis in p]) for axis in axes}


def _agreed(states: Iterable[int]) -> int:
    """What values of one shape have in common; one that is known to be split decides."""
    found = set(states) - {WHOLE}
    return WHOLE if not found else found.pop() if len(found) == 1 else DOUBTFUL


def _outputs(eqn: Equation, inputs: list[Placement]) -> list[Placement]:
    name = eqn.primitive.name
    if name in {*CALLS, "remat2", "cond", "scan", "while"}:
        results = [_results(jaxpr, given) for jaxpr, given in _entered(eqn, inputs)]
        joined = [_join(*alternatives) for alternatives in zip(*results, strict=True)]
        carried = internals.scan(eqn).carried if name == "scan" else len(joined)
        stacked = [{axis: d + (d >= 0) for axis, d in p.items()} for p in joined[carried:]]
        choice = dict.fromkeys(_decides(eqn, inputs), WHOLE)
        return [_join(placement, choice) for placement in (*joined[:carried], *stacked)]
    # JAX's types say the same where there are any; under check_vma=False, and so in a pmap, there are none.
    axes = {axis for placement in inputs for axis in placement} | set(internals.collective_axes(eqn))
    through = {axis: _through(eqn, axis, inputs) for axis in sorted(axes)}
    return [{axis: place for axis, place in through.items() if place is not None}] * len(eqn.outvars)


def _decides(eqn: Equation, inputs: list[Placement]) -> Placement:
    """The placement of what decides which branch is taken, or how many steps."""
    if eqn.primitive.name == "cond":
        return inputs[0]
    if eqn.primitive.name == "while":
        loop = internals.while_loop(eqn)
        ((_, arguments),) = _entered(eqn, inputs)
        return _results(loop.test, [*inputs[: loop.tested], *arguments[loop.held :]])[0]
    return {}


def _through(eqn: Equation, axis: str, inputs: list[Placement]) -> int | None:
    """Where an equation puts the dimension that is split over a mesh axis; None if it makes all shards alike."""
    name = eqn.primitive.name
    states = {i: placement[axis] for i, placement in enumerate(inputs) if axis in placement}
    if axis in internals.collective_axes(eqn) and name != "ppermute":
        if name.startswith(_MAKE_ALIKE) and eqn.params.get("axis_index_groups") is None:
            return None
        return WHOLE if name == "axis_index" else eqn.params.get("scatter_dimension", DOUBTFUL)
    if not states or DOUBTFUL in states.values():
        return DOUBTFUL if states else None
    if name in {"gather", "dynamic_slice"} and WHOLE in [state for i, state in states.items() if i > 0]:
        return DOUBTFUL  # what a shard takes by a number of its own may be its part of the units
    if name in _SAME_RANK or name == "dynamic_slice":
        return _agreed(states.values())
    split = {i: d for i, d in states.items() if d >= 0}
    places = {_place(eqn, i, d) for i, d in split.items()}
    is_product = name in {"dot_general", "conv_general_dilated"}
    if len(places) == 1 and None not in places and not (is_product and WHOLE in states.values()):
        return places.pop()
    # The dimension is gone, or each shard has weights of its own. If it was the last one, so may the units be.
    last = any(d == len(internals.shape_of(eqn.invars[i])) - 1 > 0 for i, d in split.items())
    return DOUBTFUL if last or len(places) > 1 else WHOLE


def _place(eqn: Equation, i: int, d: int) -> int | None:
    """Where dimension `d` of input `i` is in the output: there, nowhere (None), or `DOUBTFUL`."""
    name, parameters = eqn.primitive.name, eqn.params
    shapes = [internals.shape_of(atom) for atom in eqn.invars]
    if name == "dot_general":
        contracted, batched = parameters["dimension_numbers"]
        free = [[e for e in range(len(shapes[s])) if e not in (*contracted[s], *batched[s])] for s in (0, 1)]
        if d in batched[i]:
            return tuple(batched[i]).index(d)
        return len(batched[i]) + i * len(free[0]) + free[i].index(d) if d in free[i] else None
    if name == "conv_general_dilated":
        numbers = parameters["dimension_numbers"]
        if i == 0 and d != numbers.lhs_spec[1]:
            return int(numbers.out_spec[numbers.lhs_spec.index(d)])
        # The channels of the output are those of the kernel, or those of the image where each has a kernel of its own.
        channels = i == 1 and d == numbers.rhs_spec[0]
        depthwise = i == 0 and parameters["feature_group_count"] > 1
        return int(numbers.out_spec[1]) if channels or depthwise else None
    if name == "gather":
        kept = parameters["dimension_numbers"].offset_dims
        places = [e for e in range(len(internals.shape_of(eqn.outvars[0]))) if e not in kept]
        return places[d] if i == 1 and d < len(places) else None
    if name in {"concatenate", "split"}:
        return d if d != parameters["dimension" if name == "concatenate" else "axis"] else None
    if name == "broadcast_in_dim":
        return int(parameters["broadcast_dimensions"][d])
    if name == "transpose":
        return tuple(parameters["permutation"]).index(d)
    if name == "reshape":
        # `vmap` of a convolution makes reshapes that transpose first.
        order = tuple(parameters["dimensions"] or range(len(shapes[0])))
        old = [shapes[0][axis] for axis in order]
        return _reshape(order.index(d), old, internals.shape_of(eqn.outvars[0]))
    if name.startswith("all_gather"):
        return d + (not parameters["tiled"] and d >= parameters["all_gather_dimension"])
    gone = parameters.get("dimensions" if name == "squeeze" else "axes")
    if gone is None or d in gone or not name.startswith(("squeeze", "reduce_", "arg")):
        return None
    return d - sum(other < d for other in gone)


def _reshape(d: int, old: Sequence[int], new: Sequence[int]) -> int | None:
    before = math.prod(old[:d])
    for e, size in enumerate(new):
        start = math.prod(new[:e])
        if start == before and (size > 1 or old[d] == 1) and (size % old[d] == 0 or old[d] % size == 0):
            return e
        if start < before < start * size:  # a minor part of a merged dimension
            return e if e < len(new) - 1 else DOUBTFUL
    return None


class Layout(NamedTuple):
    """How z lies on the shards.

    Attributes:
        shape: shape of z in one shard, with all units.
        units: mesh axis over which the units are spread, None if every shard holds all of them.
        copies: mesh axes over which z differs by its type alone.
    """

    shape: tuple[int, ...]
    units: str | None = None
    copies: frozenset[str] = frozenset()


class CannotTell(Exception):  # noqa: N818 it is a message between two functions, not an error of the user's
    """It is not known what a mesh axis holds; the text says which."""


def layout_of(
    z: Variable,
    axes: frozenset[str],
    placement: Placement,
    sizes: Mapping[str, int],
    branching: frozenset[str],
    samples: frozenset[str],
) -> Layout:
    """The layout of a site.

    Args:
        z: the activation's input in one shard.
        axes: mesh axes along which it differs by its type.
        placement: split of the array over the mesh axes.
        sizes: sizes of the mesh axes.
        branching: mesh axes along which shards may take different branches, so that they cannot exchange units.
        samples: mesh axes that hold samples by the user's word.

    Raises:
        CannotTell: it is not known whether shards hold other samples or other units.
    """
    shape = internals.shape_of(z)
    single = frozenset(
        axis for axis in axes if sizes.get(axis) == 1
    )  # of a shard_map around fn nothing is known
    places = {axis: placement[axis] for axis in sorted(axes - samples - single) if axis in placement}
    spread = [axis for axis, place in places.items() if place == len(shape) - 1]
    clear = len(spread) <= 1 and branching.isdisjoint(spread)
    doubtful = [axis for axis, place in places.items() if place < 0 or (axis in spread and not clear)]
    if doubtful:
        raise CannotTell(
            f"whose shards along the mesh axis {' and '.join(doubtful)} hold other samples or other units; if samples, "
            f"say so by sample_axes={doubtful}"
        )
    copies = single | (axes - samples - placement.keys() - branching)
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

"""How records leave loops, branches and shards."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._layout import whole_shape, whole_visit
from jax_leaky._tracing._program import Plan, Records, Scope, Spot
from jax_leaky._tracing._visitor import Visit, Visitor

Merge = Callable[[Any, Any], Any]


class Reached(NamedTuple):
    """The record of a site that is reached only at times: a branch of a cond, the body of a while loop.

    Attributes:
        times: how often it was reached, int32. A scan around it stacks this too, unless records are merged.
        record: what `record` gave, zeros where `times` is 0; if it was reached more than once, merged.
    """

    times: Array
    record: Any


def wanted(plans: Sequence[Plan], visitor: Visitor) -> list[Spot]:
    """The spots in some plans that are to be recorded."""
    if visitor.record is None:
        return []
    return [spot for plan in plans for spot in plan.all_spots if visitor.wants(spot.site)]


def make(spot: Spot, visitor: Visitor, visit: Visit, scope: Scope) -> Any:
    """The record of one visit."""
    record = visitor.record_of(spot.site, whole_visit(visit, spot.units))
    if spot.site.conditional:
        record = Reached(jnp.ones((), jnp.int32), record)
    return vary(record, spot, scope)


def never(spot: Spot, visitor: Visitor, scope: Scope) -> Reached:
    """What stands for the record of a site that has not been reached (yet), seen from a scope around it."""
    kind = spot.match.kind
    parameter = None if kind.parameter is None else _struct(kind.parameter, spot)
    z = _struct(spot.match.z, spot)
    spec = jax.eval_shape(lambda visit: visitor.record_of(spot.site, visit), Visit(z, z, parameter))
    front = spot.scope.front(spot.apart, visitor, scope)
    record = jax.tree.map(lambda leaf: jnp.zeros((*front, *leaf.shape), leaf.dtype), spec)
    return vary(Reached(jnp.zeros(front, jnp.int32), record), spot, scope)


def vary(record: Any, spot: Spot, scope: Scope) -> Any:
    """A record typed as the shards of the site differ, so that all branches of a cond give one type."""
    axes = spot.axes & scope.manual
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


def _types(record: Any) -> Any:
    return jax.tree.map(lambda leaf: f"{jnp.result_type(leaf).name}{list(jnp.shape(leaf))}", record)


def _struct(variable: Any, spot: Spot) -> Any:
    shape = whole_shape(variable.aval.shape, spot.match.z.aval.shape, spot.site.shape)
    return jax.ShapeDtypeStruct(shape, variable.aval.dtype)

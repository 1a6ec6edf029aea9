"""`jax.shard_map`: each shard records what it sees; copies of one shard are recorded once."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import PartitionSpec

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._layout import first_copy
from jax_leaky._tracing._program import CannotEnter, Inner, Plan, Records, Scope, Shards, Spot
from jax_leaky._tracing._replay import fold_shards, replay, wanted
from jax_leaky._tracing._visitor import Visitor


class ShardMap:
    """A function mapped over shards.

    A record gains an axis in front for the shards that differ (`Site.stacked`), or the shards' records are
    merged. Shards that hold other units are brought together before (`_layout`). JAX's types tell along which
    mesh axes the values at a site differ: along the others all shards hold the same, and counting each of them would
    count every sample several times over.
    """

    def open(self, eqn: Any, scope: Scope) -> Sequence[Inner]:
        """Its body."""
        if not eqn.params["check_vma"]:
            raise CannotEnter(
                "a shard_map with check_vma=False does not tell which shards hold the same values"
            )
        mesh, axes = eqn.params["mesh"], eqn.params["newly_manual_axes"]
        shards = Shards(tuple((name, mesh.shape[name]) for name in mesh.axis_names if name in axes))
        inside = scope.enter(
            inside=(*scope.inside, f"shard_map over {', '.join(name for name, _ in shards.sizes)}"),
            stacked=(*scope.stacked, shards),
            manual=scope.manual | axes,
        )
        return [Inner(eqn.params["jaxpr"], inside, tuple(range(len(eqn.invars))))]

    def unseen(self, eqn: Any) -> Sequence[tuple[Any, str]]:
        """Nothing."""
        del eqn
        return ()

    def run(
        self, eqn: Any, values: Sequence[Any], plans: Sequence[Plan], visitor: Visitor
    ) -> tuple[list[Any], Records]:
        """A shard_map of the replay."""
        (plan,) = plans
        mesh, axes = eqn.params["mesh"], eqn.params["newly_manual_axes"]
        spots = {spot.site.name: spot for spot in wanted(plans, visitor)}

        def differing(spot: Spot) -> tuple[str, ...]:
            return tuple(name for name in mesh.axis_names if name in axes and name in spot.axes)

        def spec(spot: Spot) -> PartitionSpec:
            return PartitionSpec(differing(spot)) if differing(spot) else PartitionSpec()

        def replayed(*arguments: Any) -> tuple[list[Any], Records]:
            outputs, records = replay(plan, visitor, arguments)
            for name, spot in spots.items():
                if differing(spot):
                    records[name] = jax.tree.map(lambda leaf: leaf[None], records[name])
            return outputs, records

        specs = {name: spec(spot) for name, spot in spots.items()}
        with internals.equation_context(eqn):
            outputs, records = jax.shard_map(
                replayed,
                mesh=mesh,
                in_specs=tuple(eqn.params["in_specs"]),
                out_specs=(list(eqn.params["out_specs"]), specs),
                axis_names=set(axes),
                check_vma=True,
            )(*values)
            for name, spot in spots.items():
                sizes = {axis: mesh.shape[axis] for axis in differing(spot)}
                if not sizes.keys() <= spot.apart:
                    one_of_each = functools.partial(first_copy, sizes=sizes, apart=spot.apart)
                    everywhere = jax.tree.map(internals.replicated, records[name])
                    records[name] = jax.tree.map(one_of_each, everywhere)
                if visitor.merge is not None and not sizes.keys().isdisjoint(spot.apart):
                    everywhere = jax.tree.map(internals.replicated, records[name])
                    front = spot.scope.front(spot.apart, visitor, plan.scope)
                    records[name] = fold_shards(everywhere, front, visitor.merge)
        return outputs, records

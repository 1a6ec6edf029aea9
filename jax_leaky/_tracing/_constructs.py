"""The equations with jaxprs inside that replay rebuilds: calls, conditionals, loops and shards."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._program import CannotEnter, Inner, Plan, Records, Scope, Shards, Spot
from jax_leaky._tracing._replay import fold, fold_shards, never, replay, settle, wanted
from jax_leaky._tracing._sharding import first_copy
from jax_leaky._tracing._site import Loop
from jax_leaky._tracing._visitor import Visitor


class _Call:
    """A construct with one jaxpr that takes the equation's own inputs."""

    def open(self, eqn: Any, scope: Scope) -> Sequence[Inner]:
        (jaxpr,) = internals.inner_jaxprs(eqn)
        return [Inner(jaxpr, scope, tuple(range(len(eqn.invars))))]

    def unseen(self, eqn: Any) -> Sequence[tuple[Any, str]]:
        del eqn
        return ()


class Jit(_Call):
    """A jit inside the function: it stays one, so that what it computes is compiled as before."""

    def open(self, eqn: Any, scope: Scope) -> Sequence[Inner]:
        """Its jaxpr, in the scope of the caller."""
        if internals.has_layouts(eqn):
            raise CannotEnter("a jit that fixes memory layouts")
        return super().open(eqn, scope)

    def run(
        self, eqn: Any, values: Sequence[Any], plans: Sequence[Plan], visitor: Visitor
    ) -> tuple[list[Any], Records]:
        """A jit of the replay."""
        (plan,) = plans

        def replayed(*arguments: Any) -> tuple[list[Any], Records]:
            return replay(plan, visitor, arguments)

        replayed.__name__ = internals.call_name(eqn)
        with internals.equation_context(eqn):
            return jax.jit(replayed, **internals.jit_options(eqn))(*values)


class ClosedCall(_Call):
    """A call without any meaning of its own: its equations take its place."""

    def run(
        self, eqn: Any, values: Sequence[Any], plans: Sequence[Plan], visitor: Visitor
    ) -> tuple[list[Any], Records]:
        """The replay."""
        with internals.equation_context(eqn):
            return replay(plans[0], visitor, values)


class Remat(_Call):
    """`jax.checkpoint`, kept with its policy."""

    def open(self, eqn: Any, scope: Scope) -> Sequence[Inner]:
        """Its jaxpr, in the scope of the caller."""
        if eqn.params["differentiated"]:
            raise CannotEnter("the recomputation of a gradient")
        return super().open(eqn, scope)

    def run(
        self, eqn: Any, values: Sequence[Any], plans: Sequence[Plan], visitor: Visitor
    ) -> tuple[list[Any], Records]:
        """A checkpoint of the replay."""
        (plan,) = plans

        def replayed(*arguments: Any) -> tuple[list[Any], Records]:
            return replay(plan, visitor, arguments)

        checkpointed = jax.checkpoint(
            replayed, prevent_cse=eqn.params["prevent_cse"], policy=eqn.params["policy"]
        )
        with internals.equation_context(eqn):
            return checkpointed(*values)


class CustomRule(_Call):
    """A `jax.custom_jvp` or `jax.custom_vjp` whose body holds activations.

    The call itself runs as it is, so that its value and its gradient stay those of the user's rule. The records
    come from a second run of the body beside it, through which no gradient flows; within one jit XLA shares what
    the two have in common. Replacing an activation in there would leave the rule of another function in place.
    """

    def open(self, eqn: Any, scope: Scope) -> Sequence[Inner]:
        """Its body."""
        inner = super().open(eqn, scope)
        rule = eqn.primitive.name.removesuffix("_call")
        if internals.body(inner[0].jaxpr).jaxpr.effects:
            raise CannotEnter(f"a {rule} function with side effects, which would take place twice")
        name = internals.call_name(eqn)
        inside = scope.enter(
            inside=(*scope.inside, f"{rule} {name}"),
            fixed=f"the {rule} rule of {name} is the derivative of the function as it is",
        )
        return [Inner(jaxpr, inside, operands) for jaxpr, _, operands in inner]

    def run(
        self, eqn: Any, values: Sequence[Any], plans: Sequence[Plan], visitor: Visitor
    ) -> tuple[list[Any], Records]:
        """The call as it is, and the records of its body."""
        outputs = internals.bind(eqn, values)
        with internals.equation_context(eqn):
            still = [lax.stop_gradient(value) for value in values]
            _, records = replay(plans[0], visitor.without_tap(), still)
        return outputs, records


class Cond:
    """A conditional. Each branch gives the records of all branches: its own, and `never` for the others'."""

    def open(self, eqn: Any, scope: Scope) -> Sequence[Inner]:
        """Its branches; branch 0 of a two-way cond is the one for False."""
        index = eqn.invars[0]
        varying = scope.varying | (
            frozenset() if internals.is_literal(index) else internals.varying_axes(index.aval)
        )
        operands = tuple(range(1, len(eqn.invars)))
        return [
            Inner(
                branch,
                scope.enter(
                    path=(*scope.path, f"branch_{number}"),
                    inside=(*scope.inside, f"branch {number}"),
                    conditional=True,
                    varying=varying,
                ),
                operands,
            )
            for number, branch in enumerate(eqn.params["branches"])
        ]

    def unseen(self, eqn: Any) -> Sequence[tuple[Any, str]]:
        """Nothing."""
        del eqn
        return ()

    def run(
        self, eqn: Any, values: Sequence[Any], plans: Sequence[Plan], visitor: Visitor
    ) -> tuple[list[Any], Records]:
        """A switch over replays of the branches."""

        def branch(plan: Plan) -> Callable[..., tuple[list[Any], Records]]:
            others = [other for other in plans if other is not plan]

            def replayed(*arguments: Any) -> tuple[list[Any], Records]:
                outputs, records = replay(plan, visitor, arguments)
                absent = wanted(others, visitor)
                return outputs, records | {
                    spot.site.name: never(spot, visitor, plan.scope) for spot in absent
                }

            return replayed

        index, *operands = values
        with internals.equation_context(eqn):
            return lax.switch(index, [branch(plan) for plan in plans], *operands)


class Scan:
    """A scan, or a fori_loop with a known number of steps. Records are stacked per step, or merged in the carry."""

    def open(self, eqn: Any, scope: Scope) -> Sequence[Inner]:
        """Its body; nothing where it takes no step."""
        length = eqn.params["length"]
        if length == 0:
            return ()
        consts, carried = internals.scan_split(eqn)
        path = (*scope.path, "scan")
        loop = Loop(length, _has_weights_per_step(eqn.params["jaxpr"], consts, carried), "/".join(path))
        inside = scope.enter(
            path=path, inside=(*scope.inside, f"scan of {length}"), stacked=(*scope.stacked, loop)
        )
        operands = tuple(i if i < consts else None for i in range(len(eqn.invars)))
        return [Inner(eqn.params["jaxpr"], inside, operands)]

    def unseen(self, eqn: Any) -> Sequence[tuple[Any, str]]:
        """Nothing."""
        del eqn
        return ()

    def run(
        self, eqn: Any, values: Sequence[Any], plans: Sequence[Plan], visitor: Visitor
    ) -> tuple[list[Any], Records]:
        """A scan of the replay."""
        (plan,) = plans
        loop = plan.scope.stacked[-1]
        assert isinstance(loop, Loop)
        merge = visitor.merge if visitor.folds(loop) else None
        spots = wanted(plans, visitor)
        consts, carried = internals.scan_split(eqn)
        constants, carry, xs = values[:consts], values[consts : consts + carried], values[consts + carried :]
        # The steps are counted for a tap alone: a scan that is only observed carries nothing more.
        numbers = jnp.arange(loop.length, dtype=jnp.int32) if visitor.tap is not None else None

        def step(state: tuple[list[Any], Records], x: tuple[list[Any], Any]) -> Any:
            (carry, folded), (x_of_fn, number) = state, x
            inner = visitor if number is None else visitor.at_step(number)
            outputs, records = replay(plan, inner, [*constants, *carry, *x_of_fn])
            if merge is not None:
                folded, records = fold(folded, records, merge), {}
            return (outputs[:carried], folded), (outputs[carried:], records)

        with internals.equation_context(eqn):
            unreached = {s.site.name: never(s, visitor, plan.scope) for s in spots if merge is not None}
            (carry, folded), (ys, stacked) = lax.scan(
                step,
                (list(carry), unreached),
                (list(xs), numbers),
                length=loop.length,
                reverse=eqn.params["reverse"],
                unroll=eqn.params["unroll"],
            )
        return [*carry, *ys], settle(folded, spots) if merge is not None else stacked


def _has_weights_per_step(jaxpr: Any, consts: int, carried: int) -> bool:
    """Whether a product takes one factor from the carry, and the other from the step's own inputs alone."""
    body = internals.body(jaxpr)
    arguments = body.invars[len(body.consts) + consts :]
    counters = _counters(body, arguments[:carried])
    # A fori_loop takes the step's own weights out of all weights by the number of the step.
    return _mixes(body.jaxpr, set(arguments[:carried]) - counters, {*arguments[carried:], *counters})


def _counters(body: internals.Body, carry: Sequence[Any]) -> set[Any]:
    """The integers in a scan's carry that depend on nothing but themselves: the number of the step of a fori_loop."""
    depends: dict[Any, set[Any]] = {variable: {variable} for variable in body.invars}
    for eqn in body.jaxpr.eqns:
        inputs = (depends.get(atom, set()) for atom in eqn.invars if not internals.is_literal(atom))
        depends |= dict.fromkeys(eqn.outvars, set().union(*inputs))
    return {
        before
        for before, after in zip(carry, body.jaxpr.outvars, strict=False)
        if not before.aval.shape
        and jnp.issubdtype(before.aval.dtype, jnp.integer)
        and not internals.is_literal(after)
        and depends.get(after) == {before}
    }


def _mixes(jaxpr: Any, carried: set[Any], stepwise: set[Any]) -> bool:
    """Whether some product multiplies a value that depends on `carried` by one that depends on `stepwise` alone."""
    for eqn in jaxpr.eqns:
        atoms = [None if internals.is_literal(atom) else atom for atom in eqn.invars]
        from_carry = [atom in carried for atom in atoms]
        from_step = [atom in stepwise and atom not in carried for atom in atoms]
        if any(from_carry) and any(from_step):
            if eqn.primitive.name in {"dot_general", "conv_general_dilated"}:
                return True
            for inner in map(internals.body, internals.inner_jaxprs(eqn)):
                # A loop or a branch has inputs of its own in front; the last ones are the equation's last ones.
                pairs = list(zip(reversed(inner.jaxpr.invars), reversed(atoms), strict=False))
                inner_carried = {variable for variable, atom in pairs if atom in carried}
                if _mixes(
                    inner.jaxpr, inner_carried, {variable for variable, atom in pairs if atom in stepwise}
                ):
                    return True
        if any(from_carry):
            carried.update(eqn.outvars)
        elif any(from_step):
            stepwise.update(eqn.outvars)
    return False


class While:
    """A loop of unknown length: its records are merged in the carry."""

    def open(self, eqn: Any, scope: Scope) -> Sequence[Inner]:
        """Its body."""
        tested, held = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        stop = internals.body(eqn.params["cond_jaxpr"]).jaxpr.outvars[0]
        varying = frozenset() if internals.is_literal(stop) else internals.varying_axes(stop.aval)
        inside = scope.enter(
            path=(*scope.path, "while"),
            inside=(*scope.inside, "while, over whose steps it is summed"),
            conditional=True,
            needs_merge="it stands in a while loop, whose number of steps is not known",
            varying=scope.varying | varying,
        )
        carried = len(eqn.invars) - tested - held
        return [Inner(eqn.params["body_jaxpr"], inside, (*range(tested, tested + held), *[None] * carried))]

    def unseen(self, eqn: Any) -> Sequence[tuple[Any, str]]:
        """Its condition."""
        return [(eqn.params["cond_jaxpr"], "the condition of a while loop")]

    def run(
        self, eqn: Any, values: Sequence[Any], plans: Sequence[Plan], visitor: Visitor
    ) -> tuple[list[Any], Records]:
        """A while loop of the replay."""
        (plan,) = plans
        merge = visitor.merge
        tested, held = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        test_constants, constants = values[:tested], values[tested : tested + held]
        condition = internals.as_function(eqn.params["cond_jaxpr"])

        def test(state: tuple[list[Any], Records]) -> Any:
            return condition(*test_constants, *state[0])[0]

        def step(state: tuple[list[Any], Records]) -> tuple[list[Any], Records]:
            carry, folded = state
            outputs, records = replay(plan, visitor, [*constants, *carry])
            return outputs, fold(folded, records, merge) if merge is not None else folded

        with internals.equation_context(eqn):
            spots = wanted(plans, visitor)
            unreached = {spot.site.name: never(spot, visitor, plan.scope) for spot in spots}
            carry, folded = lax.while_loop(test, step, (list(values[tested + held :]), unreached))
        return carry, folded


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

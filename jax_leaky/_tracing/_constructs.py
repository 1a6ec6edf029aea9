"""The equations with jaxprs inside that replay rebuilds: calls, conditionals, loops and shards."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._graph import PRODUCTS, is_of_last_axes, weights_of
from jax_leaky._tracing._jax_internals import Atom, ClosedJaxpr, Equation, Jaxpr, Variable
from jax_leaky._tracing._program import CannotEnter, Construct, Inner, Plan, Records, Scope, Shards, Spot
from jax_leaky._tracing._replay import fold, fold_shards, never, replay, settle, wanted
from jax_leaky._tracing._sharding import first_copy
from jax_leaky._tracing._site import Loop
from jax_leaky._tracing._visitor import Visitor

_Outcome = tuple[list[Any], Records]

# Calls: jit, closed calls, rematerialised functions and functions with a rule of their own


class _Call(Construct):
    """A construct with one jaxpr that takes the equation's own inputs."""

    def open(self, eqn: Equation, scope: Scope) -> Sequence[Inner]:
        """Its jaxpr, in the scope of the caller."""
        (jaxpr,) = internals.inner_jaxprs(eqn)
        return [Inner(jaxpr, scope, tuple(range(len(eqn.invars))))]


class Jit(_Call):
    """A jit inside the function: it stays one, so that what it computes is compiled as before."""

    def open(self, eqn: Equation, scope: Scope) -> Sequence[Inner]:
        """Its jaxpr, in the scope of the caller."""
        if internals.has_layouts(eqn):
            raise CannotEnter("a jit that fixes memory layouts")
        return super().open(eqn, scope)

    def run(self, eqn: Equation, values: Sequence[Any], plans: Sequence[Plan], visitor: Visitor) -> _Outcome:
        """A jit of the replay."""
        (plan,) = plans

        def replayed(*arguments: Any) -> _Outcome:
            return replay(plan, visitor, arguments)

        replayed.__name__ = internals.call_name(eqn)
        with internals.equation_context(eqn):
            return jax.jit(replayed, **internals.jit_options(eqn))(*values)


class ClosedCall(_Call):
    """A call without any meaning of its own: its equations take its place."""

    def run(self, eqn: Equation, values: Sequence[Any], plans: Sequence[Plan], visitor: Visitor) -> _Outcome:
        """The replay."""
        with internals.equation_context(eqn):
            return replay(plans[0], visitor, values)


class Remat(_Call):
    """`jax.checkpoint`, kept with its policy."""

    def open(self, eqn: Equation, scope: Scope) -> Sequence[Inner]:
        """Its jaxpr, in the scope of the caller."""
        if internals.is_recomputation(eqn):
            raise CannotEnter("the recomputation of a gradient")
        return super().open(eqn, scope)

    def run(self, eqn: Equation, values: Sequence[Any], plans: Sequence[Plan], visitor: Visitor) -> _Outcome:
        """A checkpoint of the replay."""
        (plan,) = plans

        def replayed(*arguments: Any) -> _Outcome:
            return replay(plan, visitor, arguments)

        with internals.equation_context(eqn):
            return jax.checkpoint(replayed, **internals.remat_options(eqn))(*values)


class CustomRule(_Call):
    """A `jax.custom_jvp` or `jax.custom_vjp` whose body holds activations.

    The call itself runs as it is, so that its value and its gradient stay those of the user's rule. The records
    come from a second run of the body beside it, through which no gradient flows; within one jit XLA shares what
    the two have in common. Replacing an activation in there would leave the rule of another function in place.
    """

    def open(self, eqn: Equation, scope: Scope) -> Sequence[Inner]:
        """Its body."""
        rule, name = eqn.primitive.name.removesuffix("_call"), internals.call_name(eqn)
        inside = scope.enter(
            inside=f"{rule} {name}",
            fixed=f"the {rule} rule of {name} is the derivative of the function as it is",
        )
        (inner,) = super().open(eqn, inside)
        if internals.body(inner.jaxpr).jaxpr.effects:
            raise CannotEnter(f"a {rule} function with side effects, which would take place twice")
        return [inner]

    def run(self, eqn: Equation, values: Sequence[Any], plans: Sequence[Plan], visitor: Visitor) -> _Outcome:
        """The call as it is, and the records of its body."""
        outputs = internals.bind(eqn, values)
        with internals.equation_context(eqn):
            still = [lax.stop_gradient(value) for value in values]
            _, records = replay(plans[0], visitor.without_tap(), still)
        return outputs, records


# `lax.cond` and `lax.switch`: the branch taken is observed, the others are marked as not reached


class Cond(Construct):
    """A conditional. Each branch gives the records of all branches: its own, and `never` for the others'."""

    def open(self, eqn: Equation, scope: Scope) -> Sequence[Inner]:
        """Its branches; branch 0 of a two-way cond is the one for False."""
        varying = scope.varying | internals.varying_axes(eqn.invars[0].aval)
        operands = tuple(range(1, len(eqn.invars)))
        return [
            Inner(
                branch,
                scope.enter(f"branch_{number}", f"branch {number}", conditional=True, varying=varying),
                operands,
            )
            for number, branch in enumerate(internals.branches(eqn))
        ]

    def run(self, eqn: Equation, values: Sequence[Any], plans: Sequence[Plan], visitor: Visitor) -> _Outcome:
        """A switch over replays of the branches."""

        def branch(plan: Plan) -> Callable[..., _Outcome]:
            others = [other for other in plans if other is not plan]

            def replayed(*arguments: Any) -> _Outcome:
                outputs, records = replay(plan, visitor, arguments)
                absent = wanted(others, visitor)
                return outputs, records | {s.site.name: never(s, visitor, plan.scope) for s in absent}

            return replayed

        index, *operands = values
        with internals.equation_context(eqn):
            return lax.switch(index, [branch(plan) for plan in plans], *operands)


# `lax.scan`, `lax.while_loop` and `lax.fori_loop`


class Scan(Construct):
    """A scan, or a fori_loop with a known number of steps. Records are stacked per step, or merged in the carry."""

    def open(self, eqn: Equation, scope: Scope) -> Sequence[Inner]:
        """Its body; nothing where it takes no step."""
        scan = internals.scan(eqn)
        if scan.length == 0:
            return ()
        has_rows = scope.choices.scan_rows
        over_layers = _is_over_layers(scan) if has_rows is None else has_rows
        loop = Loop(scan.length, over_layers, "/".join((*scope.where.path, "scan")))
        inside = scope.enter("scan", f"scan of {scan.length}", stacked=(*scope.stacked, loop))
        operands = tuple(i if i < scan.consts else None for i in range(len(eqn.invars)))
        return [Inner(scan.jaxpr, inside, operands)]

    def run(self, eqn: Equation, values: Sequence[Any], plans: Sequence[Plan], visitor: Visitor) -> _Outcome:
        """A scan of the replay."""
        (plan,) = plans
        scan, loop = internals.scan(eqn), plan.scope.stacked[-1]
        assert isinstance(loop, Loop)
        merge = visitor.merge if visitor.folds(loop) else None
        spots = wanted(plans, visitor)
        split = scan.consts + scan.carried
        constants, carry, xs = values[: scan.consts], values[scan.consts : split], values[split:]
        # The steps are counted for a tap alone: a scan that is only observed carries nothing more.
        numbers = jnp.arange(scan.length, dtype=jnp.int32) if visitor.tap is not None else None

        def step(state: tuple[list[Any], Records], x: tuple[list[Any], Any]) -> Any:
            (carry, folded), (x_of_fn, number) = state, x
            inner = visitor if number is None else visitor.at_step(number)
            outputs, records = replay(plan, inner, [*constants, *carry, *x_of_fn])
            if merge is not None:
                folded, records = fold(folded, records, merge), {}
            return (outputs[: scan.carried], folded), (outputs[scan.carried :], records)

        with internals.equation_context(eqn):
            unreached = {s.site.name: never(s, visitor, plan.scope) for s in spots if merge is not None}
            (carry, folded), (ys, stacked) = lax.scan(
                step, (list(carry), unreached), (list(xs), numbers), length=scan.length, **scan.options
            )
        return [*carry, *ys], settle(folded, spots) if merge is not None else stacked


def _is_over_layers(scan: internals.Scan) -> bool:
    """Whether the steps of a scan are layers, which have units, and so records, of their own.

    They are if a product of the forward pass takes its weights from what a step alone is given, and its samples from
    what one step hands to the next. In a loop over time or over an environment's steps the weights are those of all
    steps; in one over minibatches they are carried, and the samples are what a step is given. A scan with a backward
    pass in its body trains, and is never one over layers.
    """
    body = internals.body(scan.jaxpr)
    if _trains(body.jaxpr):
        return False
    carried, given = (
        body.arguments[scan.consts : scan.consts + scan.carried],
        body.arguments[scan.consts + scan.carried :],
    )
    # A fori_loop takes a layer's weights out of all weights by the number of the step.
    counters = _counters(body, carried)
    origins: dict[Atom, str] = dict.fromkeys(carried, _CARRY)
    return _takes_weights(body.jaxpr, origins | dict.fromkeys((*given, *counters), _STEP))


_CARRY, _STEP = "what one step hands to the next", "what a step alone is given"


def _takes_weights(jaxpr: Jaxpr, given: Mapping[Atom, str]) -> bool:
    """Whether a product takes weights from `_STEP` and samples from `_CARRY`; `given` says whence arguments come."""
    origins = dict(given)
    for eqn in jaxpr.eqns:
        came = [None if internals.is_literal(atom) else origins.get(atom) for atom in eqn.invars]
        if _CARRY in came and _STEP in came:
            if eqn.primitive.name in PRODUCTS:
                # Where the order does not tell weights from samples, whence they come does.
                orders = (0, 1) if is_of_last_axes(eqn) else (weights_of(eqn),)
                if any((came[weights], came[1 - weights]) == (_STEP, _CARRY) for weights in orders):
                    return True
            for inner in map(internals.body, internals.inner_jaxprs(eqn)):
                # A loop or a branch has inputs of its own in front; the last ones are the equation's last ones.
                pairs = zip(reversed(inner.jaxpr.invars), reversed(came), strict=False)
                if _takes_weights(inner.jaxpr, {v: origin for v, origin in pairs if origin is not None}):
                    return True
        made = _CARRY if _CARRY in came else _STEP if _STEP in came else None
        if made is not None:
            origins |= dict.fromkeys(eqn.outvars, made)
    return False


def _trains(jaxpr: Jaxpr | ClosedJaxpr) -> bool:
    return any(
        internals.is_backward(eqn) or any(map(_trains, internals.inner_jaxprs(eqn)))
        for eqn in internals.body(jaxpr).jaxpr.eqns
    )


def _counters(body: internals.Body, carry: Sequence[Variable]) -> set[Variable]:
    """The integers in a scan's carry that depend on nothing but themselves: the number of the step of a fori_loop."""
    depends: dict[Atom, set[Variable]] = {variable: {variable} for variable in body.invars}
    for eqn in body.jaxpr.eqns:
        inputs = (depends.get(variable, set()) for variable in internals.variables(eqn.invars))
        depends |= dict.fromkeys(eqn.outvars, set().union(*inputs))
    return {
        before
        for before, after in zip(carry, body.jaxpr.outvars, strict=False)
        if not internals.shape_of(before)
        and jnp.issubdtype(internals.dtype_of(before), jnp.integer)
        and not internals.is_literal(after)
        and depends.get(after) == {before}
    }


class While(Construct):
    """A loop of unknown length: its records are merged in the carry."""

    def open(self, eqn: Equation, scope: Scope) -> Sequence[Inner]:
        """Its body."""
        loop = internals.while_loop(eqn)
        stop = internals.body(loop.test).jaxpr.outvars[0]
        inside = scope.enter(
            "while",
            "while, over whose steps it is summed",
            conditional=True,
            needs_merge="it stands in a while loop, whose number of steps is not known",
            varying=scope.varying | internals.varying_axes(stop.aval),
        )
        split = loop.tested + loop.held
        operands = (*range(loop.tested, split), *[None] * (len(eqn.invars) - split))
        return [Inner(loop.step, inside, operands)]

    def unseen(self, eqn: Equation) -> Sequence[tuple[ClosedJaxpr, str]]:
        """Its condition."""
        return [(internals.while_loop(eqn).test, "the condition of a while loop")]

    def run(self, eqn: Equation, values: Sequence[Any], plans: Sequence[Plan], visitor: Visitor) -> _Outcome:
        """A while loop of the replay."""
        (plan,) = plans
        merge, loop = visitor.merge, internals.while_loop(eqn)
        split = loop.tested + loop.held
        test_constants, constants = values[: loop.tested], values[loop.tested : split]
        condition = internals.as_function(loop.test)

        def test(state: _Outcome) -> Any:
            return condition(*test_constants, *state[0])[0]

        def step(state: _Outcome) -> _Outcome:
            carry, folded = state
            outputs, records = replay(plan, visitor, [*constants, *carry])
            return outputs, fold(folded, records, merge) if merge is not None else folded

        with internals.equation_context(eqn):
            unreached = {s.site.name: never(s, visitor, plan.scope) for s in wanted(plans, visitor)}
            return lax.while_loop(test, step, (list(values[split:]), unreached))


# `jax.shard_map`: each shard records what it sees; copies of one shard are recorded once


class ShardMap(Construct):
    """A function mapped over shards, or over devices by `jax.pmap`.

    A record gains an axis in front for the shards that differ (`Site.stacked`), or the shards' records are
    merged. Shards that hold other units are brought together before (`_sharding`). Along the mesh axes where the
    values at a site do not differ all shards hold the same, and counting each of them would count every sample several
    times over: JAX's types tell, and where there are none (check_vma=False), whence the values come (`_sharding`).
    """

    def open(self, eqn: Equation, scope: Scope) -> Sequence[Inner]:
        """Its body."""
        shards = internals.shard_map(eqn)
        if shards.is_pmap:
            devices = math.prod(shards.axes.values())
            choices = scope.choices._replace(sample_axes=scope.choices.sample_axes | shards.axes.keys())
            inside, scope = f"pmap over {devices} device{'s'[: devices > 1]}", replace(scope, choices=choices)
        else:
            inside = f"shard_map over {', '.join(shards.axes)}"
        inner = scope.enter(
            inside=inside,
            stacked=(*scope.stacked, Shards(tuple(shards.axes.items()))),
        )
        return [Inner(shards.jaxpr, inner, tuple(range(len(eqn.invars))))]

    def run(self, eqn: Equation, values: Sequence[Any], plans: Sequence[Plan], visitor: Visitor) -> _Outcome:
        """A shard_map of the replay."""
        (plan,) = plans
        shards = internals.shard_map(eqn)
        spots = {spot.site.name: spot for spot in wanted(plans, visitor)}

        def differing(spot: Spot) -> dict[str, int]:
            return {name: size for name, size in shards.axes.items() if name in spot.axes}

        def replayed(*arguments: Any) -> _Outcome:
            outputs, records = replay(plan, visitor, arguments)
            for name, spot in spots.items():
                if differing(spot):
                    records[name] = jax.tree.map(lambda leaf: leaf[None], records[name])
            return outputs, records

        specs = {
            name: PartitionSpec(tuple(differing(spot))) if differing(spot) else PartitionSpec()
            for name, spot in spots.items()
        }
        with internals.equation_context(eqn):
            outputs, records = jax.shard_map(
                replayed,
                in_specs=shards.in_specs,
                out_specs=(list(shards.out_specs), specs),
                **shards.options,
            )(*values)
            for name, spot in spots.items():
                sizes = differing(spot)
                if not sizes.keys() <= spot.apart:
                    one_of_each = functools.partial(first_copy, sizes=sizes, apart=spot.apart)
                    everywhere = jax.tree.map(internals.replicated, records[name])
                    records[name] = jax.tree.map(one_of_each, everywhere)
                if visitor.merge is not None and not sizes.keys().isdisjoint(spot.apart):
                    everywhere = jax.tree.map(internals.replicated, records[name])
                    front = spot.scope.front(spot.apart, visitor, plan.scope)
                    records[name] = fold_shards(everywhere, front, visitor.merge)
        return outputs, records

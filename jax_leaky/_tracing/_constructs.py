"""`lax.scan`, `lax.while_loop` and `lax.fori_loop`."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._program import Inner, Plan, Records, Scope
from jax_leaky._tracing._replay import fold, never, replay, settle, wanted
from jax_leaky._tracing._site import Loop
from jax_leaky._tracing._visitor import Visitor


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

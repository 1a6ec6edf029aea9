"""`lax.scan`, `lax.while_loop` and `lax.fori_loop`."""

from collections.abc import Sequence
from typing import Any

from jax import lax

from jax_leaky.tracing import _jax_internals as internals
from jax_leaky.tracing import _records
from jax_leaky.tracing._program import Inner, Plan, Records, Scope
from jax_leaky.tracing._replay import replay
from jax_leaky.tracing._visitor import Visitor


class Scan:
    """A scan, or a fori_loop with a known number of steps. Records are stacked per step, or merged in the carry."""

    def open(self, eqn: Any, scope: Scope) -> Sequence[Inner]:
        """Its body; nothing where it takes no step."""
        length = eqn.params["length"]
        if length == 0:
            return ()
        consts, _ = internals.scan_split(eqn)
        inside = scope.enter(
            path=(*scope.path, "scan"),
            inside=(*scope.inside, f"scan of {length}"),
            stacked=(*scope.stacked, length),
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
        merge = visitor.merge
        spots = _records.wanted(plans, visitor)
        consts, carried = internals.scan_split(eqn)
        constants, rest = values[:consts], values[consts:]
        carry, xs = list(rest[:carried]), list(rest[carried:])

        def step(state: tuple[list[Any], Records], x: list[Any]) -> Any:
            carry, folded = state
            outputs, records = replay(plan, visitor, [*constants, *carry, *x])
            if merge is not None:
                folded, records = _records.fold(folded, records, merge), {}
            return (outputs[:carried], folded), (outputs[carried:], records)

        with internals.equation_context(eqn):
            unreached = {
                s.site.name: _records.never(s, visitor, plan.scope) for s in spots if merge is not None
            }
            (carry, folded), (ys, stacked) = lax.scan(
                step,
                (carry, unreached),
                xs,
                length=eqn.params["length"],
                reverse=eqn.params["reverse"],
                unroll=eqn.params["unroll"],
            )
        return [*carry, *ys], _records.settle(folded, spots) if merge is not None else stacked


class While:
    """A loop of unknown length: its records are merged in the carry."""

    def open(self, eqn: Any, scope: Scope) -> Sequence[Inner]:
        """Its body."""
        tested, held = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        stop = internals.body(eqn.params["cond_jaxpr"]).jaxpr.outvars[0]
        varying = frozenset() if internals.is_literal(stop) else internals.varying_axes(stop.aval)
        inside = scope.enter(
            path=(*scope.path, "while"),
            inside=(*scope.inside, "while"),
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
            return outputs, _records.fold(folded, records, merge) if merge is not None else folded

        with internals.equation_context(eqn):
            spots = _records.wanted(plans, visitor)
            unreached = {spot.site.name: _records.never(spot, visitor, plan.scope) for spot in spots}
            carry, folded = lax.while_loop(test, step, (list(values[tested + held :]), unreached))
        return carry, folded

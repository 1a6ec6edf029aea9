"""`lax.cond` and `lax.switch`: the branch taken is observed, the others are marked as not reached."""

from collections.abc import Callable, Sequence
from typing import Any

from jax import lax

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._program import Inner, Plan, Records, Scope
from jax_leaky._tracing._replay import never, replay, wanted
from jax_leaky._tracing._visitor import Visitor


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

"""Calls that are entered: jit, closed calls, rematerialised functions and functions with a rule of their own."""

from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._program import CannotEnter, Inner, Plan, Records, Scope
from jax_leaky._tracing._replay import replay
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

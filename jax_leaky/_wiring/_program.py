"""What wiring takes from `_tracing`, and through it from JAX's internals: nothing else here imports them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jax_leaky._tracing import Site, Traced, traced_leaves
from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._program import Plan as Plan

CALLS = frozenset({"jit", "closed_call", "remat2", "custom_jvp_call", "custom_vjp_call"})
"""Equations whose one inner jaxpr takes their own inputs and gives their outputs."""

body = internals.body
is_literal = internals.is_literal
scan = internals.scan
while_loop = internals.while_loop
branches = internals.branches


class Program:
    """A function of parameters as a jaxpr whose sites are known.

    Attributes:
        plan: plan of the outermost jaxpr.
        sites: activations of the function, in the order of the program.
        others: shapes of the arrays among the arguments that are no parameters, in the order of the leaves.
        data: number of these that make up the first of the arguments.

    Args:
        fn: function of parameters.
        params: first argument of the function, a pytree of arrays or shapes.
        args: other arguments of the function.
        kwargs: keyword arguments of the function.

    Raises:
        TypeError: `fn` does not trace.
        ValueError: activations cannot be found with this version of JAX.
    """

    def __init__(
        self, fn: Callable[..., Any], params: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> None:
        shapes = jax.tree.map(_shape, params)
        traced = Traced("wiring", fn, (shapes, *args), kwargs)
        if traced.plan is None:
            raise ValueError(f"wiring does not know the jaxprs of JAX {jax.__version__}.")
        self.plan = traced.plan
        self.sites: tuple[Site, ...] = tuple(traced.sites)
        count = len(jax.tree.leaves(params))
        self.others = [variable.aval for variable in self.plan.body.jaxpr.invars[count:]]
        self.data = len(traced_leaves(args[:1]))


def split_module(fn: Callable[..., Any], params: Any) -> tuple[Callable[..., Any], Any]:
    """A function of an NNX module and the module as a function of its `nnx.Param` state and this state.

    The rest of the module, its batch statistics for example, is held fixed. Anything else is returned as it is.

    Raises:
        TypeError: `fn` is a module or a method of one; `params` holds a module among other things.
    """
    nnx = sys.modules.get("flax.nnx")  # only a user of NNX has imported it
    if nnx is None:
        return fn, params
    if isinstance(fn, nnx.Module) or isinstance(getattr(fn, "__self__", None), nnx.Module):
        raise TypeError(
            "wiring: fn must be a function of its parameters, got an NNX module: "
            "write wiring(lambda model, x: model(x), model, x)."
        )
    if isinstance(params, nnx.Module):
        graph, state, rest = nnx.split(params, nnx.Param, ...)

        @functools.wraps(fn)
        def of_state(state: Any, *args: Any, **kwargs: Any) -> Any:
            module = nnx.merge(graph, state, rest, copy=True)  # a call may write: into the copy
            return fn(module, *args, **kwargs)

        return of_state, state
    parts = jax.tree.leaves(params, is_leaf=lambda part: isinstance(part, nnx.Module))
    if any(isinstance(part, nnx.Module) for part in parts):
        raise TypeError(
            "wiring: params holds an NNX module among other things: give the module, or what nnx.split makes."
        )
    return fn, params


def parameters_of(params: Any) -> Any:
    """The `nnx.Param` state of an NNX module; anything else as it is."""
    nnx = sys.modules.get("flax.nnx")
    return nnx.state(params, nnx.Param) if nnx is not None and isinstance(params, nnx.Module) else params


def structure_of(tree: Any) -> Any:
    """The structure of a pytree, in which an NNX variable counts as its array: `nnx.Optimizer` gives both."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None:
        tree = jax.tree.map(lambda _: 0, tree, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    return jax.tree.structure(tree)


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    dtype = leaf.dtype
    extended = jax.numpy.issubdtype(dtype, jax.dtypes.extended)  # keys of random numbers
    return jax.ShapeDtypeStruct(leaf.shape, dtype if extended else jax.dtypes.canonicalize_dtype(dtype))


def inner(eqn: internals.Equation) -> internals.Jaxpr | internals.ClosedJaxpr:
    """The jaxpr of a call."""
    (jaxpr,) = internals.inner_jaxprs(eqn)
    return jaxpr


def plans(plan: Plan | None, index: int, count: int) -> Sequence[Plan | None]:
    """What tracing found in the jaxprs inside an equation; None where it found nothing."""
    region = None if plan is None else plan.regions.get(index)
    return [None] * count if region is None else region.plans

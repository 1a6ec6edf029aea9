"""NNX modules change when they are called (batch statistics, counters of random numbers); a traced function may not.

Flax's own way out is `nnx.split` before and `nnx.merge` inside the trace. This does it for the modules that a
function is given or is bound to, and writes what changed back into them.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax


def modules_in(*values: Any) -> list[Any]:
    """The NNX modules among some pytrees; none without importing Flax unless the user has."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is None:
        return []
    leaves = jax.tree.leaves(values, is_leaf=lambda value: isinstance(value, nnx.Pytree))
    return [leaf for leaf in leaves if isinstance(leaf, nnx.Pytree)]


def is_involved(fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether a call has modules among its arguments, or is that of a module; partials are looked into."""
    fn, args, kwargs = _without_partials(fn, args, kwargs)
    return bool(modules_in(fn, getattr(fn, "__self__", None), args, kwargs))


def _without_partials(
    fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], Sequence[Any], dict[str, Any]]:
    # Only for a call with modules: in any other, what a partial holds stays a constant, as the user wrote it.
    call: Any = fn
    while isinstance(call, functools.partial):
        call, args, kwargs = call.func, (*call.args, *args), call.keywords | kwargs
    return call, args, kwargs


class Functional:
    """A function whose modules come in as state and go out as state.

    Args:
        fn: an NNX module, a method bound to one, any callable, or a `functools.partial` of one.
        args: its arguments, modules among them or not.
        kwargs: its keyword arguments.
    """

    def __init__(self, fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        import flax.nnx as nnx  # only a user of NNX gets here

        fn, args, kwargs = _without_partials(fn, args, kwargs)
        self._nnx = nnx
        owner = fn if isinstance(fn, nnx.Pytree) else getattr(fn, "__self__", None)
        self._owned = isinstance(owner, nnx.Pytree)
        method = type(fn).__call__ if owner is fn else getattr(fn, "__func__", fn)
        self._call: Callable[..., Any] = method if self._owned else fn
        leaves, self._structure = jax.tree.flatten(
            (owner if self._owned else None, tuple(args), kwargs), is_leaf=lambda v: isinstance(v, nnx.Pytree)
        )
        self._places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, nnx.Pytree)]
        self._modules = [leaves[i] for i in self._places]
        self._graph, self.state = nnx.split(self._modules)
        self.rest = [None if i in self._places else leaf for i, leaf in enumerate(leaves)]

    def __call__(self, state: Any, rest: Sequence[Any]) -> tuple[Any, Any]:
        """The result and the new state."""
        modules = self._nnx.merge(self._graph, state)
        leaves = list(rest)
        for place, module in zip(self._places, modules, strict=True):
            leaves[place] = module
        owner, args, kwargs = jax.tree.unflatten(self._structure, leaves)
        out = self._call(owner, *args, **kwargs) if self._owned else self._call(*args, **kwargs)
        return out, self._nnx.state(modules)

    def write_back(self, state: Any) -> None:
        """Puts new state into the user's modules."""
        self._nnx.update(self._modules, state)

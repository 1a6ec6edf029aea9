"""NNX modules change when they are called (batch statistics, counters of random numbers); a traced function may not.

Flax's own way out is `nnx.split` before and `nnx.merge` inside the trace. This does it for the modules that a
function is given or is bound to, and writes what changed back into them.
"""

from __future__ import annotations

import dataclasses
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


Arrays = tuple[Sequence[Any], Any]  # those that stand for themselves, and the state of NNX modules


@dataclasses.dataclass(frozen=True)
class Pure:
    """What is left of a callable without its arrays.

    Attributes:
        structure: the pytree of the callable, its arguments and keywords.
        leaves: of that; None where an array or an NNX module was.
        arrays: the places of the arrays.
        modules: the places of the NNX modules.
        graph: of the modules.
        method: that is called of the callable, None where it is called itself.
        is_partial: whether it was a `functools.partial`.
    """

    structure: Any
    leaves: tuple[Any, ...]
    arrays: tuple[int, ...]
    modules: tuple[int, ...]
    graph: Any
    method: Any
    is_partial: bool

    def rebuilt(self, arrays: Arrays) -> Callable[..., Any]:
        """The callable with other arrays, traced ones for example."""
        plain, state = arrays
        leaves = list(self.leaves)
        for place, array in zip(self.arrays, plain, strict=True):
            leaves[place] = array
        if self.modules:
            merged = sys.modules["flax.nnx"].merge(self.graph, state)
            for place, module in zip(self.modules, merged, strict=True):
                leaves[place] = module
        func, args, keywords = jax.tree.unflatten(self.structure, leaves)
        if self.method is not None:
            func = self.method.__get__(func)
        return functools.partial(func, *args, **keywords) if self.is_partial else func


def take_apart(fn: Callable[..., Any]) -> tuple[Pure, Arrays]:
    """A callable without its arrays, and these."""
    func: Any = fn
    args: tuple[Any, ...] = ()
    keywords: dict[str, Any] = {}
    if isinstance(fn, functools.partial):
        func, args, keywords = fn.func, fn.args, fn.keywords
    method = None
    if _is_module(getattr(func, "__self__", None)):
        func, method = func.__self__, func.__func__
    leaves, structure = jax.tree.flatten((func, args, keywords), is_leaf=_is_module)
    modules = tuple(place for place, leaf in enumerate(leaves) if _is_module(leaf))
    places = tuple(place for place, leaf in enumerate(leaves) if isinstance(leaf, jax.Array))
    graph, state = None, None
    if modules:
        graph, state = sys.modules["flax.nnx"].split([leaves[place] for place in modules])
    rest = tuple(None if place in (*modules, *places) else leaf for place, leaf in enumerate(leaves))
    pure = Pure(structure, rest, places, modules, graph, method, isinstance(fn, functools.partial))
    return pure, ([leaves[place] for place in places], state)


def _is_module(value: Any) -> bool:
    nnx = sys.modules.get("flax.nnx")  # only a user of NNX has imported it
    return nnx is not None and isinstance(value, nnx.Pytree)

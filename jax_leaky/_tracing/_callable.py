"""A callable, taken apart into its arrays and the rest.

Weights that a jitted function closes over are written into the compiled program as constants, in which XLA folds
what it can, slowly. So the arrays of a `functools.partial`, of an Equinox module or of an NNX module become
arguments, and one compiled program serves all weights of a model. An NNX module that its own call changes (batch
statistics, random counters) is changed in a copy.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax

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

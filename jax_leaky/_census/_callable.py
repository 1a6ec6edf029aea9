"""A callable as a pure function of its arrays.

Weights that a jitted function closes over are written into the compiled program as constants, in which XLA folds
what it can, slowly. So the arrays of a `functools.partial`, of an Equinox module or of an NNX module become
arguments. An NNX module that its own call changes (batch statistics, random counters) is changed in a copy.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax


class Pure:
    """A callable, taken apart.

    Attributes:
        arrays: those that the callable holds.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._nnx = sys.modules.get("flax.nnx")  # only a user of NNX has imported it
        self._is_partial = isinstance(fn, functools.partial)
        func: Any = fn
        args: tuple[Any, ...] = ()
        keywords: dict[str, Any] = {}
        if isinstance(fn, functools.partial):
            func, args, keywords = fn.func, fn.args, fn.keywords
        self._method: Any = None
        if self._is_module(getattr(func, "__self__", None)):
            func, self._method = func.__self__, func.__func__
        self._leaves, self._structure = jax.tree.flatten((func, args, keywords), is_leaf=self._is_module)
        self._modules = [place for place, leaf in enumerate(self._leaves) if self._is_module(leaf)]
        self._places = [place for place, leaf in enumerate(self._leaves) if isinstance(leaf, jax.Array)]
        state: Any = None
        if self._nnx is not None and self._modules:
            self._graph, state = self._nnx.split([self._leaves[place] for place in self._modules])
        self.arrays = ([self._leaves[place] for place in self._places], state)

    def _is_module(self, value: Any) -> bool:
        return self._nnx is not None and isinstance(value, self._nnx.Pytree)

    def rebuilt(self, arrays: tuple[Sequence[Any], Any]) -> Callable[..., Any]:
        """The callable with other arrays, traced ones for example."""
        plain, state = arrays
        leaves = list(self._leaves)
        for place, array in zip(self._places, plain, strict=True):
            leaves[place] = array
        if self._nnx is not None and self._modules:
            for place, module in zip(self._modules, self._nnx.merge(self._graph, state), strict=True):
                leaves[place] = module
        func, args, keywords = jax.tree.unflatten(self._structure, leaves)
        if self._method is not None:
            func = self._method.__get__(func)
        return functools.partial(func, *args, **keywords) if self._is_partial else func

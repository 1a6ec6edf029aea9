"""A callable, taken apart into its arrays and the rest.

Weights that a jitted function closes over are written into the compiled program as constants, in which XLA folds
what it can, slowly. So the arrays of a `functools.partial`, of an Equinox module or of an NNX module become
arguments, and one compiled program serves all weights of a model.

NNX modules change when they are called (batch statistics, counters of random numbers); a traced function may not.
Flax's own way out is `nnx.split` before and `nnx.merge` inside the trace. This does it, once, for the modules that a
function is given or is bound to, and writes what changed back into them.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

Arrays = tuple[Sequence[Any], Any]  # those that stand for themselves, and the state of NNX modules


@dataclasses.dataclass(frozen=True)
class Pure:
    """What is left of a callable without its arrays.

    Attributes:
        structure: pytree structure of the callable, its arguments and its keywords.
        leaves: leaves of that pytree; None where an array or an NNX module was.
        arrays: indices of the arrays among the leaves.
        modules: indices of the NNX modules among the leaves.
        graph: graph definition of the modules, from `nnx.split`.
        method: function that is called with the callable in front; None where it is called itself.
        paths: for each of the arrays its path, without the keys down to the callable or its argument.
        module_paths: likewise for each of the modules.
        module: name of the class of the NNX module that is called; "" where something else is.
    """

    structure: Any
    leaves: tuple[Any, ...]
    arrays: tuple[int, ...]
    modules: tuple[int, ...]
    graph: Any
    method: Any
    paths: tuple[Any, ...]
    module_paths: tuple[Any, ...]
    module: str

    def rebuilt(self, arrays: Arrays) -> Bound:
        """The callable with other arrays, traced ones for example."""
        return Bound(self, arrays)

    def call(self, arrays: Arrays, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
        """The result of a call with further arguments, and the new state of the modules."""
        plain, state = arrays
        leaves, modules = list(self.leaves), []
        for place, array in zip(self.arrays, plain, strict=True):
            leaves[place] = array
        if self.modules:
            modules = sys.modules["flax.nnx"].merge(self.graph, state)
            for place, module in zip(self.modules, modules, strict=True):
                leaves[place] = module
        func, held, keywords = jax.tree.unflatten(self.structure, leaves)
        if self.method is not None:
            func = self.method.__get__(func)
        result = func(*held, *args, **keywords | kwargs)
        return result, sys.modules["flax.nnx"].state(modules) if modules else None


@dataclasses.dataclass(frozen=True)
class Bound:
    """A callable that was taken apart, with the arrays that it has at present.

    Attributes:
        pure: the callable without its arrays.
        arrays: arrays that take their places.
    """

    pure: Pure
    arrays: Arrays

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result, without the changes of NNX modules."""
        return self.pure.call(self.arrays, args, kwargs)[0]


def take_apart(fn: Callable[..., Any]) -> tuple[Pure, Arrays]:
    """A callable without its arrays, and these."""
    keys, leaves, structure, method = _leaves(fn)
    modules = tuple(place for place, leaf in enumerate(leaves) if is_module(leaf))
    places = tuple(place for place, leaf in enumerate(leaves) if is_array(leaf))
    graph, state = None, None
    if modules:
        graph, state = sys.modules["flax.nnx"].split([leaves[place] for place in modules])
    rest = tuple(None if place in (*modules, *places) else leaf for place, leaf in enumerate(leaves))
    paths, module_paths = (tuple(keys[place] for place in chosen) for chosen in (places, modules))
    module = type(leaves[0]).__name__ if modules[:1] == (0,) and not keys[0] else ""
    pure = Pure(structure, rest, places, modules, graph, method, paths, module_paths, module)
    return pure, ([leaves[place] for place in places], state)


def arrays_in(fn: Callable[..., Any]) -> list[tuple[Any, Any]]:
    """The arrays that `take_apart` finds in a callable outside of NNX modules, each with its path."""
    keys, leaves, _, _ = _leaves(fn)
    return [(path, leaf) for path, leaf in zip(keys, leaves, strict=True) if is_array(leaf)]


def _leaves(fn: Callable[..., Any]) -> tuple[list[Any], list[Any], Any, Any]:
    """The paths, leaves and structure of a callable with its arguments, and its method as in `Pure`."""
    parts, method = _parts(fn)
    with_paths, structure = jax.tree_util.tree_flatten_with_path(parts, is_leaf=is_module)
    # The first key says whether it is the callable, and the next one which argument it is.
    keys = [path[1 if path[0].idx == 0 else 2 :] for path, _ in with_paths]
    return keys, [leaf for _, leaf in with_paths], structure, method


def modules_in(fn: Callable[..., Any]) -> list[Any]:
    """The NNX modules that `take_apart` finds in a callable, in its order."""
    return [leaf for leaf in jax.tree.leaves(_parts(fn)[0], is_leaf=is_module) if is_module(leaf)]


def _parts(fn: Callable[..., Any]) -> tuple[tuple[Any, tuple[Any, ...], dict[str, Any]], Any]:
    """What is called, with the arguments that partials hold; and a method of an NNX module apart from its module."""
    func: Any = fn
    args: tuple[Any, ...] = ()
    keywords: dict[str, Any] = {}
    while True:
        if isinstance(func, functools.partial):
            func, args, keywords = func.func, (*func.args, *args), func.keywords | keywords
        elif (cached := _cached_args(func)) is not None:
            func, args = func.__wrapped__, (*cached, *args)
        else:
            break
    if is_module(getattr(func, "__self__", None)):
        return (func.__self__, args, keywords), func.__func__
    return (func, args, keywords), None


def _cached_args(func: Any) -> tuple[Any, ...] | None:
    """The arguments that `nnx.cached_partial` holds; None for any other callable.

    They are copies that share their variables with the user's modules, so that what is written back into them is
    written into these.
    """
    if isinstance(func, types.FunctionType) and func.__code__.co_name == "cache_args_wrapper":
        return inspect.getclosurevars(func).nonlocals.get("cached_args")
    return None


def write_back(modules: Sequence[Any], old: Any, new: Any) -> None:
    """Puts new state into the user's modules, if it is not the old one.

    A module that a jitted function closes over may be called there, but Flax refuses to write to it.
    """
    before: Any
    after: Any
    before, after = (jax.tree.flatten(state) for state in (old, new))
    if before[1] != after[1] or any(map(operator.is_not, before[0], after[0])):
        sys.modules["flax.nnx"].update(list(modules), new)


def is_array(leaf: Any) -> bool:
    """Whether an argument is traced: a JAX array or its shape."""
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)


def is_module(value: Any) -> bool:
    """Whether a value is an NNX module."""
    nnx = sys.modules.get("flax.nnx")  # only a user of NNX has imported it
    return nnx is not None and isinstance(value, nnx.Pytree)

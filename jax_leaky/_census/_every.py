"""`census_every` counts every k-th step of a loop; the steps between are the plain ones.

The plain step runs on every call, and on a call that is counted one `lax.cond` runs again what the counts need of it,
which of most training steps is the forward pass. With the whole step in both branches XLA on the CPU would take 19
times as long for a convolution's gradient, as it rewrites convolutions for the library only outside of branches. A
`cond` around the counts alone would have to keep every activation for it, counted or not.

XLA updates donated parameters in place only where that surely comes after the `cond` that reads them: otherwise it
copies them in every step, which cost an MLP 3 %. So the smallest argument that the results follow from goes through the
`cond`, and everything waits for it.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_leaky._census._result import Census
from jax_leaky._tracing import Visitor
from jax_leaky._tracing._jax_internals import (
    Atom,
    Body,
    Variable,
    body,
    dtype_of,
    inner_jaxprs,
    shape_of,
    without_dead_code,
)
from jax_leaky._tracing._program import Plan, Scope
from jax_leaky._tracing._replay import replay


class CensusState(NamedTuple):
    """What `census_every` keeps from step to step.

    Attributes:
        steps: number of steps so far, int32.
        census: census of the steps that were counted, of the form in which the step returns it. As a sum it tells
            which units were active in any of them; to see which units have died since, begin anew with `init` now
            and then.
    """

    steps: Array
    census: Any


class CensusEvery:
    """A step of which every k-th call is counted, from `census_every`."""

    def __init__(self, every: int, step: Callable[..., tuple[Any, Any]]) -> None:
        self._every = every
        self._step = step

    def init(self, *args: Any, **kwargs: Any) -> CensusState:
        """The state before the first step; no step is run, shapes (`jax.ShapeDtypeStruct`) will do for arrays."""
        shapes = jax.eval_shape(lambda *a, **k: self._parts(*a, **k)[1], *args, **kwargs)
        return CensusState(jnp.int32(0), _of_each(Census._empty, shapes))

    def __call__(self, state: CensusState, *args: Any, **kwargs: Any) -> tuple[Any, CensusState]:
        """The result of one step and the state after it."""
        if not isinstance(state, CensusState):
            raise TypeError(
                f"census_every: state must be the CensusState that init(*args) or the last call returned, got "
                f"{type(state).__name__}: give it first, before the arguments of step."
            )
        leaves, structure = jax.tree.flatten((args, kwargs))

        def run(leaves: Sequence[Any]) -> tuple[Any, Any]:
            args, kwargs = jax.tree.unflatten(structure, leaves)
            return self._parts(*args, **kwargs)

        counts, result = _Part(1, run, leaves), _Part(0, run, leaves)
        first = result.most_needed()
        through = () if first is None else (leaves[first],)

        def counted(census: Any, leaves: Sequence[Any], through: Any) -> Any:
            return _of_each(Census.merge, census, counts(leaves)), through

        def plain(census: Any, leaves: Sequence[Any], through: Any) -> Any:
            del leaves
            return census, lax.optimization_barrier(
                through
            )  # or JAX would see that both return what they take

        is_counted = state.steps % self._every == 0
        census, through = lax.cond(is_counted, counted, plain, state.census, leaves, through)
        if first is not None:
            leaves = [*leaves[:first], *through, *leaves[first + 1 :]]
        return result(leaves), CensusState(state.steps + 1, census)

    def __repr__(self) -> str:
        return f"<CensusEvery: step {getattr(self._step, '__name__', self._step)}, every {self._every:,}>"

    def _parts(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        out = self._step(*args, **kwargs)
        is_pair = isinstance(out, tuple) and len(out) == 2
        found = jax.tree.leaves(out[1], is_leaf=_is_census) if is_pair else ()
        if not found or not all(map(_is_census, found)):
            what = "a pair whose second part holds none, or something else too" if is_pair else "no pair"
            raise TypeError(
                "census_every: step must return (result, census), the census being that of value_and_census or several "
                f"in a list or dict, but it returned {what}."
            )
        return out


def census_every(every: int, step: Callable[..., tuple[Any, Any]]) -> CensusEvery:
    """A training step of which every k-th call is counted, inside one jitted function.

    On the steps between nothing is counted: they are the plain step. On a step that is counted, what the counts need
    runs a second time, of most training steps the forward pass, and so does a callback in it. Memory is O(units),
    whatever the number of steps.
    It works in jit and scan, and in shard_map where the step brings its censuses together (`Census.all_reduce`). Under
    vmap JAX turns the choice into a selection, so that every step pays for the counts, unless the state is made inside
    of what vmap maps, as in `jax.vmap(train)` over seeds.

    Args:
        every: number of steps from one that is counted to the next; the first step is counted.
        step: pure function that returns `(result, census)`, such as a training step around `value_and_census`. The
            census may be several in a list or dict. Its arguments are arrays and pytrees of them, as jit takes them.

    Returns:
        A function `(state, *args) -> (result, state)`, whose `init(*args)` gives the first state. `state.census` is the
        census of the steps that were counted, as if only these had been made.

    Raises:
        TypeError: `every` is no integer, or step is not callable; from the returned function: step returns no census.
        ValueError: `every` is less than 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jax_leaky import census_every, value_and_census
        >>> def step(w, x):
        ...     def loss(w):
        ...         out, counts = value_and_census(lambda x: jax.nn.relu(x @ w))(x)
        ...         return jnp.mean(out**2), counts
        ...     gradient, counts = jax.grad(loss, has_aux=True)(w)
        ...     return w - 0.1 * gradient, counts
        >>> counted = census_every(100, step)
        >>> w, x = jnp.eye(3), jnp.ones((8, 3))
        >>> state = counted.init(w, x)
        >>> train_step = jax.jit(counted)
        >>> for _ in range(250):
        ...     w, state = train_step(state, w, x)
        >>> next(iter(state.census)).n  # of the steps 0, 100 and 200
        24
    """
    try:
        number = operator.index(every)
    except TypeError:
        raise TypeError(f"census_every: every={every!r} is not an integer: give a number of steps.") from None
    if number < 1:
        raise ValueError(f"census_every: every={every} is not a number of steps: give 1 or more.")
    if not callable(step):
        raise TypeError(f"census_every: step must be callable, got {type(step).__name__}.")
    return CensusEvery(number, step)


class _Part:
    """The result of a step or its census, by a program without all that only the other needs.

    XLA would drop most of that too, but not what a loop carries from step to step.
    """

    def __init__(
        self, index: int, run: Callable[[Sequence[Any]], tuple[Any, Any]], leaves: Sequence[Any]
    ) -> None:
        def wanted(leaves: Sequence[Any]) -> list[Any]:
            flat, self._structure = jax.tree.flatten(run(leaves)[index])
            return flat

        self._body = without_dead_code(jax.make_jaxpr(wanted)(leaves))

    def __call__(self, leaves: Sequence[Any]) -> Any:
        flat, _ = replay(Plan(self._body, Scope(), {}, {}, ()), Visitor(), leaves)
        return jax.tree.unflatten(self._structure, flat)

    def most_needed(self) -> int | None:
        """The index of the argument that the most bytes of the outputs depend on, less its own; None if none gains."""
        jaxpr, arguments = self._body.jaxpr, self._body.arguments
        masks = [1 << place for place in range(len(arguments))]
        needs = _needs(self._body, [0] * len(self._body.consts) + masks)
        gains = [
            sum(_bytes(out) for out, mask in zip(jaxpr.outvars, needs, strict=True) if mask >> place & 1)
            - _bytes(argument)
            for place, argument in enumerate(arguments)
        ]
        best = max(range(len(gains)), key=gains.__getitem__, default=None)
        return best if best is not None and gains[best] > 0 else None


def _needs(program: Body, masks: Sequence[int]) -> list[int]:
    """Which arguments each output depends on, a bit for each: an equation's outputs on all that it takes."""
    of = dict(zip(program.invars, masks, strict=True))

    def read(atom: Atom) -> int:
        return of[atom] if isinstance(atom, Variable) else 0

    for eqn in program.jaxpr.eqns:
        taken = [read(atom) for atom in eqn.invars]
        if eqn.primitive.name == "jit":
            (inner,) = map(body, inner_jaxprs(eqn))
            found = _needs(inner, [0] * len(inner.consts) + taken)
        else:
            found = [functools.reduce(operator.or_, taken, 0)] * len(eqn.outvars)
        of |= zip(eqn.outvars, found, strict=True)
    return [read(atom) for atom in program.jaxpr.outvars]


def _bytes(atom: Atom) -> int:
    return math.prod(shape_of(atom)) * getattr(dtype_of(atom), "itemsize", 0)


def _is_census(leaf: Any) -> bool:
    return isinstance(leaf, Census)


def _of_each(do: Callable[..., Census], *trees: Any) -> Any:
    return jax.tree.map(do, *trees, is_leaf=_is_census)

"""From a Python function and its arguments to a plan, and from a replay back to the function's result."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing import _nnx
from jax_leaky._tracing._plan import Planner
from jax_leaky._tracing._program import Plan, Records, Scope
from jax_leaky._tracing._rehearsal import replay_works
from jax_leaky._tracing._replay import replay
from jax_leaky._tracing._site import Opaque, SiteList
from jax_leaky._tracing._visitor import Visitor


class Traced:
    """A function, traced and planned for some arguments.

    JAX arrays (and shapes, `jax.ShapeDtypeStruct`) among the arguments are traced; everything else, Python numbers,
    flags, strings and NumPy arrays, reaches the function as it is, and so does what it returns.

    Attributes:
        who: the public function that asks, for messages.
        sites: the activations found.
        hides: whether the function takes a derivative itself that may hold activations not recognised there: JAX
            writes some of them down in other equations than those of the function.

    Args:
        who: the public function that asks, for messages.
        fn: the function.
        args: its arguments.
        kwargs: its keyword arguments.

    Raises:
        TypeError: the function is not callable or does not trace.
    """

    def __init__(self, who: str, fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        if not callable(fn):
            raise TypeError(f"{who}: fn must be callable, got {type(fn).__name__}.")
        self.who = who
        self._functional: _nnx.Functional | None = None
        self._plan: Plan | None = None
        self.hides = False
        self._unobserved = functools.partial(fn, *args, **kwargs)
        if not replay_works():
            self.sites = SiteList((), [Opaque(_name(fn), f"replay does not work with JAX {jax.__version__}")])
            return
        if _nnx.is_involved(fn, args, kwargs):
            self._functional = _nnx.Functional(fn, args, kwargs)
            fn, args, kwargs = self._functional, (self._functional.state, self._functional.rest), {}
        self._call = functools.partial(fn, *args, **kwargs)
        leaves, structure = jax.tree.flatten((tuple(args), kwargs))
        self._dynamic = [leaf for leaf in leaves if _is_traced(leaf)]

        def flat(*dynamic: Any) -> list[Any]:
            supply = iter(dynamic)
            complete = [next(supply) if _is_traced(leaf) else leaf for leaf in leaves]
            arguments, keywords = jax.tree.unflatten(structure, complete)
            outputs, self._out_structure = jax.tree.flatten(fn(*arguments, **keywords))
            self._outputs = [None if isinstance(out, jax.Array) else out for out in outputs]
            self._is_array = [isinstance(out, jax.Array) for out in outputs]
            return [out for out in outputs if isinstance(out, jax.Array)]

        try:
            closed = jax.make_jaxpr(flat)(*self._dynamic)
        except Exception as error:
            raise TypeError(
                f"{who} could not trace {_name(fn)}: {_first_line(error)}{_remedy(error)}"
            ) from error
        self._has_effects = bool(closed.effects)
        planner = Planner()
        self._plan = planner.plan(closed, Scope())
        self.hides = planner.hides
        self.sites = SiteList((spot.site for spot in self._plan.all_spots), planner.opaque)

    def run(self, visitor: Visitor, *, write_back: bool = True) -> tuple[Any, Records]:
        """The function's result and the records, in the order of the program.

        Args:
            visitor: what is done at the sites.
            write_back: whether NNX modules take the state that the call leaves them in.
        """
        result, state, records = self.run_pure(visitor)
        if write_back:
            self.write_back(state)
        return result, records

    def run_pure(self, visitor: Visitor) -> tuple[Any, Any, Records]:
        """The function's result, the state in which the call leaves NNX modules (for `write_back`), and the records."""
        if self._plan is None:
            return self._unobserved(), None, {}
        if visitor.only_records and not self._has_effects and not internals.is_staging():
            # Run at once, JAX compiles some functions as one (jnp.var, the gradient of a matrix product) whose
            # equations, run one by one, may round otherwise. So the function runs itself, and replay runs beside it,
            # before it: the function may donate its arguments.
            still = [jax.lax.stop_gradient(leaf) for leaf in self._dynamic]
            _, records = replay(self._plan, visitor, still)
            result = self._call()
        else:
            result, records = self._replay(visitor)
        state = None
        if self._functional is not None:
            result, state = result
        ordered = {name: records[name] for name in self.sites.names if name in records}
        # remat gives constants back as NumPy arrays
        return result, state, jax.tree.map(jax.numpy.asarray, ordered)

    def write_back(self, state: Any) -> None:
        """Puts the state that `run_pure` returned into the user's NNX modules."""
        if self._functional is not None:
            self._functional.write_back(state)

    def _replay(self, visitor: Visitor) -> tuple[Any, Records]:
        assert self._plan is not None
        arrays, records = replay(self._plan, visitor, self._dynamic)
        supply = iter(arrays)
        outputs = [
            next(supply) if is_array else out
            for is_array, out in zip(self._is_array, self._outputs, strict=True)
        ]
        return jax.tree.unflatten(self._out_structure, outputs), records


def _is_traced(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)


def _name(fn: Callable[..., Any]) -> str:
    if isinstance(fn, functools.partial):
        return _name(fn.func)
    return getattr(fn, "__qualname__", type(fn).__name__)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _remedy(error: Exception) -> str:
    if "TraceContextError" in type(error).__name__ or "trace level" in str(error):
        return " Pass an NNX module as an argument, not by closure: its state changes in the call."
    return ""

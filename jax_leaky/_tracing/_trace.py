"""From a Python function and its arguments to a plan, and from a replay back to the function's result."""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing import _nnx
from jax_leaky._tracing._plan import Planner
from jax_leaky._tracing._program import Plan, Records, Scope
from jax_leaky._tracing._replay import replay
from jax_leaky._tracing._site import Opaque, SiteList
from jax_leaky._tracing._visitor import Visitor


class Traced:
    """A function, traced and planned for some arguments.

    JAX arrays (and shapes, `jax.ShapeDtypeStruct`) among the arguments are traced; everything else, Python numbers,
    flags, strings and NumPy arrays, reaches the function as it is, and so does what it returns.

    Attributes:
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
        if self._plan is None:
            return self._unobserved(), {}
        if visitor.only_records and not self._has_effects and not internals.is_staging():
            # Run at once, JAX compiles some functions as one (jnp.var, the gradient of a matrix product) whose
            # equations, run one by one, may round otherwise. So the function runs itself, and replay runs beside it,
            # before it: the function may donate its arguments.
            still = [jax.lax.stop_gradient(leaf) for leaf in self._dynamic]
            _, records = replay(self._plan, visitor, still)
            result = self._call()
        else:
            result, records = self._replay(visitor)
        if self._functional is not None:
            result, state = result
            if write_back:
                self._functional.write_back(state)
        ordered = {name: records[name] for name in self.sites.names if name in records}
        return result, jax.tree.map(jax.numpy.asarray, ordered)  # remat gives constants back as NumPy arrays

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


@functools.cache
def replay_works() -> bool:
    """True on a tested version; on another warns, once, and tries."""
    if internals.is_tested_version():
        return True
    works = _rehearse()
    low, high = (".".join(map(str, version)) for version in internals.TESTED)
    outcome = (
        "what it does not understand runs unobserved and is listed as opaque"
        if works
        else "replay does not work with it, so functions run unobserved"
    )
    warnings.warn(
        f"jax_leaky._tracing has been tested with JAX from {low} up to, not including, {high}; this is JAX "
        f"{jax.__version__}: {outcome}.",
        stacklevel=5,
    )
    return works


def _program(x: Array) -> Array:
    x = jax.jit(lambda x: jax.nn.relu(x) - 0.5)(x)
    x, _ = lax.scan(lambda x, _: (jnp.where(x > 0, x, 0.1 * x) + 0.1, None), x, None, length=2)
    x = jax.checkpoint(lambda x: jax.nn.silu(x) - 0.1)(x)
    return lax.cond(x.sum() > 0, jax.nn.gelu, jnp.tanh, x)


def _rehearse() -> bool:
    x = jnp.array([-1.0, -0.25, 0.5, 2.0])
    try:
        plan = Planner().plan(jax.make_jaxpr(_program)(x), Scope())
        visitor = Visitor(record=lambda _, visit: (visit.z > 0).sum())

        def replayed(x: Array) -> tuple[Array, dict[str, Array]]:
            (out,), records = replay(plan, visitor, [x])
            return out, records

        (out, records), pullback = jax.vjp(jax.jit(replayed), x)
        true_out, true_pullback = jax.vjp(jax.jit(_program), x)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jax.dtypes.float0), records)
        same_value = bool(jnp.all(out == true_out))
        same_gradient = bool(jnp.all(pullback((out, zeros))[0] == true_pullback(out)[0]))
        return same_value and same_gradient and len(records) == 5
    except Exception:
        return False

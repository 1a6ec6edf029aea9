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
from jax_leaky._tracing._nnx import Bound, is_array, modules_in, take_apart
from jax_leaky._tracing._plan import Planner
from jax_leaky._tracing._program import Choices, Plan, Records, Scope
from jax_leaky._tracing._replay import replay
from jax_leaky._tracing._site import Opaque, SiteList
from jax_leaky._tracing._visitor import Visitor


class Traced:
    """A function, traced and planned for some arguments.

    JAX arrays (and shapes, `jax.ShapeDtypeStruct`) among the arguments are traced; everything else, Python numbers,
    flags, strings and NumPy arrays, reaches the function as it is, and so does what it returns.

    Attributes:
        who: name of the public function that asks, for messages.
        plan: the function's jaxpr with what replay does there; None where replay does not work with this JAX.
        sites: activations of the function.
        hides: whether the function takes a derivative itself that may hold activations not recognised there: JAX
            writes some of them down in other equations than those of the function.

    Args:
        who: name of the public function that asks, for messages.
        fn: the function, or one that `take_apart` took apart.
        args: arguments of the function.
        kwargs: keyword arguments of the function.
        scan_rows: whether the steps of a scan have records of their own where records are merged: True for every scan,
            False for none, None for a scan over layers (`Loop.over_layers`).
        sample_axes: name or names of the mesh axes along which the shards of a shard_map hold other samples of the
            same units; any other axis is judged by how the arrays are split.

    Raises:
        TypeError: the function is not callable or does not trace.
        ValueError: `sample_axes` names an axis that no shard_map is over.
    """

    def __init__(
        self,
        who: str,
        fn: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        *,
        scan_rows: bool | None = None,
        sample_axes: str | Sequence[str] | None = None,
    ) -> None:
        if not callable(fn):
            raise TypeError(f"{who}: fn must be callable, got {type(fn).__name__}.")
        self.who = who
        self._modules: list[Any] = []
        self.plan: Plan | None = None
        self.hides = False
        self._unobserved = functools.partial(fn, *args, **kwargs)
        name = _name(fn)
        if not replay_works():
            self.sites = SiteList((), [Opaque(name, f"replay does not work with JAX {jax.__version__}")])
            return
        call: Callable[..., tuple[Any, Any]] = _without_state(fn)
        if isinstance(fn, Bound):
            call, args, kwargs = fn.pure.call, (fn.arrays, args, kwargs), {}
        elif modules := modules_in(self._unobserved):
            # Only here is what a partial holds traced: in any other call it stays a constant, as the user wrote it.
            pure, arrays = take_apart(self._unobserved)
            self._modules, call, args, kwargs = modules, pure.call, (arrays, (), {}), {}
        self._call = functools.partial(call, *args, **kwargs)
        leaves, structure = jax.tree.flatten((tuple(args), kwargs))
        self._dynamic = [leaf for leaf in leaves if is_array(leaf)]
        self._result = _Result()
        flat = functools.partial(_flat, call, leaves, structure, self._result)
        try:
            closed = jax.make_jaxpr(flat)(*self._dynamic)
        except Exception as error:  # whatever the user's function raises
            raise TypeError(f"{who} could not trace {name}: {_first_line(error)}{_remedy(error)}") from error
        self._has_effects = bool(closed.effects)
        samples = (sample_axes,) if isinstance(sample_axes, str) else sample_axes or ()
        planner = Planner()
        self.plan = planner.plan(
            internals.without_dead_code(closed), Scope(choices=Choices(scan_rows, frozenset(samples)))
        )
        if unknown := sorted(set(samples) - planner.mesh_axes):
            held = f"over {', '.join(sorted(planner.mesh_axes))}" if planner.mesh_axes else "in it"
            raise ValueError(f"{who}: sample_axes names {unknown[0]!r}, but {name} has shard_maps {held}.")
        self.hides = planner.hides
        self.sites = SiteList((spot.site for spot in self.plan.all_spots), planner.opaque)

    def run(self, visitor: Visitor, *, write_back: bool = True) -> tuple[Any, Records]:
        """The function's result and the records, in the order of the program.

        Args:
            visitor: actions at the sites.
            write_back: whether NNX modules take the state that the call leaves them in.
        """
        result, state, records = self.run_pure(visitor)
        if write_back:
            self.write_back(state)
        return result, records

    def run_pure(self, visitor: Visitor) -> tuple[Any, Any, Records]:
        """The function's result, the state in which the call leaves NNX modules (for `write_back`), and the records."""
        if self.plan is None:
            return self._unobserved(), None, {}
        if visitor.only_records and not self._has_effects and not internals.is_staging():
            # Run at once, JAX compiles some functions as one (jnp.var, the gradient of a matrix product) whose
            # equations, run one by one, may round otherwise. So the function runs itself, and replay runs beside it,
            # before it: the function may donate its arguments.
            still = [jax.lax.stop_gradient(leaf) for leaf in self._dynamic]
            _, records = replay(self.plan, visitor, still)
            result, state = self._call()
        else:
            arrays, records = replay(self.plan, visitor, self._dynamic)
            result, state = self._result.rebuilt(arrays)
        ordered = {name: records[name] for name in self.sites.names if name in records}
        # remat gives constants back as NumPy arrays
        return result, state, jax.tree.map(jax.numpy.asarray, ordered)

    def write_back(self, state: Any) -> None:
        """Puts the state that `run_pure` returned into the user's NNX modules."""
        if self._modules:
            _nnx.write_back(self._modules, state)


class _Result:
    """The result of a function without its arrays; tracing the function fills it in.

    Attributes:
        structure: pytree structure of the result.
        rest: leaves of the result; None where an array was.
        is_array: for each leaf, whether it was an array.
    """

    structure: Any
    rest: list[Any]
    is_array: list[bool]

    def rebuilt(self, arrays: Sequence[Any]) -> Any:
        """The result with other arrays."""
        supply = iter(arrays)
        leaves = [next(supply) if at else leaf for at, leaf in zip(self.is_array, self.rest, strict=True)]
        return jax.tree.unflatten(self.structure, leaves)


def _flat(
    call: Callable[..., Any], leaves: Sequence[Any], structure: Any, result: _Result, *dynamic: Any
) -> list[Any]:
    """A function from the arrays among its arguments to those in its result."""
    supply = iter(dynamic)
    args, kwargs = jax.tree.unflatten(
        structure, [next(supply) if is_array(leaf) else leaf for leaf in leaves]
    )
    outputs, result.structure = jax.tree.flatten(call(*args, **kwargs))
    result.is_array = [isinstance(out, jax.Array) for out in outputs]
    result.rest = [None if isinstance(out, jax.Array) else out for out in outputs]
    return [out for out in outputs if isinstance(out, jax.Array)]


def _without_state(fn: Callable[..., Any]) -> Callable[..., tuple[Any, None]]:
    def call(*args: Any, **kwargs: Any) -> tuple[Any, None]:
        return fn(*args, **kwargs), None

    call.__name__ = str(
        getattr(fn, "__name__", call.__name__)
    )  # JAX names the trace by it; a module's may be no text
    return call


def _name(fn: Callable[..., Any]) -> str:
    if isinstance(fn, functools.partial):
        return _name(fn.func)
    if isinstance(fn, Bound):
        return _name(fn.pure.method or jax.tree.unflatten(fn.pure.structure, fn.pure.leaves)[0])
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
    except Exception:  # an unknown JAX may fail in any way
        return False

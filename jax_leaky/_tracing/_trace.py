"""From a Python function and its arguments to a plan, and from a replay back to the function's result."""

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing import _nnx
from jax_leaky._tracing._nnx import Bound, Pure, is_array, modules_in, take_apart
from jax_leaky._tracing._origin import of_arguments, of_constants
from jax_leaky._tracing._plan import Planner
from jax_leaky._tracing._program import Choices, Plan, Records, Scope
from jax_leaky._tracing._replay import replay
from jax_leaky._tracing._site import Opaque, SiteList
from jax_leaky._tracing._visitor import Visitor


def check_callable(who: str, fn: Any) -> None:
    """Refuses what is no function.

    Raises:
        TypeError: `fn` is not callable.
    """
    if not callable(fn):
        raise TypeError(f"{who}: fn must be callable, got {type(fn).__name__}.")


class Traced:
    """A function, traced and planned for some arguments.

    The arrays of JAX and NumPy (and shapes, `jax.ShapeDtypeStruct`) among the arguments are traced, as by `jax.jit`;
    everything else, numbers of Python and NumPy, flags and strings, reaches the function as it is, and so does what it
    returns. What a partial or a closure holds is no argument: a mask or a size that must be known while tracing is
    bound so.

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
        check_callable(who, fn)
        self.who = who
        self._modules: list[Any] = []
        self._state: Any = None
        self.plan: Plan | None = None
        self.hides = False
        self._unobserved = functools.partial(fn, *args, **kwargs)
        name = name_of(fn)
        if not replay_works():
            self.sites = SiteList((), [Opaque(name, f"replay does not work with JAX {jax.__version__}")])
            return
        # As it is, NumPy would compute with it what is to be seen: `x @ w`, and an activation that follows.
        args, kwargs, numpy = _with_jax_arrays(args, kwargs)
        given = functools.partial(fn, *args, **kwargs)
        call: Callable[..., tuple[Any, Any]] = _without_state(fn)
        listed = who != "census" and len(args) == 1 and isinstance(args[0], list)
        pure: Pure | None = None
        if isinstance(fn, Bound):
            pure = fn.pure
            call, args, kwargs = fn.pure.call, (fn.arrays, args, kwargs), {}
        elif modules := modules_in(given):
            # Only here is what a partial holds traced: in any other call it stays a constant, as the user wrote it.
            pure, arrays = take_apart(given)
            self._modules, self._state = modules, arrays[1]
            call, args, kwargs = pure.call, (arrays, (), {}), {}
        leaves, structure = jax.tree.flatten((tuple(args), kwargs))
        self._dynamic = [leaf for leaf in leaves if is_array(leaf)]
        self._result = _Result(numpy)
        flat = functools.partial(_flat, call, leaves, structure, self._result)
        try:
            with jax.disable_jit(False):  # which would unroll scans, and lose what calls mean
                closed = jax.make_jaxpr(flat)(*self._dynamic)
        except Exception as error:  # whatever the user's function raises
            hint = f" {who} takes the arguments of fn as they are, not a list of batches." if listed else ""
            raise TypeError(f"{who} could not trace {name}: {_reason(error)}{hint}") from error
        self._result.refuse_lost_arrays(who, name)
        called = fn if pure is None else jax.tree.unflatten(pure.structure, pure.leaves)[0]
        origins = of_arguments((tuple(args), kwargs), pure), of_constants(called)
        samples = (sample_axes,) if isinstance(sample_axes, str) else sample_axes or ()
        planner = Planner(held=origins[1])
        choices = Choices(scan_rows, frozenset(samples))
        self.plan = planner.plan_function(internals.without_dead_code(closed), choices, origins[0])
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
        # The function itself has run for the trace, and must not run again: what it draws from NumPy, say, would be
        # another draw than the one that the records see.
        arrays, records = replay(self.plan, visitor, self._dynamic)
        result, state = self._result.rebuilt(arrays)
        # remat gives constants back as NumPy arrays; a tree.map over the dict would sort the names.
        as_arrays = functools.partial(jax.tree.map, jnp.asarray)
        return result, state, {name: as_arrays(records[name]) for name in self.sites.names if name in records}

    def write_back(self, state: Any) -> None:
        """Puts the state that `run_pure` returned into the user's NNX modules."""
        if self._modules:
            _nnx.write_back(self._modules, self._state, state)


def traced_leaves(tree: Any) -> list[Any]:
    """The leaves of an argument that `Traced` traces."""
    return [leaf for leaf in map(_as_jax_array, jax.tree.leaves(tree)) if is_array(leaf)]


class _Result:
    """The result of a function without its arrays; tracing the function fills it in.

    Attributes:
        numpy: the user's NumPy arrays by the ids of the JAX arrays in their places; the function gives them back as
            they were.
        structure: pytree structure of the result.
        rest: leaves of the result; None where an array was.
        is_array: for each leaf, whether it was an array.
    """

    structure: Any
    rest: list[Any]
    is_array: list[bool]

    def __init__(self, numpy: Mapping[int, np.ndarray]) -> None:
        self.numpy = numpy

    def refuse_lost_arrays(self, who: str, name: str) -> None:
        """Refuses a result with arrays in an object that is no pytree, where they cannot be replaced.

        Raises:
            TypeError: there is such an object.
        """
        for leaf in self.rest:
            if internals.holds_dead_tracer(leaf):
                kind = type(leaf).__name__
                raise TypeError(
                    f"{who}: {name} returns an object of type {kind} that holds arrays, and JAX cannot find them "
                    f"there: register {kind} as a pytree (jax.tree_util.register_dataclass or "
                    "register_pytree_node_class), or return the arrays."
                )

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
    filled = [next(supply) if is_array(leaf) else leaf for leaf in leaves]
    passed = {
        id(new): result.numpy[id(old)]
        for new, old in zip(filled, leaves, strict=True)
        if id(old) in result.numpy
    }
    args, kwargs = jax.tree.unflatten(structure, filled)
    outputs, result.structure = jax.tree.flatten(call(*args, **kwargs))
    outputs = [passed.get(id(out), out) for out in outputs]
    result.is_array = [isinstance(out, jax.Array) for out in outputs]
    result.rest = [None if isinstance(out, jax.Array) else out for out in outputs]
    return [out for out in outputs if isinstance(out, jax.Array)]


def _with_jax_arrays(
    args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[Sequence[Any], dict[str, Any], dict[int, np.ndarray]]:
    """Arguments with JAX arrays in the places of NumPy's, and the latter by the ids of the former."""
    leaves, structure = jax.tree.flatten((tuple(args), kwargs), is_leaf=_nnx.is_module)
    arrays = [_as_jax_array(leaf) for leaf in leaves]
    numpy = {id(new): old for new, old in zip(arrays, leaves, strict=True) if new is not old}
    return (*jax.tree.unflatten(structure, arrays), numpy) if numpy else (args, kwargs, numpy)


def _as_jax_array(leaf: Any) -> Any:
    # A masked array would lose its mask; NumPy's numbers stand for sizes and slopes, as Python's do.
    if not isinstance(leaf, np.ndarray) or isinstance(leaf, np.ma.MaskedArray):
        return leaf
    try:
        array = jnp.array(leaf)
    except (TypeError, ValueError):  # text, objects, dates: nothing that JAX can trace
        return leaf
    return array if isinstance(array, jax.Array) else leaf


def _without_state(fn: Callable[..., Any]) -> Callable[..., tuple[Any, None]]:
    def call(*args: Any, **kwargs: Any) -> tuple[Any, None]:
        return fn(*args, **kwargs), None

    call.__name__ = str(
        getattr(fn, "__name__", call.__name__)
    )  # JAX names the trace by it; a module's may be no text
    return call


def name_of(fn: Callable[..., Any]) -> str:
    if isinstance(fn, functools.partial):
        return name_of(fn.func)
    if isinstance(fn, Bound):
        called = fn.pure.method or jax.tree.unflatten(fn.pure.structure, fn.pure.leaves)[0]
        return fn.pure.module if called is None else name_of(called)
    owner = getattr(fn, "__self__", None)
    if inspect.ismethod(fn) and not isinstance(
        owner, type
    ):  # `MLP.apply`, and not the `Module.apply` that it inherits
        return f"{_name_of_owner(owner)}.{fn.__name__}"
    return str(getattr(fn, "__qualname__", type(fn).__name__))


def _name_of_owner(owner: Any) -> str:
    of_flax = type(owner).__module__.startswith("flax.")
    made_by = getattr(owner, "module_type", None) if of_flax else None  # `nnx.bridge.functional(MLP)`
    return (made_by or type(owner)).__name__


def _reason(error: Exception) -> str:
    """What the user's function raised, in a line, and the remedy where there is one."""
    lines = str(error).strip().splitlines()
    if len(lines) > 1 and (lines[0].endswith(":") or lines[0].count("(") > lines[0].count(")")):
        lines[0] += f" {lines[-1].strip()}"  # the first line only leads to the reason
    first = f"{type(error).__name__}: {lines[0].rstrip('.:')}" if lines else type(error).__name__
    return f"{first}. {_remedy(error)}".rstrip()


_UNKNOWN_IN_A_TRACE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def _remedy(error: Exception) -> str:
    if "TraceContextError" in type(error).__name__ or "trace level" in str(error):
        return "Pass an NNX module as an argument, not by closure: its state changes in the call."
    if isinstance(error, NameError) and "axis name" in str(error):
        return "Give the whole function, with the vmap, pmap or shard_map that names this axis, or call it inside one."
    if "UnboundModuleError" in type(error).__name__:
        return "Give a Linen module with its variables: functools.partial(module.apply, variables)."
    if isinstance(error, jax.errors.TracerBoolConversionError):
        return "If a setting decides it, bind that: functools.partial(fn, train=False)."
    if isinstance(error, _UNKNOWN_IN_A_TRACE) or "Shapes must be 1D sequences of concrete" in str(error):
        return (
            "Use jax.numpy there, or bind what must be known while tracing: functools.partial(fn, mask=mask)."
        )
    if "ModifyScopeVariableError" in type(error).__name__:
        return "In training mode, bind the collection that changes: functools.partial(fn, mutable=['batch_stats'])."
    if "__contains__: unsupported operand type <class 'str'>" in str(error):  # "params" in an array
        return "Linen's apply takes the variables first: functools.partial(module.apply, variables)."
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

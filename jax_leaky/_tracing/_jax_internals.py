"""Every fragile contact with JAX's jaxprs, in one place.

Fragile is what JAX gives no promise for and has changed or may change from one release to the next: how a jaxpr holds
its constants, the parameters of the equations that hold other jaxprs (a jit, a scan, a shard_map, ...), how an equation
is run again, its name stack and source line, and the types that `shard_map` gives to values. Between jax 0.10 and 0.12
`ClosedJaxpr` merged into `Jaxpr`, and scan's `num_consts` and `num_carry` became `ft_in`. All of it is read here, and
`tests/tracing/test_drift.py` holds a test for each function, so that a move in JAX shows as one red test that names
its place.

Not fragile, and read anywhere in this package, is what `jax.extend.core` names: an equation's `primitive.name`,
`invars`, `outvars` and their types; and the parameters of array operations that are the arguments of a public function
of `jax.lax`, such as the `permutation` of a transpose.

Nothing here guesses. Each construct that replay rebuilds states all the equation parameters it understands
(`PARAMETERS`); an equation that carries any other parameter is run as it is and listed as opaque.
"""

import contextlib
import gc
import os
import re
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core as jex
from jax.extend import source_info_util
from jax.interpreters import partial_eval
from jax.sharding import NamedSharding, PartitionSpec

Jaxpr = jex.Jaxpr
ClosedJaxpr = jex.ClosedJaxpr  # the same class as Jaxpr from jax 0.12 on
Equation = jex.JaxprEqn
Variable = jex.Var
Atom = jex.Var | jex.Literal
"""What an equation takes: a variable, or a number written into the jaxpr."""

TESTED = ((0, 10), (0, 13))
"""Half-open interval of the JAX versions on which the tests of this module have run."""

PARAMETERS: dict[str, str] = {
    "jit": "jaxpr in_shardings out_shardings in_layouts out_layouts donated_invars ctx_mesh name keep_unused inline "
    "compiler_options_kvs",
    "closed_call": "call_jaxpr",
    "remat2": "jaxpr prevent_cse differentiated policy",
    "custom_jvp_call": "call_jaxpr jvp_jaxpr_fun num_consts symbolic_zeros name",
    "custom_vjp_call": "call_jaxpr fwd_jaxpr_thunk bwd num_consts out_trees symbolic_zeros name",
    "scan": "jaxpr reverse length unroll num_consts num_carry ft_in ft_out",
    "while": "cond_nconsts cond_jaxpr body_nconsts body_jaxpr",
    "cond": "branches",
    "shard_map": "mesh in_specs out_specs jaxpr check_vma newly_manual_axes",
}
"""The equation parameters that replay understands, for each construct that it rebuilds."""

_LOSSES = re.compile(
    r"[\\/](optax[\\/]losses|(numpyro|distrax[\\/]_src)[\\/]distributions)[\\/](?!transforms)"
)
_JAX_HOME = str(Path(jax.__file__).parent) + os.sep
_OWN_HOME = str(Path(__file__).parent.parent) + os.sep
_OWN_COUNTS = tuple(f"{_OWN_HOME}{folder}{os.sep}" for folder in ("units", "_census"))
_LIBRARY_HOMES = re.compile(r"[/\\](flax|equinox|haiku|keras)[/\\]")
_WRAPPER = re.compile(r"\w+\(|\)")
_DERIVATIVE = re.compile(r"\b(jvp|transpose)\(")
_FRAME = re.compile(r"(?P<file>.*?):(?P<line>\d+)(:\d+)? \((?P<function>.*)\)$")


def is_tested_version() -> bool:
    """Whether this JAX lies within `TESTED`."""
    version = tuple(int(part) for part in jax.__version__.split(".")[:2])
    return TESTED[0] <= version < TESTED[1]


# Jaxprs


class Body(NamedTuple):
    """A jaxpr apart from its constants: the inputs are those of the constants, then the arguments."""

    jaxpr: Jaxpr
    consts: tuple[Any, ...]
    invars: tuple[Variable, ...]

    @property
    def arguments(self) -> tuple[Variable, ...]:
        """The inputs that are no constants."""
        return self.invars[len(self.consts) :]


def body(jaxpr: Jaxpr | ClosedJaxpr | Body) -> Body:
    """The body of an open or closed jaxpr of either generation."""
    if isinstance(jaxpr, Body):
        return jaxpr
    consts = tuple(getattr(jaxpr, "consts", ()))
    inner: Any = getattr(jaxpr, "jaxpr", jaxpr)
    if len(consts) != len(inner.constvars):
        consts = ()  # an open jaxpr of jax < 0.12, whose constants come as arguments
    return Body(inner, consts, (*inner.constvars, *inner.invars))


def without_dead_code(jaxpr: Jaxpr | ClosedJaxpr) -> Body:
    """The body without the equations whose results nothing needs, in inner jaxprs too, as `jit` drops them."""
    whole = body(jaxpr)
    alive, _ = partial_eval.dce_jaxpr(whole.jaxpr, [True] * len(whole.jaxpr.outvars), instantiate=True)
    return Body(alive, whole.consts, (*alive.constvars, *alive.invars))


def as_function(jaxpr: ClosedJaxpr) -> Callable[..., list[Any]]:
    """The function that a closed jaxpr computes."""
    return jex.jaxpr_as_fun(jaxpr)


def is_literal(atom: Atom) -> TypeGuard[jex.Literal]:
    """Whether an equation's input is a number written into the jaxpr."""
    return isinstance(atom, jex.Literal)


def variables(atoms: Iterable[Atom]) -> list[Variable]:
    """The variables among some atoms."""
    return [atom for atom in atoms if isinstance(atom, jex.Var)]


def shape_of(atom: Atom) -> tuple[int, ...]:
    """The shape of an atom, () for what has none (a token)."""
    return tuple(getattr(atom.aval, "shape", ()))


def dtype_of(atom: Atom) -> Any:
    """The dtype of an atom, None for what has none."""
    return getattr(atom.aval, "dtype", None)


def inner_jaxprs(eqn: Equation) -> list[Jaxpr | ClosedJaxpr]:
    """The jaxprs among an equation's parameters, however deep in containers."""
    return list(_jaxprs_in(eqn.params))


def _jaxprs_in(value: Any) -> Iterator[Jaxpr | ClosedJaxpr]:
    if hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns"):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _jaxprs_in(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _jaxprs_in(item)


def holds_function(eqn: Equation) -> bool:
    """Whether an equation holds a function that is no jaxpr: Python, or compiled as what `jax.export` makes.

    A random number generator is a named tuple of functions, which count for nothing here.
    """
    return any(map(_is_function, eqn.params.values()))


def _is_function(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_is_function, value.values()))
    if isinstance(value, tuple | list):
        return not hasattr(value, "_fields") and any(map(_is_function, value))
    is_jaxpr = next(_jaxprs_in(value), None) is not None
    return (
        not is_jaxpr
        and not isinstance(value, type)
        and (callable(value) or callable(getattr(value, "call", None)))
    )


def call_name(eqn: Equation) -> str:
    """The name of the function that a call equation calls, "" where there is none."""
    name = eqn.params.get("name")
    if isinstance(name, str):
        return name
    jaxprs = inner_jaxprs(eqn)
    return getattr(body(jaxprs[0]).jaxpr.debug_info, "func_name", "") or "" if jaxprs else ""


def is_plumbing(jaxpr: Jaxpr | ClosedJaxpr) -> bool:
    """Whether a function belongs to JAX itself, `jax.nn` apart.

    `jax.random.uniform` holds a `maximum(minval, ...)`, which at minval 0 reads like a ReLU.
    """
    home = _home(jaxpr)
    own = home.startswith(_JAX_HOME) and f"{os.sep}nn{os.sep}" not in home[len(_JAX_HOME) - 1 :]
    return own and not _is_of_pmap(jaxpr)


def _is_of_pmap(jaxpr: Jaxpr | ClosedJaxpr) -> bool:
    """Whether a function is the user's in the wrapping that `jax.pmap` gives it."""
    home = _home(jaxpr)
    return home.startswith(_JAX_HOME) and Path(home).name == "pmap.py"


def _home(jaxpr: Jaxpr | ClosedJaxpr) -> str:
    return getattr(body(jaxpr).jaxpr.debug_info, "func_filename", None) or ""


# Running an equation


@contextlib.contextmanager
def equation_context(eqn: Equation, *, own_lines: bool = False) -> Iterator[None]:
    """The mesh, the configuration, the name stack and the source line under which an equation was traced.

    With `own_lines` what runs in it keeps the lines that it is written in.
    """
    stack = source_info_util.current_name_stack() + eqn.source_info.name_stack
    line = None if own_lines else eqn.source_info.traceback
    with source_info_util.user_context(line, name_stack=stack), eqn.ctx.manager:
        yield


def bind(eqn: Equation, values: Sequence[Any]) -> list[Any]:
    """Runs one equation as it is."""
    parameters = eqn.primitive.get_bind_params(eqn.params)
    with equation_context(eqn):
        out = eqn.primitive.bind(*values, **parameters)
    return list(out) if eqn.primitive.multiple_results else [out]


def as_type_of(value: Any, aval: Any) -> Any:
    """`value` with the dtype and the weak type of `aval`; the shape is the caller's."""
    if not hasattr(aval, "dtype") or np.dtype(jax.dtypes.float0) == aval.dtype:
        return value  # a token, or the tangent of an integer
    weak = bool(getattr(aval, "weak_type", False))
    if isinstance(value, jax.Array):
        own = jax.typeof(value)
        if own.dtype == aval.dtype and bool(getattr(own, "weak_type", False)) == weak:
            return value
    if jnp.issubdtype(aval.dtype, jax.dtypes.extended):
        return value
    convert = jex.primitives.convert_element_type_p
    return convert.bind(value, new_dtype=np.dtype(aval.dtype), weak_type=weak, sharding=None)


# Where tracers end


def holds_dead_tracer(thing: Any) -> bool:
    """Whether an object that is no pytree holds a value of a trace that has ended, at any depth."""
    seen, ahead = set(), [thing]
    while ahead:
        part = ahead.pop()
        if id(part) in seen or isinstance(part, type | types.ModuleType):
            continue
        seen.add(id(part))
        if isinstance(part, jax.core.Tracer):
            if _is_dead(part):
                return True
        elif isinstance(part, types.FunctionType):  # not its globals, through which everything is reached
            ahead += [part.__closure__, part.__defaults__, part.__kwdefaults__, part.__dict__]
        else:
            ahead += gc.get_referents(part)
    return False


def _is_dead(tracer: jax.core.Tracer) -> bool:
    try:
        lax.optimization_barrier(tracer)
    except jax.errors.UnexpectedTracerError:
        return True
    return False


# Where an equation comes from


def module_path(eqn: Equation) -> tuple[str, ...]:
    """The named scopes around an equation, without the marks that transforms leave (`jvp(...)`, `vmap(...)`)."""
    parts = _WRAPPER.sub("/", str(eqn.source_info.name_stack)).split("/")
    return tuple(part for part in parts if part and part not in {"checkpoint", "rematted_computation"})


def is_backward(eqn: Equation) -> bool:
    """Whether an equation belongs to the backward pass of a derivative that the traced function takes itself."""
    return "transpose(" in str(eqn.source_info.name_stack)


def is_recomputed(eqn: Equation) -> bool:
    """Whether an equation of a backward pass computes again what the forward pass of a `jax.checkpoint` did."""
    return "rematted_computation" in str(eqn.source_info.name_stack)


def is_of_derivative(eqn: Equation) -> bool:
    """Whether an equation belongs to a derivative that the traced function takes itself, its forward pass included.

    The marks of a derivative around the trace are not in the jaxpr: tracing starts a name stack of its own.
    """
    return _DERIVATIVE.search(str(eqn.source_info.name_stack)) is not None


def is_mapped(eqn: Equation) -> bool:
    """Whether `jax.vmap` has made an equation, or the call around it, of another."""
    return "vmap(" in str(eqn.source_info.name_stack)


class Source(NamedTuple):
    """A line of the user's."""

    file: str
    line: int
    function: str

    @property
    def is_of_loss(self) -> bool:
        """Whether it is a line of a loss of optax or a likelihood of another library, which are no activations.

        Nor is what this package counts in a function that counts itself, such as a step with `value_and_census`.
        """
        return bool(_LOSSES.search(self.file)) or self.file.startswith(_OWN_COUNTS)

    @property
    def caller(self) -> str:
        """The function or class that the line is in, "" where it has no name: `Net` of `make.<locals>.Net.__call__`."""
        for part in reversed(self.function.split(".<locals>.")):
            named = [name for name in part.split(".") if not name.startswith("<") and name != "__call__"]
            if named:
                return ".".join(named)
        return ""


def source(eqn: Equation) -> Source | None:
    """The innermost line outside JAX, this package and the neural network libraries; else one of those libraries.

    Of what this package counts it is the line that counts.
    """
    frames = source_info_util.summarize(eqn.source_info, num_frames=64).splitlines()[::-1]
    parsed = [Source(m["file"], int(m["line"]), m["function"]) for m in map(_FRAME.match, frames) if m]
    if parsed and parsed[0].file.startswith(_OWN_COUNTS):
        return parsed[0]
    parsed = [frame for frame in parsed if not frame.file.startswith(_OWN_HOME)]
    own = (frame for frame in parsed if not _LIBRARY_HOMES.search(frame.file))
    return next(own, parsed[0] if parsed else None)


# Parameters of the constructs that replay rebuilds


def unknown_parameters(eqn: Equation) -> list[str]:
    """Parameters of a rebuildable equation that this module does not understand."""
    return sorted(set(eqn.params) - set(PARAMETERS[eqn.primitive.name].split()))


class Scan(NamedTuple):
    """The parts of a scan.

    Attributes:
        jaxpr: the jaxpr of a step, which takes the constants, the carry and the step's own inputs.
        length: number of steps.
        consts: number of inputs that are the same in every step.
        carried: number of inputs that each step gives to the next.
        options: the keywords of `jax.lax.scan` for the rest.
    """

    jaxpr: ClosedJaxpr
    length: int
    consts: int
    carried: int
    options: dict[str, Any]


def scan(eqn: Equation) -> Scan:
    """The parts of a scan equation."""
    p = eqn.params
    if "num_consts" in p:  # jax < 0.12
        consts, carried = p["num_consts"], p["num_carry"]
    else:
        consts, carried = (len(part) for part in p["ft_in"].unpack()[:2])
    return Scan(p["jaxpr"], p["length"], consts, carried, {"reverse": p["reverse"], "unroll": p["unroll"]})


class While(NamedTuple):
    """The parts of a while loop.

    Attributes:
        test: the jaxpr of the condition, which takes its constants and the state.
        step: the jaxpr of the body, which takes its own constants and the state.
        tested: number of the condition's constants, the first inputs of the equation.
        held: number of the body's constants, the inputs after those.
    """

    test: ClosedJaxpr
    step: ClosedJaxpr
    tested: int
    held: int


def while_loop(eqn: Equation) -> While:
    """The parts of a while equation."""
    p = eqn.params
    return While(p["cond_jaxpr"], p["body_jaxpr"], p["cond_nconsts"], p["body_nconsts"])


def branches(eqn: Equation) -> Sequence[ClosedJaxpr]:
    """The branches of a cond equation, whose first input is the number of the branch to take."""
    return eqn.params["branches"]


def is_recomputation(eqn: Equation) -> bool:
    """Whether a remat equation is what a gradient recomputes, and not the function of the user's."""
    return eqn.params["differentiated"]


def remat_options(eqn: Equation) -> dict[str, Any]:
    """The keywords of `jax.checkpoint` that rebuild a remat equation."""
    return {"prevent_cse": eqn.params["prevent_cse"], "policy": eqn.params["policy"]}


class ShardMap(NamedTuple):
    """The parts of a shard_map.

    Attributes:
        jaxpr: the jaxpr of a shard.
        axes: sizes of the mesh axes that it makes manual, by name in the order of the mesh.
        in_specs: split of each input over the mesh axes.
        out_specs: split of each output over the mesh axes.
        is_pmap: whether it is what `jax.pmap` is made of, whose devices hold other samples by its very meaning.
        options: the keywords of `jax.shard_map` for the rest.
    """

    jaxpr: Jaxpr
    axes: dict[str, int]
    in_specs: Sequence[PartitionSpec]
    out_specs: Sequence[PartitionSpec]
    is_pmap: bool
    options: dict[str, Any]


def shard_map(eqn: Equation) -> ShardMap:
    """The parts of a shard_map equation."""
    p = eqn.params
    mesh, manual = p["mesh"], p["newly_manual_axes"]
    axes = {name: mesh.shape[name] for name in mesh.axis_names if name in manual}
    options = {"mesh": mesh, "axis_names": set(manual), "check_vma": p["check_vma"]}
    is_pmap = _is_of_pmap(p["jaxpr"])
    return ShardMap(p["jaxpr"], axes, tuple(p["in_specs"]), tuple(p["out_specs"]), is_pmap, options)


def jit_options(eqn: Equation) -> dict[str, Any]:
    """The keywords of `jax.jit` that rebuild a jit equation, its outputs in a list that a pytree follows.

    Donation is left out: inside a traced function XLA ignores it, and an observed function that runs
    eagerly must not delete an argument that a record may still be read from.
    """

    def given(shardings: Sequence[Any]) -> tuple[Any, ...] | None:
        known = tuple(None if type(s).__name__ == "UnspecifiedValue" else s for s in shardings)
        return known if any(s is not None for s in known) else None

    options: dict[str, Any] = {"keep_unused": eqn.params["keep_unused"]}
    if eqn.params["compiler_options_kvs"]:
        options["compiler_options"] = dict(eqn.params["compiler_options_kvs"])
    if inputs := given(eqn.params["in_shardings"]):
        options["in_shardings"] = inputs
    if outputs := given(eqn.params["out_shardings"]):
        options["out_shardings"] = (list(outputs), None)
    return options


def has_layouts(eqn: Equation) -> bool:
    """Whether a jit equation fixes the memory layout of an input or output."""
    return any(layout is not None for layout in (*eqn.params["in_layouts"], *eqn.params["out_layouts"]))


# Types inside shard_map


def varying_axes(aval: Any) -> frozenset[str]:
    """The mesh axes over whose shards a value inside shard_map differs."""
    return frozenset(getattr(getattr(aval, "manual_axis_type", None), "varying", ()))


def collective_axes(eqn: Equation) -> tuple[str, ...]:
    """The mesh axes over which an equation exchanges values, or asks for its place; () for any other equation."""
    reduces = eqn.primitive.name.startswith(("psum", "pmax", "pmin"))
    names = eqn.params.get("axes" if reduces else "axis_name", ())
    # Under vmap psum holds the number of an axis beside the names.
    return tuple(n for n in (names if isinstance(names, tuple) else (names,)) if isinstance(n, str))


def replicated(value: Any) -> Any:
    """`value`, its parts brought together where its type says that they lie on several devices."""
    spec = getattr(getattr(jax.typeof(value), "sharding", None), "spec", ())
    if all(axis is None for axis in spec):
        return value
    return jax.reshard(value, NamedSharding(jax.typeof(value).sharding.mesh, PartitionSpec()))


def as_varying(value: Any, axes: frozenset[str]) -> Any:
    """`value`, typed as differing over at least `axes`; unchanged where values have no such types."""
    missing = axes - varying_axes(jax.typeof(value))
    return lax.pcast(value, tuple(sorted(missing)), to="varying") if missing else value

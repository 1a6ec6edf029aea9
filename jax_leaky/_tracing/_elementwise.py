"""Elementwise equations evaluated in NumPy, on a few probe points, without a device.

Which function of z a value is, is found by computing it: the probe points go through the equations between z
and the value, in float64, and `_kinds` compares the outcome with the formulas. A value is either known (a
number), a function of z (an array over the probes) or a parameter: something unknown that is no function of z,
such as a learnt slope. At most one parameter takes part; it runs through two values, one per half of the probes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_leaky._tracing import _jax_internals as internals

# Far probes tell relu from a clip at 100 and come last: there, exp of a smooth activation would overflow.
_BELOW = np.array([-40.0, -7.3, -5.1, -3.5, -3.0, -2.1, -1.3, -1.0, -0.6, -0.25, -1e-3, -1e-5, 0.0])
_ABOVE = np.array([1e-5, 1e-3, 0.25, 0.6, 1.0, 1.7, 2.0, 2.9, 3.0, 3.5, 5.3, 6.0, 7.1, 40.0])
NEAR = np.concatenate([_BELOW, _ABOVE])
FAR = np.array([-1e6, -1e3, 1e3, 1e6])
_POINTS = np.concatenate([NEAR, FAR])
PROBES = np.concatenate([_POINTS, _POINTS])
PARAMETER = np.repeat([0.37, -0.61], len(_POINTS))

MOST_EQUATIONS = 64
"""A function of more equations than this is not looked at as one elementwise activation."""


class Value(NamedTuple):
    """What an equation's input is, seen through the probes.

    Attributes:
        at_probes: a number, or an array over the probes.
        depends_on_z: whether it is a function of z.
        parameter: the variable of the unknown that takes part, None if none does.
        from_array: whether an array that the function closes over took part: a number as long as the array is
            closed over, an unknown once it is an argument.
    """

    at_probes: Any
    depends_on_z: bool = False
    parameter: Any = None
    from_array: bool = False


Z = Value(PROBES, depends_on_z=True)


def parameter(variable: Any) -> Value:
    """The value that stands for an unknown that is no function of z."""
    return Value(PARAMETER, parameter=variable)


def _select(which: Any, *cases: Any) -> Any:
    return np.where(which, cases[1], cases[0]) if len(cases) == 2 else None


def _convert(x: Any, new_dtype: Any, **_: Any) -> Any:
    if new_dtype == np.bool_:
        return np.not_equal(x, 0)
    if jnp.issubdtype(new_dtype, np.integer):
        return np.trunc(x)
    if jnp.issubdtype(new_dtype, np.floating):
        return np.float64(np.asarray(x).astype(new_dtype)) if np.ndim(x) == 0 else np.asarray(x, np.float64)
    return None


def _same(x: Any, **_: Any) -> Any:
    return x


def _over_elements(function: Callable[[float], float]) -> Callable[[Any], Any]:
    return np.vectorize(function, otypes=[np.float64])


PRIMITIVES: dict[str, Callable[..., Any]] = {
    "add": np.add, "add_any": np.add, "sub": np.subtract, "mul": lambda x, y, **_: np.multiply(x, y),
    "div": np.divide, "max": np.maximum, "min": np.minimum, "neg": np.negative, "abs": np.abs, "sign": np.sign,
    "exp": lambda x, **_: np.exp(x), "exp2": lambda x, **_: np.exp2(x), "expm1": lambda x, **_: np.expm1(x),
    "log": lambda x, **_: np.log(x), "log1p": lambda x, **_: np.log1p(x), "tanh": lambda x, **_: np.tanh(x),
    "logistic": lambda x, **_: 1 / (1 + np.exp(-x)), "sqrt": lambda x, **_: np.sqrt(x),
    "rsqrt": lambda x, **_: 1 / np.sqrt(x), "square": np.square, "integer_pow": lambda x, y: np.power(x, float(y)),
    "pow": np.power, "erf": lambda x, **_: _over_elements(math.erf)(x),
    "erfc": lambda x, **_: _over_elements(math.erfc)(x),
    "gt": np.greater, "ge": np.greater_equal, "lt": np.less, "le": np.less_equal, "eq": np.equal,
    "ne": np.not_equal, "and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor,
    "not": np.logical_not, "is_finite": np.isfinite, "select_n": _select,
    "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high), "convert_element_type": _convert,
    "copy": _same, "copy_p": _same, "name": _same, "reduce_precision": _same, "pvary": _same,
    "sharding_constraint": _same,
}  # fmt: skip
# `stop_gradient` is missing on purpose: `x + stop_gradient(relu(x) - x)` is a ReLU in value only.

_SHAPES = frozenset({"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "copy", "pvary"})
"""Primitives that move elements: the same number where all elements are one number."""

_BENDING = frozenset(
    {
        "max",
        "min",
        "clamp",
        "select_n",
        "abs",
        "sign",
        "exp",
        "exp2",
        "expm1",
        "log",
        "log1p",
        "tanh",
        "logistic",
    }
    | {"erf", "erfc", "gt", "ge", "lt", "le"}
)
"""Primitives of which any activation of `_kinds` has one, on arrays."""

CALLS = frozenset({"jit", "closed_call", "custom_jvp_call", "custom_vjp_call"})


def may_be_elementwise(eqn: Any) -> bool:
    """Whether an equation is worth evaluating: a primitive of the tables, or a call of few equations."""
    name = eqn.primitive.name
    if len(eqn.outvars) != 1:
        return False
    return name in PRIMITIVES or name in _SHAPES or (name in CALLS and _size(eqn) <= MOST_EQUATIONS)


def bends(eqn: Any) -> bool:
    """Whether an equation might be part of an activation that is not recognised."""
    return eqn.primitive.name in _BENDING and bool(eqn.outvars[0].aval.shape)


def _size(eqn: Any) -> int:
    """The number of equations in a call, inner calls included; counting stops above `MOST_EQUATIONS`."""
    total = 0
    for jaxpr in internals.inner_jaxprs(eqn):
        for inner in internals.body(jaxpr).jaxpr.eqns:
            total += 1 + (_size(inner) if inner.primitive.name in CALLS else 0)
            if total > MOST_EQUATIONS:
                break
    return total


def evaluate(eqn: Any, values: Sequence[Value | None], shape: tuple[int, ...]) -> Value | None:
    """The output of an equation for which `may_be_elementwise` holds; None if it is no elementwise function of z.

    Args:
        eqn: the equation.
        values: its inputs; None for what is not known, which only a call that does not need it can take.
        shape: of z; whatever depends on z has this shape too.
    """
    name = eqn.primitive.name
    if name in CALLS:
        return _call(eqn, values, shape)
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    depends = any(value.depends_on_z for value in known)
    used = [value.parameter for value in known if value.parameter is not None]
    if any(other is not used[0] for other in used):
        return None
    if depends and tuple(eqn.outvars[0].aval.shape) != shape:
        return None
    if name in _SHAPES:
        moved = depends and (name == "transpose" or tuple(eqn.invars[0].aval.shape) != shape)
        return None if moved else known[0]
    try:
        out = PRIMITIVES[name](*(value.at_probes for value in known), **_parameters(eqn))
    except TypeError:  # a parameter or a number of operands that the table does not foresee
        return None
    from_array = any(value.from_array for value in known)
    return None if out is None else Value(out, depends, used[0] if used else None, from_array)


def _parameters(eqn: Any) -> Mapping[str, Any]:
    # Accuracy, output dtype and sharding hints do not change the function; the exponent and the dtype do.
    if eqn.primitive.name in {"integer_pow", "convert_element_type"}:
        return {key: value for key, value in eqn.params.items() if key in {"y", "new_dtype"}}
    return {}


def _call(eqn: Any, values: Sequence[Value | None], shape: tuple[int, ...]) -> Value | None:
    inner = internals.body(internals.inner_jaxprs(eqn)[0])
    known = dict(zip(inner.invars, (*map(constant, inner.consts), *values), strict=True))

    def read(atom: Any) -> Value | None:
        return constant(atom.val) if internals.is_literal(atom) else known.get(atom)

    for inner_eqn in inner.jaxpr.eqns:
        if may_be_elementwise(inner_eqn):
            known[inner_eqn.outvars[0]] = evaluate(inner_eqn, list(map(read, inner_eqn.invars)), shape)
    return read(inner.jaxpr.outvars[0])


def constant(value: Any) -> Value | None:
    """A known number, or None for an array, a tracer or anything that is not a number."""
    if isinstance(value, jax.core.Tracer) or np.size(value) != 1:
        return None
    is_array = isinstance(value, jax.Array)
    if is_array and (not value.is_fully_addressable or jnp.issubdtype(value.dtype, jax.dtypes.extended)):
        return None
    number = np.asarray(value).reshape(())
    if number.dtype == np.bool_:
        return Value(number[()])
    if not jnp.issubdtype(number.dtype, np.number) or jnp.issubdtype(number.dtype, np.complexfloating):
        return None
    return Value(np.float64(number), from_array=is_array)

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
import numpy as np

from jax_leaky.tracing import _jax_internals as internals

# Far probes tell relu from a clip at 100 and come last: there, exp of a smooth activation would overflow.
NEAR = np.array(
    [-40.0, -7.3, -5.1, -3.5, -3.0, -2.1, -1.3, -1.0, -0.6, -0.25, -1e-3, -1e-5]
    + [0.0, 1e-5, 1e-3, 0.25, 0.6, 1.0, 1.7, 2.0, 2.9, 3.0, 3.5, 5.3, 6.0, 7.1, 40.0]
)
FAR = np.array([-1e6, -1e3, 1e3, 1e6])
_POINTS = np.concatenate([NEAR, FAR])
PROBES = np.concatenate([_POINTS, _POINTS])
PARAMETER = np.repeat([0.37, -0.61], len(_POINTS))

MOST_EQUATIONS = 64
"""A function of more equations than this is not looked at as one elementwise activation."""


class Value(NamedTuple):
    """What an equation's input is, seen through the probes."""

    at_probes: Any
    depends_on_z: bool = False
    parameter: Any = None


Z = Value(PROBES, depends_on_z=True)


def parameter(variable: Any) -> Value:
    """The value that stands for an unknown that is no function of z."""
    return Value(PARAMETER, parameter=variable)


def _select(which: Any, *cases: Any) -> Any:
    return np.where(which, cases[1], cases[0]) if len(cases) == 2 else None


def _convert(x: Any, new_dtype: Any, **_: Any) -> Any:
    if new_dtype == np.bool_:
        return np.not_equal(x, 0)
    if jax.dtypes.issubdtype(new_dtype, np.integer):
        return np.trunc(x)
    if jax.dtypes.issubdtype(new_dtype, np.floating):
        return np.float64(np.asarray(x).astype(new_dtype)) if np.ndim(x) == 0 else np.asarray(x, np.float64)
    return None


def _same(x: Any, **_: Any) -> Any:
    return x


def _over_elements(function: Callable[[float], float]) -> Callable[[Any], Any]:
    return np.vectorize(function, otypes=[np.float64])


_PRIMITIVES: dict[str, Callable[..., Any]] = {
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

CALLS = frozenset({"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "custom_lin"})


def is_elementwise(eqn: Any, cache: dict[int, int]) -> bool:
    """Whether an equation is one of those that can be evaluated here."""
    name = eqn.primitive.name
    if name in _PRIMITIVES or name in _SHAPES:
        return True
    return (
        name in CALLS
        and len(eqn.outvars) == 1
        and _size(internals.inner_jaxprs(eqn), cache) <= MOST_EQUATIONS
    )


def _size(jaxprs: Sequence[Any], cache: dict[int, int]) -> int:
    """The number of equations of a call, inner calls included; more than `MOST_EQUATIONS` if not elementwise."""
    if len(jaxprs) != 1:
        return MOST_EQUATIONS + 1
    inner = internals.body(jaxprs[0])
    if id(inner.jaxpr) not in cache:
        total = 0
        for eqn in inner.jaxpr.eqns:
            name = eqn.primitive.name
            if name in CALLS:
                total += _size(internals.inner_jaxprs(eqn), cache)
            elif name in _PRIMITIVES or name in _SHAPES:
                total += 1
            else:
                total += MOST_EQUATIONS + 1
            if total > MOST_EQUATIONS:
                break
        cache[id(inner.jaxpr)] = total
    return cache[id(inner.jaxpr)]


def evaluate(eqn: Any, values: Sequence[Value], shape: tuple[int, ...]) -> Value | None:
    """The output of an elementwise equation; None if it is none of a z of this shape.

    Args:
        eqn: an equation of one output for which `is_elementwise` holds.
        values: its inputs.
        shape: of z; whatever depends on z has this shape too.
    """
    depends = any(value.depends_on_z for value in values)
    used = [value.parameter for value in values if value.parameter is not None]
    if any(other is not used[0] for other in used):
        return None
    if depends and tuple(eqn.outvars[0].aval.shape) != shape:
        return None
    name = eqn.primitive.name
    if name in CALLS:
        return _call(eqn, values, shape)
    if name in _SHAPES:
        if depends and (name == "transpose" or tuple(eqn.invars[0].aval.shape) != shape):
            return None
        return values[0]
    try:
        out = _PRIMITIVES[name](*(value.at_probes for value in values), **_parameters(eqn))
    except TypeError:  # a parameter or a number of operands that the table does not foresee
        return None
    return None if out is None else Value(out, depends, used[0] if used else None)


def _parameters(eqn: Any) -> Mapping[str, Any]:
    # Accuracy, output dtype and sharding hints do not change the function; the exponent and the dtype do.
    if eqn.primitive.name in {"integer_pow", "convert_element_type"}:
        return {key: value for key, value in eqn.params.items() if key in {"y", "new_dtype"}}
    return {}


def _call(eqn: Any, values: Sequence[Value], shape: tuple[int, ...]) -> Value | None:
    inner = internals.body(internals.inner_jaxprs(eqn)[0])
    known: dict[Any, Value | None] = dict(
        zip(inner.invars, (*map(constant, inner.consts), *values), strict=True)
    )

    def read(atom: Any) -> Value | None:
        return constant(atom.val) if internals.is_literal(atom) else known[atom]

    for inner_eqn in inner.jaxpr.eqns:
        inputs = [read(atom) for atom in inner_eqn.invars]
        if len(inner_eqn.outvars) != 1:
            return None
        arguments = [value for value in inputs if value is not None]
        complete = len(arguments) == len(inputs)
        known[inner_eqn.outvars[0]] = evaluate(inner_eqn, arguments, shape) if complete else None
    return read(inner.jaxpr.outvars[0])


def constant(value: Any) -> Value | None:
    """A known number, or None for an array, a tracer or anything that is not a number."""
    if isinstance(value, jax.core.Tracer) or np.size(value) != 1:
        return None
    if isinstance(value, jax.Array):
        if not value.is_fully_addressable or jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended):
            return None
    number = np.asarray(value).reshape(())
    if number.dtype == np.bool_:
        return Value(number[()])
    return Value(np.float64(number)) if jax.dtypes.issubdtype(number.dtype, np.number) else None

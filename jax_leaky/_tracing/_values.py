"""What a value of a jaxpr is as a function of another, seen at probe points.

The equations between z and a value are evaluated in NumPy, in float64, on a few probe points. A value is either known
(a number), a function of z (an array over the probes) or a parameter: something unknown that is no function of z, such
as a learnt slope. At most one parameter takes part; it runs through two values, one per half of the probes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._jax_internals import Atom, Equation, Variable

# Far probes tell relu from a clip at 100 and come last: there, exp of a smooth activation would overflow.
_BELOW = np.array([-40.0, -7.3, -5.1, -3.5, -3.0, -2.1, -1.3, -1.0, -0.6, -0.25, -1e-3, -1e-5, 0.0])
_ABOVE = np.array([1e-5, 1e-3, 0.25, 0.6, 1.0, 1.7, 2.0, 2.9, 3.0, 3.5, 5.3, 6.0, 7.1, 40.0])
NEAR = np.concatenate([_BELOW, _ABOVE])
FAR = np.array([-1e6, -1e3, 1e3, 1e6])
POINTS = np.concatenate([NEAR, FAR])
PROBES = np.concatenate([POINTS, POINTS])
PARAMETER = np.repeat([0.37, -0.61], len(POINTS))

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
        pieces: the axis along which it holds several functions of z side by side, as `jnp.select` stacks its
            conditions: an array over pieces and probes then; None for one function.
    """

    at_probes: Any
    depends_on_z: bool = False
    parameter: Variable | None = None
    from_array: bool = False
    pieces: int | None = None


Z = Value(PROBES, depends_on_z=True)


DENSE = np.concatenate([np.linspace(-9.003, 9.001, 1801), POINTS])
"""Points a hundredth apart, on which an activation of the user's is compared: it may jump anywhere."""


def parameter(variable: Variable) -> Value:
    """The value that stands for an unknown that is no function of z."""
    return Value(PARAMETER, parameter=variable)


def _select(which: Any, *cases: Any) -> Any:
    if len(cases) == 2:
        return np.where(which, cases[1], cases[0])
    return np.select([np.equal(which, number) for number in range(len(cases))], cases) if cases else None


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
    "pow": np.power, "sin": lambda x, **_: np.sin(x), "cos": lambda x, **_: np.cos(x),
    "tan": lambda x, **_: np.tan(x), "sinh": np.sinh, "cosh": np.cosh, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "atan": np.arctan, "atan2": np.arctan2, "asin": np.arcsin, "acos": np.arccos,
    "cbrt": lambda x, **_: np.cbrt(x), "floor": np.floor, "ceil": np.ceil,
    "erf": lambda x, **_: _over_elements(math.erf)(x), "erfc": lambda x, **_: _over_elements(math.erfc)(x),
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

_PIECES = frozenset({"stack", "concatenate", "broadcast_in_dim", "slice", "cumsum", "argmax", "squeeze"})
"""Primitives by which `jnp.select` and `jnp.piecewise` stack conditions and read off the first that holds."""

_BENDING = frozenset(
    {"max", "min", "clamp", "select_n", "abs", "sign", "exp", "exp2", "expm1", "log", "log1p", "tanh"}
    | {"logistic", "erf", "erfc", "gt", "ge", "lt", "le"}
)
"""Primitives of which any activation of `KINDS` has one, on arrays."""

CALLS = frozenset({"jit", "closed_call", "custom_jvp_call", "custom_vjp_call"})


def may_be_elementwise(eqn: Equation) -> bool:
    """Whether an equation is worth evaluating: a primitive of the tables, or a call of few equations."""
    name = eqn.primitive.name
    if name in CALLS:
        return _size(eqn) <= MOST_EQUATIONS
    return len(eqn.outvars) == 1 and (name in PRIMITIVES or name in _SHAPES or name in _PIECES)


def shapes_of_z(eqn: Equation) -> set[tuple[int, ...]]:
    """The shapes that z can have where an output of the equation is a function of it, or several side by side."""
    shapes = {internals.shape_of(out) for out in eqn.outvars}
    if eqn.primitive.name in CALLS or _takes_masks(eqn):
        shapes |= {shape[:axis] + shape[axis + 1 :] for shape in shapes for axis in range(len(shape))}
    return shapes


def _takes_masks(eqn: Equation) -> bool:
    return not any(jnp.issubdtype(internals.dtype_of(atom), np.inexact) for atom in eqn.invars)


def may_bend(eqn: Equation) -> bool:
    """Whether an equation might be part of an activation that is not recognised."""
    return eqn.primitive.name in _BENDING and bool(internals.shape_of(eqn.outvars[0]))


def _size(eqn: Equation) -> int:
    """The number of equations in a call, inner calls included; counting stops above `MOST_EQUATIONS`."""
    total = 0
    for jaxpr in internals.inner_jaxprs(eqn):
        for inner in internals.body(jaxpr).jaxpr.eqns:
            total += 1 + (_size(inner) if inner.primitive.name in CALLS else 0)
            if total > MOST_EQUATIONS:
                break
    return total


def evaluate(eqn: Equation, values: Sequence[Value | None], shape: tuple[int, ...]) -> list[Value | None]:
    """The outputs of an equation for which `may_be_elementwise` holds, None for what is no elementwise function of z.

    Args:
        eqn: the equation.
        values: inputs of the equation; None for what is not known, which only a call that does not need it can take.
        shape: shape of z; whatever depends on z has this shape too, unless it holds several functions side by side.
    """
    return _call(eqn, values, shape) if eqn.primitive.name in CALLS else [_primitive(eqn, values, shape)]


def _primitive(eqn: Equation, values: Sequence[Value | None], shape: tuple[int, ...]) -> Value | None:
    name, result = eqn.primitive.name, internals.shape_of(eqn.outvars[0])
    known = [value for value in values if value is not None]
    depends = any(value.depends_on_z for value in known)
    used = [value.parameter for value in known if value.parameter is not None]
    has_unknown_input = len(known) < len(values)
    has_two_parameters = any(other is not used[0] for other in used)
    if has_unknown_input or has_two_parameters:
        return None
    side_by_side = any(value.pieces is not None for value in known)
    if name in _PIECES and depends and (side_by_side or (result != shape and _takes_masks(eqn))):
        return _several(eqn, known, shape) if not used else None
    if depends and not side_by_side and result != shape:
        return None
    if name in _SHAPES:
        moves_elements = depends and (name == "transpose" or internals.shape_of(eqn.invars[0]) != shape)
        return None if moves_elements else known[0]
    if name not in PRIMITIVES or (side_by_side and len({value.pieces for value in known}) > 1):
        return None
    try:
        out = PRIMITIVES[name](*(value.at_probes for value in known), **_parameters(eqn))
    except TypeError:  # a parameter or a number of operands that the table does not foresee
        return None
    from_array = any(value.from_array for value in known)
    pieces = known[0].pieces
    return None if out is None else Value(out, depends, used[0] if used else None, from_array, pieces)


def _several(eqn: Equation, known: Sequence[Value], shape: tuple[int, ...]) -> Value | None:
    """What a primitive of `_PIECES` makes of several functions of z, each along `pieces` a row of the probes."""
    name, params = eqn.primitive.name, eqn.params
    result = internals.shape_of(eqn.outvars[0])
    taken = {value.pieces for value in known if value.depends_on_z}
    (axis,) = taken if len(taken) == 1 else (None,)
    if name == "broadcast_in_dim" and axis is None:
        kept = params["broadcast_dimensions"]
        new = [d for d in range(len(result)) if d not in kept]
        if len(new) != 1 or result[new[0]] != 1 or internals.shape_of(eqn.invars[0]) != shape:
            return None
        return Value(known[0].at_probes[None], True, pieces=new[0])
    if name in {"stack", "concatenate"}:
        axis = params["axis"] if name == "stack" else params["dimension"]
        if taken != ({None} if name == "stack" else {axis}):
            return None
        probes = next(np.shape(value.at_probes)[-1] for value in known if value.depends_on_z)
        sizes = [1 if name == "stack" else internals.shape_of(v)[axis] for v in eqn.invars]
        rows = [
            np.broadcast_to(value.at_probes, (size, probes)) for value, size in zip(known, sizes, strict=True)
        ]
        return Value(np.concatenate(rows), True, pieces=axis)
    if axis is None:
        return None
    rows = known[0].at_probes
    if name == "slice":
        starts, stops, strides = params["start_indices"], params["limit_indices"], params["strides"]
        if (strides is not None and set(strides) != {1}) or result[:axis] + result[axis + 1 :] != shape:
            return None
        return Value(rows[starts[axis] : stops[axis]], True, pieces=axis)
    if name == "squeeze" and tuple(params["dimensions"]) == (axis,):
        return Value(rows[0], True)
    if name == "cumsum" and params["axis"] == axis and not params["reverse"]:
        return Value(np.cumsum(rows, axis=0), True, pieces=axis)
    if name == "argmax" and tuple(params["axes"]) == (axis,):
        return Value(np.argmax(rows, axis=0), True)
    return None


def _parameters(eqn: Equation) -> Mapping[str, Any]:
    # Accuracy, output dtype and sharding hints do not change the function; the exponent and the dtype do.
    if eqn.primitive.name in {"integer_pow", "convert_element_type"}:
        return {key: value for key, value in eqn.params.items() if key in {"y", "new_dtype"}}
    return {}


def _call(eqn: Equation, values: Sequence[Value | None], shape: tuple[int, ...]) -> list[Value | None]:
    inner = internals.body(internals.inner_jaxprs(eqn)[0])
    inputs = zip(inner.invars, (*map(constant, inner.consts), *values), strict=True)
    known: dict[Atom, Value | None] = dict(inputs)
    # Of `jnp.piecewise` a piece sees z as it is where the piece holds, and stop_gradient(z) elsewhere.
    is_piecewise = internals.call_name(eqn) == "_piecewise"

    def read(atom: Atom) -> Value | None:
        return constant(atom.val) if internals.is_literal(atom) else known.get(atom)

    for inner_eqn in inner.jaxpr.eqns:
        inputs_of_it = list(map(read, inner_eqn.invars))
        if may_be_elementwise(inner_eqn):
            known |= zip(inner_eqn.outvars, evaluate(inner_eqn, inputs_of_it, shape), strict=True)
        elif is_piecewise and inner_eqn.primitive.name == "stop_gradient":
            known[inner_eqn.outvars[0]] = inputs_of_it[0]
    return list(map(read, inner.jaxpr.outvars))


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

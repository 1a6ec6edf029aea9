"""The activations that are known, and how a value of a jaxpr is compared with them.

A function is what it computes, not what it is called. The equations between z and a value are evaluated in NumPy, in
float64, on a few probe points, and the outcome is compared with the formula of each kind. A name is only asked where
two kinds compute the same (`elu` and `celu` at alpha 1, `leaky_relu` at slope 0).

A value is either known (a number), a function of z (an array over the probes) or a parameter: something unknown that
is no function of z, such as a learnt slope. At most one parameter takes part; it runs through two values, one per half
of the probes.
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
    parameter: Variable | None = None
    from_array: bool = False


Z = Value(PROBES, depends_on_z=True)


def parameter(variable: Variable) -> Value:
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
    {"max", "min", "clamp", "select_n", "abs", "sign", "exp", "exp2", "expm1", "log", "log1p", "tanh"}
    | {"logistic", "erf", "erfc", "gt", "ge", "lt", "le"}
)
"""Primitives of which any activation of `KINDS` has one, on arrays."""

CALLS = frozenset({"jit", "closed_call", "custom_jvp_call", "custom_vjp_call"})


def may_be_elementwise(eqn: Equation) -> bool:
    """Whether an equation is worth evaluating: a primitive of the tables, or a call of few equations."""
    name = eqn.primitive.name
    if len(eqn.outvars) != 1:
        return False
    return name in PRIMITIVES or name in _SHAPES or (name in CALLS and _size(eqn) <= MOST_EQUATIONS)


def bends(eqn: Equation) -> bool:
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


def evaluate(eqn: Equation, values: Sequence[Value | None], shape: tuple[int, ...]) -> Value | None:
    """The output of an equation for which `may_be_elementwise` holds; None if it is no elementwise function of z.

    Args:
        eqn: the equation.
        values: inputs of the equation; None for what is not known, which only a call that does not need it can take.
        shape: shape of z; whatever depends on z has this shape too.
    """
    name, result = eqn.primitive.name, internals.shape_of(eqn.outvars[0])
    if name in CALLS:
        return _call(eqn, values, shape)
    known = [value for value in values if value is not None]
    depends = any(value.depends_on_z for value in known)
    used = [value.parameter for value in known if value.parameter is not None]
    has_unknown_input = len(known) < len(values)
    has_two_parameters = any(other is not used[0] for other in used)
    changes_shape = depends and result != shape
    if has_unknown_input or has_two_parameters or changes_shape:
        return None
    if name in _SHAPES:
        moves_elements = depends and (name == "transpose" or internals.shape_of(eqn.invars[0]) != shape)
        return None if moves_elements else known[0]
    try:
        out = PRIMITIVES[name](*(value.at_probes for value in known), **_parameters(eqn))
    except TypeError:  # a parameter or a number of operands that the table does not foresee
        return None
    from_array = any(value.from_array for value in known)
    return None if out is None else Value(out, depends, used[0] if used else None, from_array)


def _parameters(eqn: Equation) -> Mapping[str, Any]:
    # Accuracy, output dtype and sharding hints do not change the function; the exponent and the dtype do.
    if eqn.primitive.name in {"integer_pow", "convert_element_type"}:
        return {key: value for key, value in eqn.params.items() if key in {"y", "new_dtype"}}
    return {}


def _call(eqn: Equation, values: Sequence[Value | None], shape: tuple[int, ...]) -> Value | None:
    inner = internals.body(internals.inner_jaxprs(eqn)[0])
    inputs = zip(inner.invars, (*map(constant, inner.consts), *values), strict=True)
    known: dict[Atom, Value | None] = dict(inputs)

    def read(atom: Atom) -> Value | None:
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


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def _elu(z: Any, alpha: Any = 1.0) -> Any:
    return np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0)))


def _celu(z: Any, alpha: Any = 1.0) -> Any:
    return np.maximum(z, 0) + alpha * np.expm1(np.minimum(z, 0) / alpha)


def _leaky(z: Any, slope: Any) -> Any:
    return np.where(z > 0, z, slope * z)


_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)

PIECEWISE: dict[str, Callable[[Any], Any]] = {
    "relu": lambda z: np.maximum(z, 0),
    "relu6": lambda z: np.clip(z, 0, 6),
    "hard_tanh": lambda z: np.clip(z, -1, 1),
    "hard_sigmoid": lambda z: np.clip(z + 3, 0, 6) / 6,
    "hard_silu": lambda z: z * np.clip(z + 3, 0, 6) / 6,
    "sparse_plus": lambda z: np.where(z <= -1, 0, np.where(z >= 1, z, (z + 1) ** 2 / 4)),
    "sparse_sigmoid": lambda z: np.clip((z + 1) / 2, 0, 1),
}
"""Kinds made of polynomials: they are compared far out, and must be exactly 0 where the formula is."""

SMOOTH: dict[str, tuple[Callable[[Any], Any], ...]] = {
    "tanh": (np.tanh,),
    "sigmoid": (_sigmoid,),
    "silu": (lambda z: z * _sigmoid(z),),
    "gelu": (
        lambda z: z * (1 + _erf(z / math.sqrt(2))) / 2,
        lambda z: z * (1 + np.tanh(_SQRT_2_OVER_PI * (z + 0.044715 * z**3))) / 2,
        lambda z: z * _sigmoid(1.702 * z),
    ),
    "elu": (_elu,),
    "celu": (_celu,),
    "selu": (lambda z: 1.0507009873554805 * _elu(z, 1.6732632423543772),),
    "softplus": (lambda z: np.logaddexp(z, 0),),
    "log_sigmoid": (lambda z: -np.logaddexp(-z, 0),),
    "mish": (lambda z: z * np.tanh(np.logaddexp(z, 0)),),
    "soft_sign": (lambda z: z / (1 + np.abs(z)),),
    "squareplus": (lambda z: (z + np.sqrt(z * z + 4)) / 2,),
}
"""Kinds that bend everywhere, each in all the formulas it goes by; gelu: exact, tanh and the sigmoid one."""

KINDS = frozenset({*PIECEWISE, *SMOOTH, "leaky_relu", "prelu"})
ALIASES = {"swish": "silu", "hard_swish": "hard_silu", "logistic": "sigmoid", "softsign": "soft_sign"}


class Kind(NamedTuple):
    """What an activation is.

    Attributes:
        name: one of `KINDS`.
        negative_slope: the slope below 0 of relu (0), leaky_relu and prelu; None if there is none, or if it is not
            a number that the program holds.
        parameter: the variable that holds the slope (leaky_relu, prelu) or alpha (elu, celu), if it is no number.
    """

    name: str
    negative_slope: float | None = None
    parameter: Variable | None = None


class _Formula(NamedTuple):
    kind: str
    at_probes: Any
    piecewise: bool
    at_one: float
    at_three: float


_ONE = int(np.flatnonzero(NEAR == 1.0)[0])
_THREE = int(np.flatnonzero(NEAR == 3.0)[0])
_ZERO = int(np.flatnonzero(NEAR == 0.0)[0])
_LEAST = int(np.flatnonzero(NEAR == -40.0)[0])
_IS_NEAR = np.tile(np.arange(len(_POINTS)) < len(NEAR), 2)


def _formula(kind: str, at_probes: Any, piecewise: bool) -> _Formula:
    return _Formula(kind, at_probes, piecewise, float(at_probes[_ONE]), float(at_probes[_THREE]))


with np.errstate(all="ignore"):
    _FORMULAS = [
        *(_formula(kind, f(PROBES), True) for kind, f in PIECEWISE.items()),
        *(_formula(kind, f(PROBES), False) for kind, fs in SMOOTH.items() for f in fs),
    ]


def classify(value: Value, hint: str, eps: float) -> Kind | None:
    """The kind of activation that a function of z is, or None.

    Args:
        value: the function at the probes.
        hint: the name under which the function is called, "" if none.
        eps: machine epsilon of the dtype in which its numbers are written: bfloat16 writes 0.044715 as 0.0447.
    """
    hint = hinted(hint)
    if value.parameter is not None:
        return _with_parameter(value, hint)
    v = value.at_probes
    if np.ndim(v) == 0 or v.dtype == np.bool_:
        return None
    tolerance = 4 * eps
    at_one, at_three = float(v[_ONE]), float(v[_THREE])
    found = []
    for formula in _FORMULAS:
        near = abs(at_one - formula.at_one) < 0.05 and abs(at_three - formula.at_three) < 0.1
        if near and _agree(v, formula.at_probes, formula.piecewise, tolerance):
            found.append(Kind(formula.kind, 0.0 if formula.kind == "relu" else None))
    if abs(at_one - 1) <= tolerance and abs(at_three - 3) <= 3 * tolerance:
        found += _families(v, hint, eps, value.from_array)
    named = [kind for kind in found if kind.name == hint]
    return next(iter([*named, *found]), None)


def _agree(v: Any, formula: Any, piecewise: bool, tolerance: float) -> bool:
    close = np.abs(v - formula) <= tolerance * np.maximum(np.abs(formula), 0.5)
    if not piecewise:
        return bool(np.all(close | ~_IS_NEAR)) and (formula[_ZERO] != 0 or v[_ZERO] == 0)
    # maximum(z, 1e-12) guards a division; it is no activation.
    return bool(np.all(close)) and bool(np.all(v[formula == 0] == 0))


def _families(v: Any, hint: str, eps: float, from_array: bool) -> list[Kind]:
    """The kinds with a number of their own, read off the function far below 0."""
    least = -float(v[_LEAST])
    slope = least / 40
    # z and abs(z) are leaky ReLUs of slope 1 and -1 in name only, and so is 10 * (0.1 * z), rounded as it is.
    is_plain = slope == 0 or abs(abs(slope) - 1) <= 4 * eps
    if (hint == "leaky_relu" or not is_plain) and _agree(v, _leaky(PROBES, slope), True, eps):
        # A slope in an array is learnt, or might be: the kind is the same whether it is closed over or passed.
        learnt = from_array and hint != "leaky_relu"
        return [Kind("prelu" if learnt else "leaky_relu", _as_written(slope, eps))]
    if least > 0:
        for name, family in (("elu", _elu), ("celu", _celu)):
            if _agree(v, family(PROBES, least), False, 4 * eps):
                return [Kind(name)]
    return []


def _with_parameter(value: Value, hint: str) -> Kind | None:
    v = value.at_probes
    if np.ndim(v) == 0 or v.dtype == np.bool_:
        return None
    if _agree(v, _leaky(PROBES, PARAMETER), True, 1e-12):
        return Kind("leaky_relu" if hint == "leaky_relu" else "prelu", None, value.parameter)
    for name, family in (("elu", _elu), ("celu", _celu)):
        if _agree(v, family(PROBES, PARAMETER), False, 1e-9):
            return Kind(name, None, value.parameter)
    return None


def _as_written(slope: float, eps: float) -> float:
    """The shortest decimal that the dtype would round to the same slope: 0.1 for float32's 0.10000000149."""
    for digits in range(1, 18):
        short = float(f"{slope:.{digits}g}")
        if abs(short - slope) <= eps / 2 * abs(slope):
            return short
    return slope


def canonical(name: str) -> str:
    """A kind under the name it has here."""
    return ALIASES.get(name, name)


def hinted(name: str) -> str:
    """The kind that a function's name speaks of, "" if of none: `_leaky_relu_bits` speaks of leaky_relu."""
    if canonical(name) in KINDS:
        return canonical(name)
    within = [kind for kind in KINDS if kind in name]
    return max(within, key=len, default="")

"""The activations that are known, and how a value of a jaxpr is compared with them.

A function is what it computes, not what it is called: its values at the probe points (`_values`) are compared with the
formula of each kind. A name is only asked where two kinds compute the same (`elu` and `celu` at alpha 1, `leaky_relu`
at slope 0).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jax_leaky._tracing._jax_internals import Variable
from jax_leaky._tracing._values import DENSE, NEAR, PARAMETER, POINTS, PROBES, Value

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

_BUILT_IN = frozenset({*PIECEWISE, *SMOOTH, "leaky_relu", "prelu"})
KINDS = set(_BUILT_IN)
"""The names of all kinds, with those that `register_kind` has added."""
ALIASES = {"swish": "silu", "hard_swish": "hard_silu", "logistic": "sigmoid", "softsign": "soft_sign"}


class Kind(NamedTuple):
    """What an activation is.

    Attributes:
        name: one of `KINDS`.
        negative_slope: the slope below 0 of relu (0), leaky_relu and prelu; None if there is none, or if it is not
            a number that the program holds.
        parameter: the variable that holds the slope (leaky_relu, prelu) or alpha (elu, celu), if it is no number.
        negated: whether the variable holds minus the slope, as in `relu(z) + (-a) * relu(-z)`.
        axes: axes of z beside which the variable's lie, where a call puts them; None if they are the last ones.
    """

    name: str
    negative_slope: float | None = None
    parameter: Variable | None = None
    negated: bool = False
    axes: tuple[int, ...] | None = None

    def shape(self, shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
        """The shape in which the variable's value lies beside z, of that many axes."""
        if self.axes is None:
            return shape
        lengths = dict(zip(self.axes, shape, strict=True))
        return tuple(lengths.get(axis, 1) for axis in range(rank))


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
_IS_NEAR = np.tile(np.arange(len(POINTS)) < len(NEAR), 2)


def _formula(kind: str, at_probes: Any, piecewise: bool) -> _Formula:
    return _Formula(kind, at_probes, piecewise, float(at_probes[_ONE]), float(at_probes[_THREE]))


with np.errstate(all="ignore"):
    _FORMULAS = [
        *(_formula(kind, f(PROBES), True) for kind, f in PIECEWISE.items()),
        *(_formula(kind, f(PROBES), False) for kind, fs in SMOOTH.items() for f in fs),
    ]


_REGISTERED: dict[str, _Formula] = {}
_ON_DENSE: dict[str, Any] = {}


def add(kind: str, at_probes: Any, on_dense: Any) -> None:
    """Adds a kind by what its function is at the probes, and on `DENSE`."""
    with np.errstate(all="ignore"):
        _REGISTERED[kind] = _formula(kind, at_probes, _is_straight_far_out(at_probes))
    _ON_DENSE[kind] = on_dense
    KINDS.add(kind)


def remove(kind: str) -> None:
    """Removes a kind that was added."""
    _REGISTERED.pop(kind)
    _ON_DENSE.pop(kind)
    KINDS.discard(kind)


def registry() -> tuple[tuple[str, bytes], ...]:
    """The kinds that were added, with their values on `DENSE`: another one where a program counts other activations."""
    return tuple((kind, on_dense.tobytes()) for kind, on_dense in _ON_DENSE.items())


def added(kind: str) -> Any:
    """The values on `DENSE` of a kind that was added, None for any other name."""
    return _ON_DENSE.get(kind)


def differs(kind: str, on_dense: Any, eps: float) -> bool:
    """Whether a function that is an added kind at the probes is another one between them."""
    formula = _ON_DENSE[kind]
    near = np.isfinite(formula) & (np.abs(DENSE) <= 40)
    apart = ~np.isclose(on_dense[near], formula[near], rtol=4 * eps, atol=2 * eps)
    return int(np.count_nonzero(apart)) > (2 if eps > 1e-4 else 0)  # bfloat16 writes a jump at 0.3 as 0.3008


def _is_straight_far_out(at_probes: Any) -> bool:
    """Whether a function goes on as a line far out, so that it can be compared there: sin and exp do not."""
    low, less, more, high = at_probes[len(NEAR) : len(POINTS)]
    if not np.all(np.isfinite([low, less, more, high])):
        return False
    close = 0.01 * np.maximum(np.abs([low, high]), 1)
    return all(
        abs(end - near) <= bound or abs(end - near * 1e3) <= bound
        for end, near, bound in ((low, less, close[0]), (high, more, close[1]))
    )


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
    for formula in (*_FORMULAS, *_REGISTERED.values()):
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
    for negated, slope in ((False, PARAMETER), (True, -PARAMETER)):
        if _agree(v, _leaky(PROBES, slope), True, 1e-12):
            return Kind("leaky_relu" if hint == "leaky_relu" else "prelu", None, value.parameter, negated)
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
    within = [kind for kind in _BUILT_IN if kind in name]
    return max(within, key=len, default="")

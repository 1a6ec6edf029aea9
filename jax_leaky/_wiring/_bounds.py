"""Interval arithmetic: between which numbers each value of the program lies for all data in a range.

A unit whose output lies between 0 and 0 is dead on all data there. The other way round does not hold: each operation is
taken by itself, so that an interval can be wider than what is reached.

An interval holds what the program computes in its own precision, in whatever order it sums, and whether or not the
compiler keeps a number in half precision wider for a while: the ends are in float32 at least, and each operation that
rounds moves them apart.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jax_leaky._wiring import _program as program
from jax_leaky._wiring._flow import Place
from jax_leaky._wiring._values import MOVEMENTS

_RISING = (
    "copy copy_p stop_gradient name optimization_barrier sharding_constraint max min clamp floor ceil round sign "
    "reduce_max reduce_min cummax cummin reduce_window_max reduce_window_min and or reduce_and reduce_or "
    "split gather dynamic_slice dynamic_update_slice select_n sort"
)

RISING = frozenset(_RISING.split()) | frozenset(MOVEMENTS)
"""Operations that do not round, whose results rise, or stay, where an operand rises; those that choose do so by exact
numbers."""

_CURVES: Mapping[str, tuple[float, float]] = dict.fromkeys(
    ("expm1", "log", "log1p", "sqrt", "cbrt"), (-math.inf, math.inf)
) | {"exp": (0, math.inf), "exp2": (0, math.inf), "logistic": (0, 1), "tanh": (-1, 1), "erf": (-1, 1)}
"""Functions that rise, and round, with what they lie between nevertheless."""

_SUMS: Mapping[str, Callable[[Any], int]] = {
    "reduce_sum": lambda eqn: eqn.invars[0].aval.size // max(eqn.outvars[0].aval.size, 1),
    "cumsum": lambda eqn: eqn.invars[0].aval.shape[eqn.params["axis"]],
    "reduce_window_sum": lambda eqn: math.prod(eqn.params["window_dimensions"]),
}
"""The number of terms of each sum."""

_CHOSEN_BY: Mapping[str, slice] = {
    "select_n": slice(0, 1),  # a test whose outcome is open has a rule of its own
    "gather": slice(1, None),
    "dynamic_slice": slice(1, None),
    "dynamic_update_slice": slice(2, None),
}


class Interval(NamedTuple):
    """Between which numbers the elements of a value lie; None in both places where nothing is known.

    Of a test the outcome is at least whether it holds in any case, and at most whether it can hold.

    Attributes:
        low: (of the value's shape) least.
        high: (of the value's shape) greatest; the same object where the value itself is known.
    """

    low: Any
    high: Any

    @property
    def is_exact(self) -> bool:
        """Whether the value itself is known."""
        return self.low is not None and self.low is self.high


class Bounds:
    """One walk with intervals.

    Attributes:
        dead: by site whether each unit gives 0 in any case, of the shape of the site's mask.

    Args:
        places: places of the units of each site.
    """

    def __init__(self, places: Mapping[str, Place]) -> None:
        self.dead: dict[str, Array] = {}
        self._places = places

    def walk(
        self,
        body: Any,
        plan: program.Plan | None,
        arguments: Sequence[Interval],
        steps: tuple[int | None, ...] = (),
    ) -> list[Interval]:
        """The outputs of a jaxpr.

        Args:
            body: jaxpr with its constants.
            plan: plan of the jaxpr, None where tracing found no site in it.
            arguments: intervals of the jaxpr's arguments, its constants apart.
            steps: number of the step in each scan around the jaxpr, None where one step stands for all.
        """
        held = [Interval(number, number) for number in body.consts]
        known = dict(zip(body.invars, [*held, *arguments], strict=True))

        def read(atom: Any) -> Interval:
            return Interval(atom.val, atom.val) if program.is_literal(atom) else known[atom]

        for index, eqn in enumerate(body.jaxpr.eqns):
            outputs = self._equation(eqn, [read(atom) for atom in eqn.invars], plan, index, steps)
            known.update(zip(eqn.outvars, outputs, strict=True))
            spot = None if plan is None else plan.spots.get(index)
            if spot is not None and spot.site.name in self._places:
                self._visit(spot.site.name, known[spot.match.a], steps)
        return [read(atom) for atom in body.jaxpr.outvars]

    def _visit(self, name: str, output: Interval, steps: tuple[int | None, ...]) -> None:
        place = self._places[name]
        zero = jnp.zeros(place.shape[-1], bool)
        if output.low is not None:
            is_zero = (jnp.asarray(output.low) == 0) & (jnp.asarray(output.high) == 0)
            zero = is_zero.all(axis=tuple(axis for axis in range(is_zero.ndim) if axis != place.axis))
        before = self.dead.setdefault(name, jnp.ones(place.shape, bool))
        layer = tuple(step for step in steps if step is not None)
        self.dead[name] = before.at[layer].set(before[layer] & zero)

    def _equation(
        self,
        eqn: Any,
        operands: list[Interval],
        plan: program.Plan | None,
        index: int,
        steps: tuple[int | None, ...],
    ) -> list[Interval]:
        name = eqn.primitive.name
        if name in program.CALLS:
            (inner,) = program.plans(plan, index, 1)
            body = program.body(program.inner(eqn)) if inner is None else inner.body
            return self.walk(body, inner, operands, steps)
        if name == "cond":
            bodies = program.branches(eqn)
            plans = program.plans(plan, index, len(bodies))
            results = [
                self.walk(program.body(jaxpr) if own is None else own.body, own, operands[1:], steps)
                for jaxpr, own in zip(bodies, plans, strict=True)
            ]
            return [_either(cases) for cases in zip(*results, strict=True)]
        if name == "scan":
            return self._scan(eqn, operands, plan, index, steps)
        return _applied(eqn, operands)

    def _scan(
        self,
        eqn: Any,
        operands: list[Interval],
        plan: program.Plan | None,
        index: int,
        steps: tuple[int | None, ...],
    ) -> list[Interval]:
        loop = program.scan(eqn)
        (inner,) = program.plans(plan, index, 1)
        body = program.body(loop.jaxpr) if inner is None else inner.body
        held, carry = operands[: loop.consts], operands[loop.consts :][: loop.carried]
        stepwise = operands[loop.consts + loop.carried :]
        over_layers = inner is not None and any(
            spot.site.loops[len(steps)].over_layers for spot in inner.all_spots
        )
        if not over_layers:
            # A loop over time may be long: one step, whatever those before it have left, stands for all.
            carry = [_unknown(atom.aval) for atom in eqn.outvars[: loop.carried]]
            each = [_first_axis(operand) for operand in stepwise]
            self.walk(body, inner, [*held, *carry, *each], (*steps, None))
            return [_unknown(atom.aval) for atom in eqn.outvars]
        rows: dict[int, list[Interval]] = {}
        for step in range(loop.length)[:: -1 if loop.options["reverse"] else 1]:
            each = [_map(operator.itemgetter(step), operand) for operand in stepwise]
            outputs = self.walk(body, inner, [*held, *carry, *each], (*steps, step))
            carry, rows[step] = outputs[: loop.carried], outputs[loop.carried :]
        columns = zip(*(rows[step] for step in range(loop.length)), strict=True)
        return [*carry, *map(_stacked, columns)]


def _applied(eqn: Any, operands: list[Interval]) -> list[Interval]:
    """The results of an equation that holds no other jaxpr, or whose jaxprs hold no site."""
    name = eqn.primitive.name

    def compute(*numbers: Any, **changes: Any) -> list[Any]:
        results = eqn.primitive.bind(*numbers, **eqn.primitive.get_bind_params(eqn.params | changes))
        return list(results) if eqn.primitive.multiple_results else [results]

    if all(operand.is_exact for operand in operands) and not eqn.effects:
        return [Interval(number, number) for number in compute(*(operand.low for operand in operands))]
    unknown = [_unknown(atom.aval) for atom in eqn.outvars]
    if not (name in MOVEMENTS or all(_is_float(atom.aval) or _is_test(atom.aval) for atom in eqn.outvars)):
        return unknown  # an index
    operands = [_map(_wide, operand) for operand in operands]
    if name == "select_n" and not operands[0].is_exact:
        return [_selected(*operands)]
    if any(operand.low is None for operand in operands):
        return unknown
    lows, highs = ([operand[side] for operand in operands] for side in (0, 1))
    rule = _RULES.get(name)
    if name == "sort" and len(operands) > 1:
        found = []
    elif name in RISING and all(operand.is_exact for operand in operands[_CHOSEN_BY.get(name, slice(0, 0))]):
        found = list(zip(compute(*lows), compute(*highs), strict=True))
    elif name in _CURVES:
        found = [_curve(eqn, operands[0], compute(*lows)[0], compute(*highs)[0])]
    elif name in _SUMS:
        found = [_sum(eqn, lambda terms: compute(terms)[0], operands[0], _SUMS[name](eqn))]
    elif name in _TERMS and any(operand.is_exact for operand in operands):
        found = [_product(eqn, compute, *operands)]
    elif rule is not None:
        found = [rule(eqn, *operands)]
    else:
        found = []
    return [_tidy(low, high) for low, high in found] if found else unknown


def _wide(number: Any) -> Any:
    """A number in float32 at least, if it is no integer and no test."""
    return jnp.asarray(number, jnp.promote_types(number.dtype, jnp.float32)) if _is_float(number) else number


def _least(eqn: Any, wide: Any) -> float:
    """What is 0 at times: the least number of the program's dtype, or of the processor's."""
    info = jnp.finfo(eqn.outvars[0].aval.dtype)
    return max(float(info.smallest_subnormal), float(jnp.finfo(wide).tiny))


def _rounded(
    eqn: Any, low: Any, high: Any, lost: tuple[Any, Any] = (False, False), times: int = 1
) -> tuple[Any, Any]:
    """Ends that hold a result whether or not it was rounded; a 0 stays, but for one of an underflow.

    Args:
        eqn: equation.
        low: least result, as computed here.
        high: greatest result, likewise.
        lost: where each of them is 0 although it should not be.
        times: number of times that the program rounds.
    """
    info = jnp.finfo(eqn.outvars[0].aval.dtype)
    share = times * (2 * float(info.eps) + 6 * float(jnp.finfo(low.dtype).eps))
    least = 2 * times * _least(eqn, low.dtype)

    def moved(end: Any, lost: Any, sign: int) -> Any:
        width = jnp.where(end == 0, jnp.where(lost, least, 0), share * jnp.abs(end) + least)
        end = jnp.where(jnp.isinf(end), end, end + sign * width)
        return jnp.where(sign * end > float(info.max), sign * jnp.inf, end)  # where the program overflows

    return moved(low, lost[0], -1), moved(high, lost[1], 1)


def _curve(eqn: Any, a: Interval, low: Any, high: Any) -> tuple[Any, Any]:
    bottom, top = _CURVES[eqn.primitive.name]
    never_0 = bottom == 0
    lost = [never_0 & ~jnp.isneginf(end) for end in a]
    low, high = _rounded(eqn, low, high, (lost[0], lost[1]))
    return jnp.clip(low, bottom, top), jnp.clip(high, bottom, top)


def _sizes(one: Any, other: Any, share: float) -> tuple[Any, Any]:
    """How large the terms of a sum are where the sum with its rounding is greatest."""
    sizes = jnp.abs(one), jnp.abs(other)
    # Below 1, a lower term lowers the sum by more than its rounding can raise it.
    return sizes if share < 1 else (jnp.maximum(*sizes),) * 2


def _sum(eqn: Any, add: Callable[[Any], Any], a: Interval, terms: int) -> tuple[Any, Any]:
    share = (terms + 2) * float(jnp.finfo(eqn.outvars[0].aval.dtype).eps)
    least = terms * _least(eqn, a.low.dtype)
    low, high = (add(size) for size in _sizes(a.low, a.high, share))
    widths = [share * size + jnp.where(size > 0, least, 0) for size in (low, high)]
    return _rounded(eqn, add(a.low) - widths[0], add(a.high) + widths[1])


_TERMS: Mapping[str, Callable[[Any], int]] = {
    "dot_general": lambda eqn: math.prod(
        eqn.invars[0].aval.shape[axis] for axis in eqn.params["dimension_numbers"][0][0]
    ),
    "conv_general_dilated": lambda eqn: (
        eqn.invars[1].aval.size // eqn.invars[1].aval.shape[eqn.params["dimension_numbers"].rhs_spec[0]]
    ),
}
"""The number of products in each sum, at most."""

# By default accelerators round the factors: GPUs to TensorFloat-32, TPUs to bfloat16. The CPU does not.
_ROUNDED_FACTORS: Mapping[str, float] = {"cpu": 0, "gpu": 2.0**-10}


def _product(eqn: Any, multiply: Callable[..., list[Any]], one: Interval, other: Interval) -> tuple[Any, Any]:
    """The bounds of a sum of products of a value with exact numbers."""
    turned = not other.is_exact
    weight, data = (one.low, other) if turned else (other.low, one)
    wide = jnp.promote_types(weight.dtype, data.low.dtype)

    def times(data: Any, weight: Any) -> Any:
        factors = (weight, data) if turned else (data, weight)
        highest = {"precision": (jax.lax.Precision.HIGHEST,) * 2, "preferred_element_type": wide}
        return multiply(*(factor.astype(wide) for factor in factors), **highest)[0]

    factors = [float(jnp.finfo(atom.aval.dtype).eps) for atom in eqn.invars if _is_float(atom.aval)]
    if eqn.params["precision"] != (jax.lax.Precision.HIGHEST,) * 2:
        factors.append(_ROUNDED_FACTORS.get(jax.default_backend(), 2.0**-7))
    terms = _TERMS[eqn.primitive.name](eqn)
    share = (terms + 2) * float(jnp.finfo(eqn.outvars[0].aval.dtype).eps) + 2 * max(factors)
    least = terms * _least(eqn, wide)
    rising, falling = jnp.maximum(weight, 0), jnp.minimum(weight, 0)

    def bound(towards: Any, away: Any, sign: int) -> Any:
        sizes = _sizes(towards, away, share)
        # 0 times infinity is 0 here: a weight of 0 reads nothing, however large.
        endless = [jnp.isinf(size) for size in sizes]
        finite = [
            jnp.where(at, 0, part) for at, part in zip(endless * 2, (towards, away, *sizes), strict=True)
        ]
        total = times(finite[0], rising) + times(finite[1], falling)
        size = times(finite[2], rising) + times(finite[3], -falling)
        reached = times(endless[0], jnp.sign(rising)) + times(endless[1], jnp.sign(-falling)) > 0
        width = share * size + jnp.where(size > 0, least, 0)
        return jnp.where(reached, sign * jnp.inf, total + sign * width)

    return _rounded(eqn, bound(data.low, data.high, -1), bound(data.high, data.low, 1))


def _add(eqn: Any, a: Interval, b: Interval) -> tuple[Any, Any]:
    low, high = (one + other for one, other in zip(a, b, strict=True))
    return _rounded(eqn, low, high, (a.low != -b.low, a.high != -b.high))


def _sub(eqn: Any, a: Interval, b: Interval) -> tuple[Any, Any]:
    return _add(eqn, a, Interval(-b.high, -b.low))


def _mul(eqn: Any, a: Interval, b: Interval) -> tuple[Any, Any]:
    corners, lost = [], []
    for one in a:
        for other in b:
            zero = (one == 0) | (other == 0)
            corners.append(jnp.where(zero, 0, one * other))
            lost.append((corners[-1] == 0) & ~zero)
    return _rounded(eqn, _lowest(corners), _highest(corners), (_highest(lost),) * 2)


def _div(eqn: Any, a: Interval, b: Interval) -> tuple[Any, Any]:
    around_0 = (b.low <= 0) & (b.high >= 0)
    corners, lost = [], []
    for one in a:
        for other in b:
            zero = (one == 0) | jnp.isinf(other)  # of two infinite ends another corner is the bound
            quotient = jnp.where(zero, 0, one / jnp.where(around_0, 1, other))
            corners.append(jnp.where(around_0 & (one != 0), jnp.sign(one) * jnp.inf, quotient))
            lost.append((quotient == 0) & ~zero)
    # A divisor of either sign turns them round.
    mirrored = [jnp.where(around_0, -corner, corner) for corner in corners]
    ends = _lowest([*corners, *mirrored]), _highest([*corners, *mirrored])
    return _rounded(eqn, *ends, (_highest(lost),) * 2)


def _convert(eqn: Any, a: Interval) -> tuple[Any, Any]:
    source, target = (atom.aval.dtype for atom in (eqn.invars[0], eqn.outvars[0]))
    if jnp.issubdtype(target, bool):
        return (a.low > 0) | (a.high < 0), (a.low != 0) | (a.high != 0)
    low, high = (jnp.asarray(end, jnp.promote_types(target, jnp.float32)) for end in a)
    if jnp.issubdtype(source, jnp.integer):
        is_kept = jnp.iinfo(source).bits <= jnp.finfo(target).nmant + 1
    else:
        is_kept = jnp.promote_types(source, target) == target
    return (low, high) if is_kept else _rounded(eqn, low, high)


def _reduce_precision(eqn: Any, a: Interval) -> tuple[Any, Any]:
    low, high = (eqn.primitive.bind(end, **eqn.params) for end in a)
    return jnp.minimum(low, a.low), jnp.maximum(high, a.high)


def _greater(eqn: Any, a: Interval, b: Interval) -> tuple[Any, Any]:
    bind = eqn.primitive.bind
    return bind(a.low, b.high), bind(a.high, b.low)


def _less(eqn: Any, a: Interval, b: Interval) -> tuple[Any, Any]:
    bind = eqn.primitive.bind
    return bind(a.high, b.low), bind(a.low, b.high)


def _not(eqn: Any, a: Interval) -> tuple[Any, Any]:
    return eqn.primitive.bind(a.high), eqn.primitive.bind(a.low)


def _neg(eqn: Any, a: Interval) -> tuple[Any, Any]:
    del eqn
    return -a.high, -a.low


def _rsqrt(eqn: Any, a: Interval) -> tuple[Any, Any]:
    return _rounded(eqn, jax.lax.rsqrt(a.high), jax.lax.rsqrt(a.low))


def _abs(eqn: Any, a: Interval) -> tuple[Any, Any]:
    del eqn
    return jnp.maximum(jnp.maximum(a.low, -a.high), 0), jnp.maximum(jnp.abs(a.low), jnp.abs(a.high))


def _power(eqn: Any, a: Interval) -> tuple[Any, Any]:
    exponent = eqn.params.get("y", 2)
    size = abs(exponent)
    base = a if size % 2 else Interval(*_abs(eqn, a))
    ends = [end**size for end in base]
    lost = (base.low != 0, base.high != 0)
    power = Interval(*_rounded(eqn, ends[0], ends[1], lost, times=size))
    one = jnp.ones((), power.low.dtype)
    return power if exponent > 0 else _div(eqn, Interval(one, one), power)


_RULES: Mapping[str, Callable[..., tuple[Any, Any]]] = {
    "add": _add,
    "add_any": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "convert_element_type": _convert,
    "reduce_precision": _reduce_precision,
    "rsqrt": _rsqrt,
    "abs": _abs,
    "square": _power,
    "integer_pow": _power,
    "gt": _greater,
    "ge": _greater,
    "lt": _less,
    "le": _less,
    "not": _not,
}


def check_ends(low: Any, high: Any, data: Sequence[Any]) -> None:
    """Refuses bounds that are no numbers or do not fit the data.

    Args:
        low: least values, or None.
        high: greatest values, or None.
        data: shapes of the data.

    Raises:
        TypeError: a bound is no number and no array.
        ValueError: there are no data, a bound has another shape, or the least values are above the greatest.
    """
    for name, end in (("low", low), ("high", high)):
        if end is None:
            continue
        if not (hasattr(end, "shape") or isinstance(end, int | float)):
            raise TypeError(f"dead_by_bounds: {name} must be a number or an array, got {type(end).__name__}.")
        shape = jnp.shape(end)
        for leaf in data:
            if len(shape) > len(leaf.shape) or any(
                own not in (1, there) for own, there in zip(shape[::-1], leaf.shape[::-1], strict=False)
            ):
                raise ValueError(
                    f"dead_by_bounds: {name} has shape {shape}, which does not broadcast to that of the data, "
                    f"{leaf.shape}."
                )
    ends = (low, high)
    if not data and any(end is not None for end in ends):
        raise ValueError(
            "dead_by_bounds: low and high are those of the first argument after the parameters, in which there is no "
            "array: give wiring the data there."
        )
    if not any(end is None or isinstance(end, jax.core.Tracer) for end in ends) and not np.all(low <= high):
        raise ValueError("dead_by_bounds: low must be at most high everywhere.")


def given(leaf: Any, low: Any, high: Any) -> Interval:
    """The interval of an argument that is no parameter.

    Args:
        leaf: shape of the argument.
        low: numbers that are at most its elements, or None.
        high: numbers that are at least its elements, or None.
    """
    if not _is_ordered(leaf) or _is_test(leaf) or (low is None and high is None):
        return _unknown(leaf)
    least, most = (
        (-jnp.inf, jnp.inf) if _is_float(leaf) else (jnp.iinfo(leaf.dtype).min, jnp.iinfo(leaf.dtype).max)
    )
    low, high = (
        jnp.asarray(end, leaf.dtype) if part is None else jnp.asarray(part)
        for part, end in ((low, least), (high, most))
    )
    # An integer dtype has ends of its own, and what lies beyond them would come back in at the other.
    kept = (
        jnp.where(low.astype(float) <= float(least), jnp.asarray(least, leaf.dtype), low.astype(leaf.dtype)),
        jnp.where(high.astype(float) >= float(most), jnp.asarray(most, leaf.dtype), high.astype(leaf.dtype)),
    )
    return Interval(*(jnp.broadcast_to(end, leaf.shape) for end in kept))


def _unknown(aval: Any) -> Interval:
    if not _is_float(aval):
        return Interval(None, None)
    wide = jnp.promote_types(aval.dtype, jnp.float32)
    return Interval(jnp.full(aval.shape, -jnp.inf, wide), jnp.full(aval.shape, jnp.inf, wide))


def _is_float(aval: Any) -> bool:
    return hasattr(aval, "dtype") and jnp.issubdtype(aval.dtype, jnp.floating)


def _is_test(aval: Any) -> bool:
    return hasattr(aval, "dtype") and jnp.issubdtype(aval.dtype, bool)


def _is_ordered(number: Any) -> bool:
    """Whether something is known that lies between others: no key of random numbers, and nothing complex."""
    dtype = None if number is None else jnp.result_type(number)
    return dtype is not None and any(
        jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, bool)
    )


def _tidy(low: Any, high: Any) -> Interval:
    """An interval; what is not a number says nothing."""
    if not _is_float(low):
        return Interval(low, high)
    return Interval(jnp.where(jnp.isnan(low), -jnp.inf, low), jnp.where(jnp.isnan(high), jnp.inf, high))


def _map(fn: Callable[[Any], Any], operand: Interval) -> Interval:
    if operand.low is None:
        return operand
    low = fn(operand.low)
    return Interval(low, low if operand.is_exact else fn(operand.high))


def _either(cases: Sequence[Interval]) -> Interval:
    """The interval of a value that is one of several."""
    if not all(_is_ordered(case.low) for case in cases):
        return Interval(None, None)
    return Interval(_lowest([case.low for case in cases]), _highest([case.high for case in cases]))


def _selected(which: Interval, *cases: Interval) -> Interval:
    """The interval of a choice between cases, by a test where that is known to hold, or not to."""
    either = _either(cases)
    if either.low is None or which.low is None or not _is_test(which.low):
        return either
    ends = []
    for side in (0, 1):
        chosen = jax.lax.select_n(which.low, *(jnp.asarray(case[side]) for case in cases))
        ends.append(jnp.where(jnp.equal(which.low, which.high), chosen, either[side]))
    return Interval(*ends)


def _stacked(rows: Sequence[Interval]) -> Interval:
    if any(row.low is None for row in rows):
        return Interval(None, None)
    return Interval(jnp.stack([row.low for row in rows]), jnp.stack([row.high for row in rows]))


def _first_axis(operand: Interval) -> Interval:
    """The interval of any place along the first axis."""
    if operand.low is None or not jnp.issubdtype(jnp.asarray(operand.low).dtype, jnp.floating):
        return Interval(None, None)
    return Interval(jnp.min(operand.low, axis=0), jnp.max(operand.high, axis=0))


def _lowest(parts: Sequence[Any]) -> Any:
    return jnp.min(jnp.stack(jnp.broadcast_arrays(*parts)), axis=0)


def _highest(parts: Sequence[Any]) -> Any:
    return jnp.max(jnp.stack(jnp.broadcast_arrays(*parts)), axis=0)

"""How each operation carries what is known of its operands on to its result.

An operation that is not known here mixes all that comes into it, so that nothing is told apart that should not be.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jax_leaky._wiring._mixing import Mixing
from jax_leaky._wiring._products import convolution, dot, window_taps
from jax_leaky._wiring._sets import EMPTY, EVERYTHING, Labels, compressed
from jax_leaky._wiring._values import MOVEMENTS, Value, full, movement, unlabelled, value

LARGEST_KNOWN = 1 << 20
"""How many elements a number of the program may have to be computed here."""

_AT_ZERO_0 = (
    "neg abs sign sin tan tanh asin atan sinh asinh atanh erf expm1 log1p sqrt cbrt square integer_pow floor ceil "
    "round real imag conj copy copy_p convert_element_type reduce_precision stop_gradient optimization_barrier name "
    "sharding_constraint reshard"
)
_OTHERS = (
    "add add_any sub mul div max min pow atan2 rem nextafter and or xor not eq ne lt le gt ge eq_to le_to lt_to "
    "select_n clamp exp exp2 log rsqrt cos cosh acos acosh logistic lgamma digamma erfc erf_inv is_finite complex "
    "shift_left shift_right_logical shift_right_arithmetic bessel_i0e bessel_i1e population_count clz"
)
_REDUCTIONS = "reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor argmax argmin"

KEEPS_ZERO = frozenset(_AT_ZERO_0.split())
"""Functions of each element that are 0 at 0."""

ELEMENTWISE = KEEPS_ZERO | frozenset(_OTHERS.split())
"""Operations whose result at each place depends on the operands at that place."""

REDUCTIONS = frozenset(_REDUCTIONS.split())
CUMULATIVE = frozenset(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"))
WINDOWS = frozenset(("reduce_window_sum", "reduce_window_max", "reduce_window_min"))

_SUMS = frozenset(("add", "add_any", "convert_element_type", "copy", "copy_p", "stop_gradient", "name"))

_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "neg": np.negative,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "not": np.bitwise_not,
    "select_n": lambda which, *cases: np.choose(np.asarray(which, np.int64), cases),
}
"""The operations by which programs compute indices and masks."""


class Operations(Mixing):
    """The operations, with the records that they write."""

    def apply(self, eqn: Any, operands: Sequence[Value]) -> list[Value]:
        """The results of an equation that holds no other jaxpr."""
        name = eqn.primitive.name
        shapes = [tuple(getattr(out.aval, "shape", ())) for out in eqn.outvars]
        if name == "iota":
            return [self._iota(eqn)]
        if name in ELEMENTWISE and len(shapes) == 1:
            return [self._elementwise(eqn, operands, shapes[0])]
        if not any(operand.is_labelled or operand.is_nothing for operand in operands):
            data = any(operand.data for operand in operands)
            results = [unlabelled(shape, data) for shape in shapes]
            if name in MOVEMENTS and all(operand.known is not None for operand in operands):
                results = [movement(eqn, operands)]
            return results
        if name in MOVEMENTS:
            if any(operand.data for operand in operands):
                self.meet(operands)
            return [movement(eqn, operands)]
        rule = getattr(self, f"_{name}", None)
        if rule is not None:
            return rule(eqn, operands, shapes)
        if name in REDUCTIONS:
            axes = eqn.params["axes"]
            return [self.reduced(operands[0], axes, name, vanishes=not name.startswith("arg"))]
        if name in CUMULATIVE:
            return [self.along(operands[0], eqn.params["axis"], name)]
        if name in WINDOWS:
            return [self._windows(eqn, operands[0], name)]
        return self.unknown(name, operands, shapes)

    def _iota(self, eqn: Any) -> Value:
        shape, axis = eqn.params["shape"], eqn.params["dimension"]
        counted = np.arange(shape[axis], dtype=eqn.params["dtype"])
        return self._constant(
            np.broadcast_to(np.expand_dims(counted, [i for i in range(len(shape)) if i != axis]), shape)
        )

    def _constant(self, known: Any) -> Value:
        none = full(EMPTY, known.shape)
        zero = np.where(compressed(known) == 0, np.int32(EVERYTHING), np.int32(EMPTY))
        return Value(none, none, np.broadcast_to(zero, known.shape), False, known)

    # Element by element

    def _elementwise(self, eqn: Any, operands: Sequence[Value], shape: tuple[int, ...]) -> Value:
        name = eqn.primitive.name
        if all(operand.known is not None for operand in operands):
            known = _computed(eqn, [operand.known for operand in operands], shape)
            if known is not None:
                return self._constant(known)
        data = any(operand.data for operand in operands)
        zero = np.broadcast_to(self._zero(eqn, operands, data), shape)
        if not any(operand.is_labelled for operand in operands):
            return Value(full(EMPTY, shape), full(EMPTY, shape), zero, data)
        direct, mixed = full(EMPTY, shape), full(EMPTY, shape)
        for operand in operands:
            direct = self.sets.union(direct, operand.direct)
            mixed = self.sets.union(mixed, operand.mixed)
        if data:
            for place, operand in enumerate(operands):
                if operand.is_weight:
                    factors = self._factors(name, operands, place)
                    self.records.meet(operand.direct, operand.mixed, np.broadcast_to(factors, shape))
        result = value(direct, mixed, zero, data)
        if name in _SUMS and all(operand.is_plain for operand in operands):
            if data and len(operands) == 2:
                for weight, other in (operands, operands[::-1]):
                    if weight.is_weight and other.is_labelled:
                        self.records.offset(np.broadcast_to(other.direct, shape), weight.direct)
            return dataclasses.replace(result, plain=data or len(operands) == 1)
        return result

    def _factors(self, name: str, operands: Sequence[Value], place: int) -> Labels:
        """The units that are factors of all that a weight meets."""
        if (name == "mul" and len(operands) == 2) or (name == "div" and place == 1):
            return self.of_data(operands[1 - place])
        return full(EMPTY, ())

    def _zero(self, eqn: Any, operands: Sequence[Value], data: bool) -> Labels:
        name = eqn.primitive.name
        zeros = [self.of_data(operand) if data else operand.zero for operand in operands]
        if name in KEEPS_ZERO:
            return zeros[0] if name != "integer_pow" or eqn.params["y"] > 0 else full(EMPTY, ())
        if name == "mul" or name == "and":
            for place, operand in enumerate(operands):
                if operand.known is not None and operands[1 - place].is_weight:  # a mask over weights
                    zeros[place] = _or_known(zeros[place], operand.known, np.equal)
            return self.sets.union(zeros[0], zeros[1])
        if name in {"div", "rem"}:
            return zeros[0]
        if name == "max":
            zeros = [
                _or_known(zero, op.known, np.less_equal) for zero, op in zip(zeros, operands, strict=True)
            ]
        elif name == "min":
            zeros = [
                _or_known(zero, op.known, np.greater_equal) for zero, op in zip(zeros, operands, strict=True)
            ]
        elif name == "clamp":
            low, _, high = operands
            zeros = [
                _or_known(zeros[0], low.known, np.less_equal),
                zeros[1],
                _or_known(zeros[2], high.known, np.greater_equal),
            ]
        elif name == "select_n":
            zeros = zeros[1:]
        elif name not in {"add", "add_any", "sub", "or", "xor", "complex"}:
            return full(EMPTY, ())
        result = zeros[0]
        for zero in zeros[1:]:
            result = self.sets.intersection(result, zero)
        return result

    # Several places at once

    def _sort(self, eqn: Any, operands: Sequence[Value], shapes: Sequence[tuple[int, ...]]) -> list[Value]:
        if len(operands) > 1:
            return self.unknown("sort", operands, shapes)
        return [self.along(operands[0], eqn.params["dimension"], "sort")]

    def _top_k(self, eqn: Any, operands: Sequence[Value], shapes: Sequence[tuple[int, ...]]) -> list[Value]:
        del shapes
        operand = operands[0]
        best = self.along(operand, eqn.params["axis"], "top_k", eqn.params["k"])
        return [best, Value(best.direct, best.mixed, full(EMPTY, best.shape), best.data)]

    def _split(self, eqn: Any, operands: Sequence[Value], shapes: Sequence[tuple[int, ...]]) -> list[Value]:
        del shapes
        axis, ends = eqn.params["axis"], np.cumsum(eqn.params["sizes"])
        parts = []
        for start, end in itertools.pairwise((0, *ends.tolist())):
            parts.append(operands[0].at(axis, slice(start, end)))
        return parts

    def _windows(self, eqn: Any, operand: Value, name: str) -> Value:
        parameters = eqn.params
        taps = [
            window_taps(*sizes)
            for sizes in zip(
                operand.shape,
                eqn.outvars[0].aval.shape,
                parameters["window_dimensions"],
                parameters["window_strides"],
                parameters["padding"],
                parameters["base_dilation"],
                parameters["window_dilation"],
                strict=True,
            )
        ]
        # Each window becomes an axis of its own; what lies in the padding has no label and is 0.
        for axis, (positions, valid) in enumerate(taps):
            at = 2 * axis
            picks = np.where(valid, positions, 0)
            operand = operand.at(at, picks)
            keep = valid.reshape((1,) * at + valid.shape + (1,) * (len(operand.shape) - at - 2))
            operand = Value(
                np.where(keep, operand.direct, np.int32(EMPTY)),
                np.where(keep, operand.mixed, np.int32(EMPTY)),
                np.where(keep, operand.zero, np.int32(EVERYTHING)),
                operand.data,
            )
        return self.reduced(operand, [2 * axis + 1 for axis in range(len(taps))], name)

    # Parts at a place

    def _dynamic_slice(
        self, eqn: Any, operands: Sequence[Value], shapes: Sequence[tuple[int, ...]]
    ) -> list[Value]:
        operand, starts, sizes = operands[0], operands[1:], eqn.params["slice_sizes"]
        if any(start.is_labelled for start in starts):
            return self.unknown("dynamic_slice", operands, shapes)
        for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
            length = operand.shape[axis]
            if size == length:
                continue
            if start.known is not None:
                begin = min(max(int(start.known), 0), length - size)
                operand = operand.at(axis, slice(begin, begin + size))
            else:
                if operand.is_weight and start.data:
                    self.meet([operand], always=True)
                operand = self.along(operand, axis, "dynamic_slice", size)
        data = operand.data or any(start.data for start in starts)
        return [Value(operand.direct, operand.mixed, operand.zero, data, operand.known)]

    def _dynamic_update_slice(
        self, eqn: Any, operands: Sequence[Value], shapes: Sequence[tuple[int, ...]]
    ) -> list[Value]:
        del eqn
        operand, update, *starts = operands
        if any(start.known is None for start in starts):
            return self.unknown("dynamic_update_slice", operands, shapes)
        self.meet([operand, update])
        place = []
        for start, length, size in zip(starts, operand.shape, update.shape, strict=True):
            begin = min(max(int(start.known), 0), length - size)
            place.append(slice(begin, begin + size))

        def put(part: Any, new: Any) -> Any:
            part = part.copy()
            part[tuple(place)] = new
            return part

        parts = [
            put(old, new)
            for old, new in (
                (operand.direct, update.direct),
                (operand.mixed, update.mixed),
                (operand.zero, update.zero),
            )
        ]
        direct, mixed, zero = parts
        return [Value(direct, mixed, zero, operand.data or update.data)]

    def _gather(self, eqn: Any, operands: Sequence[Value], shapes: Sequence[tuple[int, ...]]) -> list[Value]:
        operand, indices = operands
        if indices.is_labelled:
            return self.unknown("gather", operands, shapes)
        if indices.known is not None:
            return [self._picked(eqn, operand, indices.known)]
        if operand.is_weight:
            # A table that data choose from: each result may come from any row.
            self.meet([operand], always=True)
        numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
        unknown = {*numbers.start_index_map, *numbers.operand_batching_dims}
        gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
        for axis, size in enumerate(sizes):
            if axis in unknown:
                operand = self._chosen(operand, axis, size)
            elif size < operand.shape[axis]:
                operand = operand.at(axis, slice(0, size))
        kept = [axis for axis in range(len(sizes)) if axis not in gone]
        shape = shapes[0]
        ones = [1] * len(shape)
        for axis, at in zip(kept, numbers.offset_dims, strict=True):
            ones[at] = sizes[axis]
        spread = operand.moved(lambda part: np.broadcast_to(part.reshape(ones), shape))
        return [Value(spread.direct, spread.mixed, spread.zero, operand.data or indices.data)]

    def _chosen(self, operand: Value, axis: int, size: int) -> Value:
        """`size` places along an axis, of which it is not known where they lie."""
        if not operand.is_weight:
            return self.along(operand, axis, "gather", size)
        shape = (*operand.shape[:axis], size, *operand.shape[axis + 1 :])
        together = value(
            self.sets.union_over(operand.direct, (axis,)),
            self.sets.union_over(operand.mixed, (axis,)),
            self.sets.intersection_over(operand.zero, (axis,)),
            operand.data,
        )
        return together.moved(lambda part: np.broadcast_to(np.expand_dims(part, axis), shape))

    def _picked(self, eqn: Any, operand: Value, indices: Any) -> Value:
        """The elements at places that the program holds."""
        places = np.arange(math.prod(operand.shape), dtype=np.int32).reshape(operand.shape)
        with jax.ensure_compile_time_eval():
            parameters = eqn.primitive.get_bind_params(eqn.params) | {"fill_value": -1}
            out = np.asarray(
                eqn.primitive.bind(jax.numpy.asarray(places), jax.numpy.asarray(indices), **parameters)
            )
        outside = out < 0
        picked = operand.moved(lambda part: part.reshape(-1)[np.where(outside, 0, out)])
        if not outside.any():
            return picked
        none = np.int32(EMPTY)
        return Value(
            np.where(outside, none, picked.direct),
            np.where(outside, none, picked.mixed),
            np.where(outside, none, picked.zero),
            operand.data,
        )

    # Products

    def _dot_general(
        self, eqn: Any, operands: Sequence[Value], shapes: Sequence[tuple[int, ...]]
    ) -> list[Value]:
        del shapes
        return [dot(self, eqn, *operands)]

    def _conv_general_dilated(
        self, eqn: Any, operands: Sequence[Value], shapes: Sequence[tuple[int, ...]]
    ) -> list[Value]:
        if eqn.params["batch_group_count"] != 1 or operands[1].data:
            return self.unknown("conv_general_dilated", operands, shapes)
        return [convolution(self, eqn, *operands)]


def _or_known(zero: Labels, known: Any, holds: Callable[[Any, Any], Any]) -> Labels:
    """What makes a bound no obstacle to a 0: a number on the right side of it never is one."""
    return zero if known is None else np.where(holds(known, 0), np.int32(EVERYTHING), zero)


def _computed(eqn: Any, operands: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """A number of the program, computed here; None if it takes more than NumPy's plain arithmetic."""
    if math.prod(shape) > LARGEST_KNOWN:
        return None
    dtype = eqn.outvars[0].aval.dtype
    if eqn.primitive.name == "convert_element_type":
        return operands[0].astype(dtype)
    if eqn.primitive.name not in _ARITHMETIC:
        return None
    with np.errstate(all="ignore"):
        return np.broadcast_to(np.asarray(_ARITHMETIC[eqn.primitive.name](*operands)).astype(dtype), shape)

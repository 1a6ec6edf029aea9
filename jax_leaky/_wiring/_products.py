"""Matrix products and convolutions: where the path of a unit ends at the weights that read it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np

from jax_leaky._wiring._mixing import Mixing
from jax_leaky._wiring._sets import EMPTY, EVERYTHING, Labels
from jax_leaky._wiring._values import Value, full, value


def dot(mixing: Mixing, eqn: Any, left: Value, right: Value) -> Value:
    """The result of a `dot_general`."""
    (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    batch = [left.shape[axis] for axis in left_batch]
    left_free = [axis for axis in range(len(left.shape)) if axis not in (*left_sum, *left_batch)]
    right_free = [axis for axis in range(len(right.shape)) if axis not in (*right_sum, *right_batch)]
    free = [left.shape[axis] for axis in left_free], [right.shape[axis] for axis in right_free]
    summed = math.prod(left.shape[axis] for axis in left_sum)

    def canonical(operand: Value, order: list[int], length: int) -> Value:
        shape = (math.prod(batch), length, summed)
        return operand.moved(lambda part: part.transpose(order).reshape(shape))

    one = canonical(left, [*left_batch, *left_free, *left_sum], math.prod(free[0]))
    other = canonical(right, [*right_batch, *right_free, *right_sum], math.prod(free[1]))
    shape = (*batch, *free[0], *free[1])
    size = (one.shape[0], one.shape[1], other.shape[1])
    if one.is_nothing or other.is_nothing:
        return Value(full(EMPTY, shape), full(EMPTY, shape), full(EVERYTHING, shape), left.data or right.data)
    if not left_sum:
        result = _outer(mixing, one, other)
    elif one.data and other.is_weight:
        result = _read(mixing, one, other, grouped=bool(batch), turned=False)
    elif other.data and one.is_weight:
        result = _read(mixing, other, one, grouped=bool(batch), turned=True)
    else:
        result = _mixture(mixing, one, other)
    return result.moved(lambda part: np.broadcast_to(part, size).reshape(shape))


def _read(mixing: Mixing, data: Value, weight: Value, *, grouped: bool, turned: bool) -> Value:
    """Data (batch, m, k) times weights (batch, n, k): (batch, m, n), or (batch, n, m) if turned."""
    sets, records = mixing.sets, mixing.records
    vanishing = sets.intersection_over(data.zero, (1,))  # (batch, k)
    units = sets.union_over(data.direct, (1,))
    never = (vanishing == EVERYTHING)[:, None, :]
    direct = np.where(never, np.int32(EMPTY), weight.direct)
    mixed = np.where(never, np.int32(EMPTY), weight.mixed)
    records.leave(data, _reader(mixing, weight))
    records.multiply(weight.direct, data.shape[1])
    records.read(direct, mixed, weight.zero, units[:, None, :], vanishing[:, None, :], grouped)
    out_direct, out_mixed = sets.union_over(direct, (2,)), sets.union_over(mixed, (2,))  # (batch, n)
    nothing = ((weight.zero == EVERYTHING) | never).all(axis=2)
    zero = np.where(nothing, np.int32(EVERYTHING), np.int32(EMPTY))
    axis = 2 if turned else 1
    direct, mixed, zero = (np.expand_dims(part, axis) for part in (out_direct, out_mixed, zero))
    return dataclasses.replace(value(direct, mixed, zero, True), plain=weight.plain)


def _reader(mixing: Mixing, weight: Value) -> str:
    """The name of the parameter that weights come from."""
    for labels in (weight.direct, weight.mixed):
        found = labels[labels != EMPTY]
        if found.size:
            return mixing.records.name(int(mixing.sets.members(int(found.flat[0]))[0]))
    return "a weight"


def _outer(mixing: Mixing, one: Value, other: Value) -> Value:
    """A product without a sum: (batch, m, 1) times (batch, n, 1)."""
    sets = mixing.sets
    data = one.data or other.data
    one = one.moved(lambda part: part[:, :, :1])
    other = other.moved(lambda part: part.transpose(0, 2, 1)[:, :1, :])
    zeros = [mixing.of_data(operand) if data else operand.zero for operand in (one, other)]
    for weight, factor in ((one, zeros[1]), (other, zeros[0])):
        if data and weight.is_weight:
            mixing.records.meet(weight.direct, weight.mixed, factor)
    return value(
        sets.union(one.direct, other.direct), sets.union(one.mixed, other.mixed), sets.union(*zeros), data
    )


def _mixture(mixing: Mixing, one: Value, other: Value) -> Value:
    """A product of two values of the same kind: of two that depend on data, or of two weights."""
    sets = mixing.sets
    data = one.data or other.data
    parts = []
    for operand in (one, other):
        if data:
            parts.append(mixing.collapsed(operand, (2,), "dot_general"))
        else:
            parts.append((sets.union_over(operand.direct, (2,)), sets.union_over(operand.mixed, (2,))))
    zeros = [
        sets.intersection_over(mixing.of_data(operand) if data else operand.zero, (2,))
        for operand in (one, other)
    ]
    columns = [(part[:, :, None], other_part[:, None, :]) for part, other_part in zip(*parts, strict=True)]
    return value(
        sets.union(*columns[0]),
        sets.union(*columns[1]),
        sets.union(zeros[0][:, :, None], zeros[1][:, None, :]),
        data,
    )


def convolution(mixing: Mixing, eqn: Any, image: Value, kernel: Value) -> Value:
    """The result of a convolution with weights, or with a kernel that the program holds."""
    parameters = eqn.params
    numbers, groups = parameters["dimension_numbers"], parameters["feature_group_count"]
    out_shape = eqn.outvars[0].aval.shape
    # (channel, batch, positions ...) and (out channel, channel of its group, offsets ...)
    image = image.moved(
        lambda part: part.transpose(numbers.lhs_spec[1], numbers.lhs_spec[0], *numbers.lhs_spec[2:])
    )
    kernel = kernel.moved(lambda part: part.transpose(numbers.rhs_spec))
    windows = zip(
        image.shape[2:],
        [out_shape[axis] for axis in numbers.out_spec[2:]],
        kernel.shape[2:],
        parameters["window_strides"],
        parameters["padding"],
        parameters["lhs_dilation"],
        parameters["rhs_dilation"],
        strict=True,
    )
    taps = [window_taps(*window) for window in windows]
    if image.is_nothing or kernel.is_nothing:
        return Value(
            full(EMPTY, out_shape),
            full(EMPTY, out_shape),
            full(EVERYTHING, out_shape),
            image.data or kernel.data,
        )
    channels = _convolved(mixing, image, kernel, groups, taps)
    feature = numbers.out_spec[1]
    ones = [-1 if axis == feature else 1 for axis in range(len(out_shape))]
    return channels.moved(lambda part: np.broadcast_to(part.reshape(ones), out_shape))


def _convolved(mixing: Mixing, image: Value, kernel: Value, groups: int, taps: list[Any]) -> Value:
    """What is known of each channel of a convolution's result."""
    sets, records = mixing.sets, mixing.records
    places = tuple(range(1, len(image.shape)))
    if not kernel.is_weight or (image.is_labelled and not image.data):
        # A kernel that is no parameter (a blur), or an image that is one: positions and channels of a group mix.
        mixing.meet([image, kernel], always=kernel.data != image.data)
        direct, mixed = mixing.collapsed(image, places, "conv_general_dilated")
        by_group = value(direct, mixed, sets.intersection_over(image.zero, places), image.data)
        by_group = by_group.moved(lambda part: part.reshape(groups, -1))
        if kernel.is_labelled:
            (result,) = mixing.unknown("conv_general_dilated", [image, kernel], [(kernel.shape[0],)])
            return result
        reduced = mixing.reduced(by_group, (1,), "conv_general_dilated")
        return reduced.moved(lambda part: np.repeat(part, kernel.shape[0] // groups))
    records.leave(image, _reader(mixing, kernel))
    records.multiply(kernel.direct, image.shape[1] * math.prod(len(at) for at, _ in taps))
    direct = np.zeros(kernel.shape, np.int32)
    mixed, units, vanishing = direct.copy(), direct.copy(), direct.copy()
    inside = kernel.shape[1]
    for offset in itertools.product(*(range(size) for size in kernel.shape[2:])):
        met = [np.unique(at[:, w][valid[:, w]]) for (at, valid), w in zip(taps, offset, strict=True)]
        place: Any = (slice(None), slice(None), *offset)
        if any(len(positions) == 0 for positions in met):
            vanishing[place] = EVERYTHING  # it only ever meets the padding
            continue
        part = image
        for axis, positions in enumerate(met, start=2):
            if len(positions) < part.shape[axis]:
                part = part.at(axis, positions)
        unit = sets.union_over(part.direct, places).reshape(groups, 1, inside)
        zero = sets.intersection_over(part.zero, places).reshape(groups, 1, inside)
        spread = (groups, kernel.shape[0] // groups, inside)
        units[place] = np.broadcast_to(unit, spread).reshape(-1, inside)
        vanishing[place] = np.broadcast_to(zero, spread).reshape(-1, inside)
        never = vanishing[place] == EVERYTHING
        direct[place] = np.where(never, EMPTY, kernel.direct[place])
        mixed[place] = np.where(never, EMPTY, kernel.mixed[place])
    records.read(direct, mixed, kernel.zero, units, vanishing, grouped=groups > 1)
    over = tuple(range(1, len(kernel.shape)))
    nothing = ((kernel.zero == EVERYTHING) | (vanishing == EVERYTHING)).all(axis=over)
    zero_out: Labels = np.where(nothing, np.int32(EVERYTHING), np.int32(EMPTY))
    result = value(sets.union_over(direct, over), sets.union_over(mixed, over), zero_out, image.data)
    return dataclasses.replace(result, plain=kernel.plain)


def window_taps(
    length: int, out: int, window: int, stride: int, padding: tuple[int, int], dilation: int, spread: int
) -> tuple[Any, Any]:
    """Which places along an axis a window meets.

    Args:
        length: number of places of the operand.
        out: number of places of the result.
        window: number of places of the window.
        stride: number of places by which the window moves.
        padding: numbers of places added in front and behind.
        dilation: distance between neighbours of the operand in the padded one.
        spread: distance between neighbours in the window.

    Returns:
        (out, window) the places, and whether each is one: neither padding nor between two.
    """
    at = np.arange(out)[:, None] * stride + np.arange(window) * spread - padding[0]
    valid = (at >= 0) & (at % dilation == 0) & (at // dilation < length)
    return at // dilation, valid

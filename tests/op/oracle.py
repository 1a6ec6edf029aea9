"""The leaky ReLU in NumPy float64, rounded once: an oracle that shares no code with the package."""

import jax
import ml_dtypes
import numpy as np

# NaN, 0 * inf and overflow belong here, and NumPy warns even when it casts a signalling NaN.
silently = np.errstate(all="ignore")


def run(f, cotangent, *args):
    """What is tested: the value of f at args, and the cotangents of args, from one compiled program."""

    @jax.jit
    def value_and_pullback(cotangent, *args):
        y, pullback = jax.vjp(f, *args)
        return y, *pullback(cotangent)

    return value_and_pullback(cotangent, *args)


def run_each(functions, cotangent, *args):
    """`run` of each function, all in one compiled program, which costs far less than a program for each."""

    @jax.jit
    def values_and_pullbacks(cotangent, *args):
        found = []
        for f in functions:
            y, pullback = jax.vjp(f, *args)
            found.append((y, *pullback(cotangent)))
        return found

    return values_and_pullbacks(cotangent, *args)


def round_slope(negative_slope, dtype):
    """The slope as the op sees it, rounded to the dtype of x, in float64."""
    return np.asarray(negative_slope, np.float64).astype(dtype).astype(np.float64)


@silently
def value(x, negative_slope):
    wide = x.astype(np.float64)
    return np.where(wide > 0, wide, round_slope(negative_slope, x.dtype) * wide).astype(x.dtype)


@silently
def pullback(x, negative_slope, cotangent):
    """The cotangent of x: the cotangent of y times 1 above zero, times the slope at and below it and at NaN."""
    wide = cotangent.astype(np.float64)
    scaled = round_slope(negative_slope, x.dtype) * wide
    return np.where(x.astype(np.float64) > 0, wide, scaled).astype(x.dtype)


@silently
def slope_pullback(x, cotangent):
    """The cotangent of a slope that has the shape of x, in float64."""
    wide = x.astype(np.float64)
    return np.where(wide > 0, 0.0, wide) * cotangent.astype(np.float64)


@silently
def without_subnormals(x):
    """The array without its subnormals, which XLA's CPU backend takes for zero (float32, float64, bfloat16)."""
    return x[~((x != 0) & (np.abs(x) < ml_dtypes.finfo(x.dtype).smallest_normal))]


def every_value_of(dtype):
    """All bit patterns of a dtype of 16 bits or fewer, NaNs and infinities included."""
    dtype = np.dtype(dtype)
    if dtype.itemsize == 2:
        return np.arange(2**16, dtype=np.uint16).view(dtype)
    return np.arange(2 ** ml_dtypes.finfo(dtype).bits, dtype=np.uint8).view(dtype)


@silently
def assert_equal(actual, expected):
    """Equal in shape, dtype and every value; NaN where NaN, and 0 equal to -0."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(actual.astype(np.float64), expected.astype(np.float64))


@silently
def assert_identical(actual, expected):
    """Equal, and zeros have the same sign."""
    assert_equal(actual, expected)
    zeros = expected == 0
    np.testing.assert_array_equal(np.signbit(np.asarray(actual)[zeros]), np.signbit(expected[zeros]))

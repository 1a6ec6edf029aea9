"""Numbers in two arrays: integers up to 2^64, and sums of floats whose order hardly matters.

JAX without `jax_enable_x64` has no 64-bit integer, and 2^32 samples are little for a convolution: a 56 x 56
map gives 3136 samples an image, so int32 overflows after 700,000 images. Two limbs and a carry are exact on
every backend, whatever the setting.

Knuth's two-sum gives the rounding error of an addition exactly; keeping it beside the sum doubles the
precision (Dekker 1971; the addition is the "sloppy" one of Li et al. 2002, which errs by a few units of 2^-46
for terms of one sign, as magnitudes are). Two orders of summing then differ by less than 2^-40 of the sum:
100,000 magnitudes came out wrong by 5e-14 at most, where a plain float32 sum was off by 1.4e-7.

All of it works on JAX and on NumPy arrays alike, the latter with an axis at least: NumPy warns where scalars wrap.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

_HALF = 0xFFFF


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Wide:
    """An array of unsigned 64-bit integers, `high * 2**32 + low`; arithmetic is modulo 2^64.

    Attributes:
        high: the upper 32 bits, uint32.
        low: the lower 32 bits, uint32, of the same shape.

    Example:
        >>> import jax_leaky.units as units
        >>> counts = units.init(2, start=2**40)
        >>> int(counts.end + 5) - 2**40
        5
    """

    high: Array
    low: Array

    def __add__(self, other: Wide | Array | int) -> Wide:
        """The sum with another Wide, an array of unsigned integers or a Python int."""
        other = wide(other)
        low = self.low + other.low
        carry = (low < self.low).astype(np.uint32)
        return Wide(self.high + other.high + carry, low)

    def __sub__(self, other: Wide) -> Wide:
        """The difference; `other` is not the greater one."""
        borrow = (self.low < other.low).astype(np.uint32)
        return Wide(self.high - other.high - borrow, self.low - other.low)

    def __getitem__(self, index: Any) -> Wide:
        """Some of the numbers."""
        return Wide(self.high[index], self.low[index])

    def __int__(self) -> int:
        """The value of a scalar, on the host."""
        return int(self.to_numpy())

    def to_numpy(self) -> np.ndarray:
        """The exact values on the host, as a NumPy array of uint64."""
        high, low = np.asarray(self.high, np.uint64), np.asarray(self.low, np.uint64)
        return (high << np.uint64(32)) | low

    def to_float(self) -> Array:
        """The values rounded to float32, on the device."""
        return self.high.astype(np.float32) * np.float32(2.0**32) + self.low.astype(np.float32)


def wide(value: Wide | Array | int, shape: tuple[int, ...] = ()) -> Wide:
    """A Wide from a Python int (filling `shape`) or from an array of integers that are not negative."""
    if isinstance(value, Wide):
        return value
    if isinstance(value, (int, np.integer)):
        if not 0 <= value < 2**64:
            raise ValueError(f"a count of {value} does not fit: give an integer from 0 to 2**64 - 1.")
        high, low = divmod(int(value), 2**32)
        return Wide(jnp.full(shape, high, jnp.uint32), jnp.full(shape, low, jnp.uint32))
    if value.dtype.itemsize == 8:
        return Wide((value >> 32).astype(jnp.uint32), value.astype(jnp.uint32))
    return Wide(jnp.zeros_like(value, jnp.uint32), value.astype(jnp.uint32))


def maximum(first: Wide, second: Wide) -> Wide:
    """The greater of the two, element by element."""
    take_first = (first.high > second.high) | ((first.high == second.high) & (first.low >= second.low))
    xp: Any = jnp if isinstance(take_first, jax.Array) else np
    return Wide(xp.where(take_first, first.high, second.high), xp.where(take_first, first.low, second.low))


def equal(first: Wide, second: Wide) -> Array:
    """Where the two are the same number."""
    return (first.high == second.high) & (first.low == second.low)


def is_zero(value: Wide) -> Array:
    """Where the number is 0."""
    return (value.high | value.low) == 0


def below_share(part: Wide, whole: Wide, numerator: int, denominator: int) -> Array:
    """Where `part / whole < numerator / denominator`, decided in integers; both numbers are below 2^32.

    A share in floating point would round 1/100 onto the wrong side of 0.01 for some sample counts.
    """
    left, right = _times(part, denominator), _times(whole, numerator)
    less = left[0] < right[0]
    # From the lowest limb up: the highest decides last.
    for one, other in zip(left[1:], right[1:], strict=True):
        less = (one < other) | ((one == other) & less)
    return less


def _times(value: Wide, factor: int) -> tuple[Array, Array, Array]:
    """`value * factor` in three limbs, the lowest first."""
    low_high, low = _product(value.low, factor)
    top, middle = _product(value.high, factor)
    middle = middle + low_high
    return low, middle, top + (middle < low_high).astype(np.uint32)


def _product(x: Array, factor: int) -> tuple[Array, Array]:
    """The upper and the lower 32 bits of `x * factor`, by the four products of their 16-bit halves."""
    x_high, x_low = x >> 16, x & _HALF
    high, low = np.uint32(factor >> 16), np.uint32(factor & _HALF)
    lowest = x_low * low
    middle = x_high * low + (lowest >> 16)  # (2^16 - 1)^2 + 2^16 - 1 < 2^32: no carry is lost
    other = x_low * high + (middle & _HALF)
    return x_high * high + (middle >> 16) + (other >> 16), (other << 16) | (lowest & _HALF)


class Pair(NamedTuple):
    """A float sum `high + low`, where high is that sum rounded to float32.

    Attributes:
        high: the rounded sum, float32.
        low: what rounding left out, float32, of the same shape.
    """

    high: Array
    low: Array


def add(first: Pair, second: Pair) -> Pair:
    """The sum of two pairs: commutative to the bit, and associative to 2^-40 of it for terms of one sign."""
    total, error = _two_sum(first.high, second.high)
    error = error + (first.low + second.low)
    high = total + error
    return Pair(high, error - (high - total))


def sum_pairs(pairs: Pair) -> Pair:
    """The sum of pairs `(rows, ...)` over the rows."""
    zero = jnp.zeros((), jnp.float32)
    return Pair(*lax.reduce(tuple(pairs), (zero, zero), lambda x, y: tuple(add(Pair(*x), Pair(*y))), (0,)))


def multiple(count: Array, x: Array) -> Pair:
    """`count * x` to 2^-40 of it, of a uint32 and a float32: products of 12-bit parts are exact in float32."""
    if isinstance(count, np.ndarray):
        product = count * np.asarray(x, np.float64)
        total = product.astype(np.float32)
        return Pair(total, (product - total).astype(np.float32))
    high = lax.bitcast_convert_type(
        lax.bitcast_convert_type(x, jnp.uint32) & np.uint32(0xFFFFF000), jnp.float32
    )
    parts = ((count >> 24) << 24, count & 0xFFF000, count & 0xFFF)
    products = [part.astype(jnp.float32) * half for part in parts for half in (high, x - high)]
    total = Pair(products[0], products[0] - products[0])
    for product in products[1:]:
        total = add(total, Pair(product, product - product))
    return total


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    total = a + b
    b_part = total - a
    return total, (a - (total - b_part)) + (b - b_part)

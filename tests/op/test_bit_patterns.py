"""Every number there is, of 16 bits and of 32: value and gradient, for every residual, against float64 rounded once."""

import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import lax

from jax_leaky import leaky_relu
from jax_leaky._op._residual import Residual
from tests.op import oracle

RESIDUALS = get_args(Residual)
SLOPES = (0.0, 0.01, 0.2, 1.0)
# XLA's CPU backend takes subnormal numbers of these for a 0 of their sign, and makes none.
FLUSHED = {"float32", "bfloat16"} if jax.default_backend() == "cpu" else set()


@oracle.silently
def subnormal(x):
    return (x != 0) & (np.abs(x) < ml_dtypes.finfo(x.dtype).smallest_normal)


@oracle.silently
def flushed(x):
    """x as the backend takes it."""
    if x.dtype.name not in FLUSHED:
        return x
    return np.where(subnormal(x), np.copysign(0, x.astype(np.float32)).astype(x.dtype), x)


def value(x, slope):
    if slope == 1:  # XLA knows that this is x
        return x
    return flushed(oracle.value(flushed(x), slope))


@oracle.silently
def pullback(x, slope, cotangent):
    """Where x > 0 the cotangent is handed on as it is, with no arithmetic that could flush it."""
    if slope == 1:
        return cotangent
    scaled = flushed(oracle.pullback(np.zeros_like(x), slope, flushed(cotangent)))
    return np.where(flushed(x) > 0, cotangent, scaled)


def run(residual, x, slope, cotangent):
    """Ours."""
    y, pull = jax.vjp(partial(leaky_relu, negative_slope=slope, residual=residual), x)
    return y, pull(cotangent)[0]


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16], ids=["float16", "bfloat16"])
def test_every_number_of_16_bits(dtype):
    """Every residual and every slope, from one compiled program."""
    x = oracle.every_value_of(dtype)
    cases = list(itertools.product(RESIDUALS, SLOPES))

    @jax.jit
    def ours(x, cotangent):
        return [run(residual, x, slope, cotangent) for residual, slope in cases]

    # Every number as a cotangent too, in an order in which it meets x of both signs.
    for cotangent in (np.ones_like(x), x.reshape(256, 256).T.ravel()):
        for (_, slope), (y, x_bar) in zip(cases, ours(x, cotangent), strict=True):
            oracle.assert_identical(y, value(x, slope))
            oracle.assert_identical(x_bar, pullback(x, slope, cotangent))


CHUNK = 2**20  # numbers whose arrays of eight bytes fit into a core's cache
CHUNKS = 2**32 // CHUNK


@pytest.mark.exhaustive
def test_every_float32(capsys):
    start, cores = time.monotonic(), os.cpu_count() or 1
    for slope in SLOPES:
        assert wrong_float32(slope, CHUNKS, consecutive) == []
    seconds = time.monotonic() - start
    with capsys.disabled():
        print(f"\nall 2^32 float32, every slope, every residual: {seconds:.0f} s on {cores} cores")


@pytest.mark.parametrize("slope", SLOPES)
def test_some_float32_of_every_size(slope):
    """Of each exponent and sign the two ends and others: zeros, subnormals, the infinities and NaNs among them."""
    fractions = np.random.default_rng(0).integers(2**23, size=CHUNK // 512, dtype=np.uint32)
    fractions[:4] = 0, 1, 2**23 - 2, 2**23 - 1
    chunk = (np.arange(512, dtype=np.uint32)[:, None] << 23) | fractions
    assert wrong_float32(slope, 1, lambda _: chunk.ravel()) == []


def consecutive(chunk):
    return np.uint32(chunk * CHUNK) + np.arange(CHUNK, dtype=np.uint32)


def wrong_float32(slope, chunks, patterns_of):
    """What differs of value and derivative, for every residual, among the bit patterns of each of the chunks.

    A thread per core: NumPy and XLA leave Python alone.
    """
    slope_64 = np.float64(np.float32(slope))
    tiny = np.float64(np.finfo(np.float32).smallest_normal)

    @jax.jit
    def ours(patterns):
        """Value, derivative, and whether every residual gives the same bits."""
        x = lax.bitcast_convert_type(patterns, jnp.float32)
        found = [run(residual, x, slope, jnp.ones_like(x)) for residual in RESIDUALS]
        bits = [[lax.bitcast_convert_type(array, jnp.uint32) for array in pair] for pair in found]
        same = [jnp.all(one == other) for pair in bits[1:] for one, other in zip(bits[0], pair, strict=True)]
        return *found[0], jnp.all(jnp.stack(same))

    @oracle.silently
    def check(chunk):
        patterns = patterns_of(chunk)
        x = patterns.view(np.float32)
        taken = np.where(np.abs(x) < tiny, np.copysign(np.float32(0), x), x) if FLUSHED else x
        y = np.where(taken > 0, taken, (slope_64 * taken.astype(np.float64)).astype(np.float32))
        if slope == 1:  # XLA knows that this is x
            y = x
        elif FLUSHED:
            y = np.where(np.abs(y) < tiny, np.copysign(np.float32(0), y), y)
        derivative = np.where(taken > 0, np.float32(1), np.float32(slope))
        our_y, our_derivative, same_for_all_residuals = jax.device_get(ours(patterns))
        # Bit by bit, for zeros have a sign; a NaN has many patterns.
        wrong = (our_y.view(np.uint32) != y.view(np.uint32)) & ~(np.isnan(y) & np.isnan(our_y))
        wrong |= our_derivative != derivative
        if wrong.any():
            return float(x[wrong][0]), float(y[wrong][0]), float(our_y[wrong][0])
        return None if same_for_all_residuals else f"residuals differ in chunk {chunk}"

    with ThreadPoolExecutor(2) as threads:
        return list(filter(None, threads.map(check, range(chunks))))

"""Slopes of every kind give one function: Python, NumPy and JAX scalars, whole numbers, arrays, parameters."""

from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx

from jax_leaky import leaky_relu
from tests.op import oracle

X = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
COTANGENT = np.random.default_rng(1).standard_normal(X.shape).astype(np.float32)


QUARTERS = [
    0.25,
    np.float16(0.25),
    np.float64(0.25),
    np.array(0.25),
    ml_dtypes.bfloat16(0.25),
    jnp.float32(0.25),
    jnp.bfloat16(0.25),
    jnp.array([[0.25]]),
    np.full((6,), 0.25),
    nnx.Param(jnp.array(0.25)),
    nnx.Param(jnp.full((6,), 0.25)),
]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_every_kind_of_slope_gives_one_function(dtype):
    x, cotangent = X.astype(dtype), COTANGENT.astype(dtype)
    functions = [partial(leaky_relu, negative_slope=slope) for slope in QUARTERS]
    found = oracle.run_each(functions, cotangent, x)
    for slope, (y, x_bar) in zip(QUARTERS, found, strict=True):
        oracle.assert_identical(y, oracle.value(x, 0.25))
        oracle.assert_equal(x_bar, oracle.pullback(x, 0.25, cotangent))
        oracle.assert_identical(leaky_relu(x, slope), oracle.value(x, 0.25))  # outside of a program


@pytest.mark.parametrize(
    "slope", [0, 1, 2, -1, True, np.int8(2), np.bool_(True), jnp.int32(2), jnp.array(True)]
)
def test_whole_number_slopes(slope):
    oracle.assert_identical(leaky_relu(X, slope), oracle.value(X, float(slope)))


def test_the_slope_is_rounded_to_the_dtype_of_x_before_the_product():
    x = np.array([-3.0, -77.0, 5.0], ml_dtypes.bfloat16)
    once = (np.float32(0.3) * x.astype(np.float32)).astype(ml_dtypes.bfloat16)
    first = oracle.value(x, 0.3)
    assert (once[:2] != first[:2]).any()  # the two roundings differ here, so the test can fail
    for slope in (0.3, np.float64(0.3), jnp.float32(0.3), jnp.full((3,), 0.3)):
        oracle.assert_identical(leaky_relu(jnp.asarray(x), slope), first)


def test_an_nnx_param_as_x():
    oracle.assert_identical(leaky_relu(nnx.Param(jnp.asarray(X)), 0.2), oracle.value(X, 0.2))
    gradient = nnx.grad(lambda x: leaky_relu(x, 0.2).sum())(nnx.Param(jnp.asarray(X)))
    oracle.assert_equal(gradient[...], oracle.pullback(X, 0.2, np.ones_like(X)))


def test_the_shape_is_that_to_which_x_and_the_slope_broadcast():
    for x, slope in [((), (3,)), ((5, 1), (1, 4)), ((0, 4), (4,)), ((2, 3), ()), ((1,), (0,))]:
        expected = np.broadcast_shapes(x, slope)
        outputs = jax.eval_shape(partial(oracle.run, leaky_relu), *map(jnp.ones, (expected, x, slope)))
        assert [output.shape for output in outputs] == [expected, x, slope]

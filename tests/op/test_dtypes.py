"""Dtypes: a float x keeps its own, whatever the slope's; integers and bool promote as in jax.nn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import leaky_relu
from tests.op import oracle

FLOATS = [jnp.float32, jnp.bfloat16, jnp.float16, jnp.float8_e4m3fn, jnp.float8_e5m2]


@pytest.mark.parametrize("slope_dtype", [*FLOATS, jnp.int32, jnp.bool_], ids=lambda d: d.dtype.name)
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: d.dtype.name)
def test_a_float_keeps_its_dtype(dtype, slope_dtype):
    for slope in (jnp.ones((), slope_dtype), np.ones((3,), slope_dtype)):
        assert jax.eval_shape(leaky_relu, jnp.ones(3, dtype), slope).dtype == dtype
        gradient = jax.eval_shape(jax.grad(lambda x, a=slope: leaky_relu(x, a).sum()), jnp.ones(3, dtype))
        assert gradient.dtype == dtype


def test_float64():
    with jax.enable_x64(True):
        for x, dtype in [(jnp.ones(2), jnp.float64), (jnp.ones(2, jnp.float32), jnp.float32)]:
            for slope in (0.1, np.float64(0.1), jnp.float64(0.1), jnp.full(2, 0.1)):
                assert jax.eval_shape(leaky_relu, x, slope).dtype == dtype
        x = np.array([-1.0, 3.0])
        oracle.assert_identical(leaky_relu(x, 0.1), oracle.value(x, 0.1))  # more than float32 holds


@pytest.mark.parametrize("x64", [False, True])
def test_integers_and_bool_promote_as_in_jax_nn(x64):
    with jax.enable_x64(x64):
        arrays = [np.array([0, 1, 3]).astype(dtype) for dtype in ("bool", "uint16")]
        arrays += [np.array([-4, 1, 3]).astype(dtype) for dtype in ("int8", "int32")]
        slopes = [0.25, jnp.bfloat16(0.25), jnp.full(3, 0.25, jnp.float16), 2]

        @jax.jit
        def run(arrays):
            return [[[f(x, a) for f in (leaky_relu, jax.nn.leaky_relu)] for a in slopes] for x in arrays]

        for found in run(arrays):
            for ours, theirs in found:
                if not jnp.issubdtype(theirs.dtype, jnp.floating):
                    # jax.nn leaves integers alone under an integer slope.
                    theirs = theirs.astype(jnp.result_type(float))
                oracle.assert_equal(ours, theirs)


@pytest.mark.parametrize("x", [-2, 3, True, -2.5, np.float16(-2.5), np.int8(-2), np.float32(-2.5)], ids=repr)
def test_scalars(x):
    ours, theirs = leaky_relu(x, 0.25), jax.nn.leaky_relu(x, 0.25)
    assert (ours.shape, ours.dtype) == ((), theirs.dtype)
    assert ours == theirs


def test_numpy_in_jax_out():
    y = leaky_relu(np.ones((2, 3), np.float32))
    assert isinstance(y, jax.Array)


def test_a_number_of_weak_type_stays_weak_as_in_jax_nn():
    for activation in (leaky_relu, jax.nn.leaky_relu):
        assert jax.jit(lambda x, f=activation: f(x, 0.25) * jnp.bfloat16(2))(1.0).dtype == jnp.bfloat16

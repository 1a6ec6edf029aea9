"""Values and first derivatives against NumPy float64, rounded once; of small dtypes every value there is."""

from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jax_leaky import leaky_relu
from tests.op import oracle

FLUSHED = (jnp.float64, jnp.float32, jnp.bfloat16)  # XLA's CPU backend takes their subnormals for zero
KEPT = (
    jnp.float16,
    jnp.float8_e4m3fn,
    jnp.float8_e5m2,
    jnp.float8_e3m4,
    jnp.float8_e4m3,
    jnp.float8_e4m3fnuz,
    jnp.float8_e4m3b11fnuz,
    jnp.float8_e5m2fnuz,
    jnp.float4_e2m1fn,
)  # float6 is absent: XLA's CPU backend cannot hold it, for any operation
SLOPES = (0.0, 0.01, 0.2, 1.0, 2.0, -0.5)
CASES = [(dtype, slope) for dtype in (jnp.float32, jnp.bfloat16, jnp.float16) for slope in SLOPES]
CASES += [(dtype, slope) for dtype in (jnp.float64, *KEPT[1:3]) for slope in (0.0, 0.01, -0.5)]
CASES += [(dtype, 0.2) for dtype in KEPT[3:]]


@oracle.silently
def points(dtype):
    """Every value of a dtype of up to 16 bits; of the others each exponent's edges and 2^14 random bit patterns."""
    flushed, dtype = dtype in FLUSHED, np.dtype(dtype)
    if dtype.itemsize <= 2:
        x = oracle.every_value_of(dtype)
        return oracle.without_subnormals(x) if flushed else x
    bits = dtype.itemsize * 8
    info = np.finfo(dtype)
    edges = np.concatenate([np.ldexp(dtype.type(1), np.arange(info.minexp, info.maxexp)), [info.max, np.inf]])
    edges = np.concatenate([edges, np.nextafter(edges[:-1], np.inf), [0.0, np.nan]]).astype(dtype)
    random = np.random.default_rng(0).integers(0, 2**bits, 2**14, dtype=f"uint{bits}").view(dtype)
    return oracle.without_subnormals(np.concatenate([edges, -edges, random]))


@oracle.silently
def normal(y):
    """Where the backend has nothing to flush: the result is 0, or well above the smallest normal."""
    return (y == 0) | ~(np.abs(y) < 2 * ml_dtypes.finfo(y.dtype).smallest_normal)


@pytest.mark.parametrize(("dtype", "slope"), CASES, ids=lambda case: getattr(case, "__name__", None))
class TestAgainstNumPy:
    def test_value(self, dtype, slope):
        with jax.enable_x64(dtype == jnp.float64):
            x = points(dtype)
            if dtype in FLUSHED:  # products that underflow have a test below
                x = x[normal(oracle.value(x, slope))]
            oracle.assert_identical(leaky_relu(jnp.asarray(x), slope), oracle.value(x, slope))

    def test_derivative(self, dtype, slope):
        with jax.enable_x64(dtype == jnp.float64):
            x = points(dtype)
            ones = np.ones(x.shape, x.dtype)
            _, derivative = oracle.run(partial(leaky_relu, negative_slope=slope), ones, x)
            oracle.assert_equal(derivative, oracle.pullback(x, slope, ones))


@pytest.mark.parametrize("forward_mode", [False, True])
@pytest.mark.parametrize("residual", ["bits", "mask", "output"])
@pytest.mark.parametrize("kind", [float, jnp.float32])
@pytest.mark.parametrize("slope", [0.0, 0.2, -0.5])
def test_cotangents_are_scaled_by_the_derivative(slope, kind, residual, forward_mode):
    if residual == "output" and kind is float and slope < 0:
        pytest.skip("residual='output' refuses a number below zero")
    rng = np.random.default_rng(1)
    x = rng.standard_normal((6, 20)).astype(np.float32)
    x[0, :7] = [0.0, -0.0, np.inf, -np.inf, np.nan, np.finfo(np.float32).max, np.finfo(np.float32).min]
    cotangent = rng.standard_normal(x.shape).astype(np.float32)
    f = partial(leaky_relu, negative_slope=kind(slope), residual=residual, forward_mode=forward_mode)
    y, x_bar = oracle.run(f, cotangent, x)
    oracle.assert_identical(y, oracle.value(x, slope))
    oracle.assert_equal(x_bar, oracle.pullback(x, slope, cotangent))


@pytest.mark.parametrize("forward_mode", [False, True])
@pytest.mark.parametrize("kind", [float, jnp.float32])
@pytest.mark.parametrize(
    ("slope", "residual"), [(0.0, "output"), (0.2, "output"), (0.2, "bits"), (2.0, "mask"), (-0.5, "bits")]
)
def test_the_derivative_at_zero_is_the_slope_where_jax_nn_gives_one(slope, residual, kind, forward_mode):
    zeros, ones = np.array([0.0, -0.0], np.float32), np.ones(2, np.float32)
    f = partial(leaky_relu, negative_slope=kind(slope), residual=residual, forward_mode=forward_mode)
    y, derivative = oracle.run(f, ones, zeros)
    np.testing.assert_array_equal(y, 0)
    np.testing.assert_array_equal(derivative, np.float32(slope))
    assert jax.grad(jax.nn.leaky_relu)(0.0, slope) == 1


@pytest.mark.parametrize("slope", [0.0, 0.01, -0.5])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda d: d.dtype.name)
def test_equal_to_jax_nn_everywhere_but_in_the_derivative_at_zero(dtype, slope):
    x = points(dtype)
    ones = np.ones(x.shape, x.dtype)
    y, x_bar = oracle.run(partial(leaky_relu, negative_slope=slope), ones, x)
    expected, expected_x_bar = oracle.run(partial(jax.nn.leaky_relu, negative_slope=slope), ones, x)
    oracle.assert_equal(y, expected)
    here = np.asarray(x, np.float32) != 0
    oracle.assert_equal(np.asarray(x_bar)[here], np.asarray(expected_x_bar)[here])


@pytest.mark.parametrize("dtype", FLUSHED, ids=lambda dtype: dtype.dtype.name)
def test_the_cpu_backend_takes_subnormals_for_zero(dtype):
    """Not a choice of this package: XLA flushes them, so a positive subnormal has y = 0 and the slope as derivative."""
    if jax.default_backend() != "cpu":
        pytest.skip("a statement about XLA's CPU backend")
    with jax.enable_x64(dtype == jnp.float64):
        tiny = float(jnp.finfo(dtype).smallest_normal)
        x = jnp.array([tiny / 2, -tiny / 2, -tiny, tiny], dtype)
        y, pullback = jax.vjp(lambda x: leaky_relu(x, 0.25), x)
        oracle.assert_identical(y, np.array([0.0, -0.0, -0.0, tiny]).astype(dtype))  # -tiny / 4 underflows
        oracle.assert_equal(pullback(jnp.ones_like(x))[0], np.array([0.25, 0.25, 0.25, 1.0]).astype(dtype))


@pytest.mark.parametrize("residual", ["bits", "mask", "output"])
def test_a_product_that_underflows_still_has_the_slope_as_derivative(residual):
    x = jnp.array([-6e-8, -1e-7, 6e-8], jnp.float16)  # -6e-8 is float16's largest subnormal below zero
    y, pullback = jax.vjp(lambda x: leaky_relu(x, 0.01, residual=residual), x)
    assert (y[:2] == 0).all()
    oracle.assert_equal(pullback(jnp.ones_like(x))[0], np.array([0.01, 0.01, 1.0], np.float16))


@pytest.mark.peer
@pytest.mark.parametrize(
    ("dtype", "slope"), [(jnp.float32, 0.01), (jnp.float64, 0.2), (jnp.float32, 0.0), (jnp.float64, -0.5)]
)
def test_values_and_derivatives_equal_torch(dtype, slope):
    torch = pytest.importorskip("torch", reason="torch is an oracle, not a dependency")
    with jax.enable_x64(dtype == jnp.float64):
        x = np.random.default_rng(2).standard_normal((5, 33)).astype(dtype)
        x[0, :5] = [0.0, -0.0, np.inf, -np.inf, np.nan]
        cotangent = np.random.default_rng(3).standard_normal(x.shape).astype(dtype)
        theirs = torch.tensor(x, requires_grad=True)
        expected = torch.nn.functional.leaky_relu(theirs, slope)
        expected.backward(torch.tensor(cotangent))
        y, pullback = jax.vjp(lambda x: leaky_relu(x, slope), jnp.asarray(x))
        np.testing.assert_array_equal(y, expected.detach().numpy())
        np.testing.assert_array_equal(pullback(jnp.asarray(cotangent))[0], theirs.grad.numpy())

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
CASES = dict.fromkeys((jnp.float32, jnp.bfloat16, jnp.float16), SLOPES)
CASES |= dict.fromkeys((jnp.float64, *KEPT[1:3]), (0.0, 0.01, -0.5))
CASES |= dict.fromkeys(KEPT[3:], (0.2,))


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


def under(slopes, f=leaky_relu, **options):
    """The op under each of the slopes."""
    return [partial(f, negative_slope=slope, **options) for slope in slopes]


@pytest.mark.parametrize("dtype", CASES, ids=lambda dtype: dtype.__name__)
def test_values_and_derivatives_against_numpy(dtype):
    with jax.enable_x64(dtype == jnp.float64):
        x, slopes = points(dtype), CASES[dtype]
        ones = np.ones(x.shape, x.dtype)
        found = oracle.run_each(under(slopes), ones, x)
        for slope, (y, derivative) in zip(slopes, found, strict=True):
            expected = oracle.value(x, slope)
            # Products that underflow have a test below.
            here = normal(expected) if dtype in FLUSHED else np.ones(x.shape, bool)
            oracle.assert_identical(np.asarray(y)[here], expected[here])
            oracle.assert_equal(derivative, oracle.pullback(x, slope, ones))
            alone = leaky_relu(jnp.asarray(x), slope)  # outside of a program, by a program of its own
            oracle.assert_identical(np.asarray(alone)[here], expected[here])


@pytest.mark.parametrize("forward_mode", [False, True])
@pytest.mark.parametrize("residual", ["bits", "mask", "output"])
def test_cotangents_are_scaled_by_the_derivative(residual, forward_mode):
    slopes = [kind(slope) for kind in (float, jnp.float32) for slope in (0.0, 0.2, -0.5)]
    if residual == "output":  # which refuses a number below zero
        slopes.remove(-0.5)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((6, 20)).astype(np.float32)
    x[0, :7] = [0.0, -0.0, np.inf, -np.inf, np.nan, np.finfo(np.float32).max, np.finfo(np.float32).min]
    cotangent = rng.standard_normal(x.shape).astype(np.float32)
    found = oracle.run_each(under(slopes, residual=residual, forward_mode=forward_mode), cotangent, x)
    for slope, (y, x_bar) in zip(slopes, found, strict=True):
        oracle.assert_identical(y, oracle.value(x, slope))
        oracle.assert_equal(x_bar, oracle.pullback(x, slope, cotangent))


@pytest.mark.parametrize("forward_mode", [False, True])
@pytest.mark.parametrize("kind", [float, jnp.float32])
def test_the_derivative_at_zero_is_the_slope_where_jax_nn_gives_one(kind, forward_mode):
    zeros, ones = np.array([0.0, -0.0], np.float32), np.ones(2, np.float32)
    modes = [(0.0, "output"), (0.2, "output"), (0.2, "bits"), (2.0, "mask"), (-0.5, "bits")]
    functions = [
        partial(leaky_relu, negative_slope=kind(slope), residual=residual, forward_mode=forward_mode)
        for slope, residual in modes
    ]
    found = oracle.run_each(functions, ones, zeros)
    for (slope, _), (y, derivative) in zip(modes, found, strict=True):
        np.testing.assert_array_equal(y, 0)
        np.testing.assert_array_equal(derivative, np.float32(slope))
        assert jax.grad(jax.nn.leaky_relu)(0.0, slope) == 1


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda d: d.dtype.name)
def test_equal_to_jax_nn_everywhere_but_in_the_derivative_at_zero(dtype):
    x = points(dtype)
    ones, slopes = np.ones(x.shape, x.dtype), (0.0, 0.01, -0.5)
    ours = oracle.run_each(under(slopes), ones, x)
    theirs = oracle.run_each(under(slopes, jax.nn.leaky_relu), ones, x)
    here = np.asarray(x, np.float32) != 0
    for (y, x_bar), (expected, expected_x_bar) in zip(ours, theirs, strict=True):
        oracle.assert_equal(y, expected)
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

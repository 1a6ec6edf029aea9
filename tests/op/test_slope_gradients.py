"""Slopes that are traced, mapped or differentiated: values, the gradient of x, and the gradient of the slope."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_leaky import leaky_relu
from tests.op import oracle

MODES = [("bits", False), ("mask", False), ("output", False), ("bits", True), ("mask", True)]
OPS = [partial(leaky_relu, residual=residual, forward_mode=forward_mode) for residual, forward_mode in MODES]
X = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
COTANGENT = np.random.default_rng(1).standard_normal(X.shape).astype(np.float32)
CHANNELS = np.array([0.01, 0.2, 1.0, 2.0, -0.5, 0.0], np.float32)


class TestGradients:
    """Each under every mode, from one compiled program."""

    def test_per_channel(self):
        for y, x_bar, slope_bar in oracle.run_each(OPS, COTANGENT, X, CHANNELS):
            oracle.assert_identical(y, oracle.value(X, CHANNELS))
            oracle.assert_equal(x_bar, oracle.pullback(X, CHANNELS, COTANGENT))
            np.testing.assert_allclose(slope_bar, oracle.slope_pullback(X, COTANGENT).sum(0), rtol=1e-5)

    def test_one_slope_for_all(self):
        for y, x_bar, slope_bar in oracle.run_each(OPS, COTANGENT, X, np.float32(-0.3)):
            oracle.assert_identical(y, oracle.value(X, -0.3))
            oracle.assert_equal(x_bar, oracle.pullback(X, -0.3, COTANGENT))
            np.testing.assert_allclose(slope_bar, oracle.slope_pullback(X, COTANGENT).sum(), rtol=1e-5)

    def test_a_slope_that_widens_x(self):
        x, slope = X[0], np.array([[0.1], [-2.0], [0.0]], np.float32)
        cotangent = COTANGENT[:3]
        wide, slopes = np.broadcast_to(x, (3, 6)), np.broadcast_to(slope, (3, 6))
        for y, x_bar, slope_bar in oracle.run_each(OPS, cotangent, x, slope):
            oracle.assert_identical(y, oracle.value(wide, slopes))
            np.testing.assert_allclose(x_bar, oracle.pullback(wide, slopes, cotangent).sum(0), rtol=1e-6)
            expected = oracle.slope_pullback(wide, cotangent).sum(1, keepdims=True)
            np.testing.assert_allclose(slope_bar, expected, rtol=1e-5)

    def test_infinities_and_nan(self):
        """Above zero the slope has no say: its gradient there is 0 even at infinity, not 0 * inf."""
        x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, -3.0, 3.0], np.float32)
        ones = np.ones_like(x)
        for y, x_bar, slope_bar in oracle.run_each(OPS, ones, x, np.full_like(x, 0.5)):
            np.testing.assert_array_equal(y, [np.inf, -np.inf, np.nan, 0, 0, -1.5, 3])
            np.testing.assert_array_equal(x_bar, [1, 0.5, 0.5, 0.5, 0.5, 0.5, 1])
            np.testing.assert_array_equal(slope_bar, [0, -np.inf, np.nan, 0, 0, -3, 0])
        for _, _, summed in oracle.run_each(OPS, ones[:1], x[:1], np.float32(0.5)):
            assert summed == 0

    def test_a_slope_of_infinity_stays_below_zero(self):
        for y, x_bar, _ in oracle.run_each(OPS, np.ones_like(X), X, np.float32(np.inf)):
            np.testing.assert_array_equal(y, np.where(X > 0, X, -np.inf))
            np.testing.assert_array_equal(x_bar, np.where(X > 0, 1, np.inf))

    def test_the_gradient_of_a_slope_has_the_dtype_of_the_slope(self):
        x, slope = jnp.asarray(X, jnp.bfloat16), jnp.asarray(CHANNELS)
        for y, x_bar, slope_bar in oracle.run_each(OPS, jnp.ones_like(x), x, slope):
            assert (y.dtype, x_bar.dtype, slope_bar.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)

    def test_mapped_over_x_over_the_slope_and_over_both(self):
        slopes = np.array([0.5, -0.25, 0.0, 3.0], np.float32)

        def pulled(x, slope, cotangent):
            found = []
            for f in OPS:
                y, pullback = jax.vjp(f, x, slope)
                found.append((y, *pullback(cotangent)))
            return found

        for x, slope in [(X, slopes[0]), (X[0], slopes), (X, slopes)]:
            axes = (0 if x.ndim == 2 else None, 0 if slope.ndim == 1 else None, 0)
            rows, a = np.broadcast_to(x, X.shape), np.broadcast_to(slope, 4)[:, None]
            for y, x_bar, slope_bar in jax.jit(jax.vmap(pulled, axes))(x, slope, COTANGENT):
                oracle.assert_identical(y, oracle.value(rows, a))
                oracle.assert_equal(x_bar, oracle.pullback(rows, a, COTANGENT))
                expected = oracle.slope_pullback(rows, COTANGENT).sum(1)
                np.testing.assert_allclose(slope_bar, expected, rtol=1e-5)

    def test_second_order_by_paper(self):
        """L = sum of y^3: where x <= 0 it is (a x)^3, so d2L/dx2 = 6 a^3 x, d2L/da2 = 6 a x^3, d2L/dxda = 9 a^2 x^2."""
        a = 0.5
        below = X[0] <= 0

        @jax.jit
        def hessians(x, a):
            return [jax.hessian(lambda x, a, f=f: (f(x, a) ** 3).sum(), (0, 1))(x, a) for f in OPS]

        for (xx, xa), (_, aa) in hessians(X[0], np.float32(a)):
            np.testing.assert_allclose(xx, np.diag(np.where(below, 6 * a**3 * X[0], 6 * X[0])), rtol=1e-5)
            np.testing.assert_allclose(xa, np.where(below, 9 * a**2 * X[0] ** 2, 0), rtol=1e-5)
            np.testing.assert_allclose(aa, np.where(below, 6 * a * X[0] ** 3, 0).sum(), rtol=1e-5)


@pytest.mark.peer
@pytest.mark.parametrize("channels", [1, 6])
@pytest.mark.parametrize("forward_mode", [False, True])
def test_the_gradients_equal_torch_prelu(channels, forward_mode):
    torch = pytest.importorskip("torch", reason="torch is an oracle, not a dependency")
    slope = CHANNELS[:channels]
    x, weight = torch.tensor(X, requires_grad=True), torch.tensor(slope, requires_grad=True)
    expected = torch.nn.functional.prelu(x, weight)
    expected.backward(torch.tensor(COTANGENT))
    y, pullback = jax.vjp(lambda x, a: leaky_relu(x, a, forward_mode=forward_mode), X, slope)
    x_bar, slope_bar = pullback(jnp.asarray(COTANGENT))
    np.testing.assert_array_equal(y, expected.detach().numpy())
    np.testing.assert_array_equal(x_bar, x.grad.numpy())
    np.testing.assert_allclose(slope_bar, weight.grad.numpy(), rtol=1e-5)


def central_differences(f, array, step=1e-6):
    wiggles = step * np.eye(array.size).reshape(-1, *array.shape)
    return np.array([(f(array + w) - f(array - w)) / (2 * step) for w in wiggles]).reshape(array.shape)


def test_gradients_of_x_and_of_the_slope_by_finite_differences():
    with jax.enable_x64(True):
        x, slope = X.astype(np.float64), np.array([0.3, -0.1, 0.0, 1.0, 2.0, 0.01])

        def numeric(x, slope):
            return np.sin(np.where(x > 0, x, slope * x)).sum()

        x_bar, slope_bar = jax.grad(lambda x, a: jnp.sin(leaky_relu(x, a)).sum(), (0, 1))(x, slope)
        np.testing.assert_allclose(x_bar, central_differences(lambda x: numeric(x, slope), x), atol=1e-8)
        np.testing.assert_allclose(slope_bar, central_differences(lambda a: numeric(x, a), slope), atol=1e-8)


def test_the_gradient_of_an_nnx_param_as_slope():
    gradient = nnx.grad(lambda slope: leaky_relu(X, slope).sum())(nnx.Param(jnp.asarray(CHANNELS)))
    np.testing.assert_allclose(gradient[...], np.where(X > 0, 0, X).sum(0), rtol=1e-6)

"""The op under JAX's transformations, for every residual and both rules, against derivatives written on paper."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

from jax_leaky import leaky_relu
from tests.op import oracle

SLOPE = 0.25
X = np.random.default_rng(0).standard_normal((3, 10)).astype(np.float32)
STEEP = np.where(X > 0, 1, SLOPE).astype(np.float32)  # the derivative of the op at X
V = np.random.default_rng(1).standard_normal(X.shape).astype(np.float32)

MODES = [
    (SLOPE, "bits", False),
    (SLOPE, "bits", True),
    (SLOPE, "mask", False),
    (SLOPE, "output", False),
    (SLOPE, "output", True),
    (jnp.float32(SLOPE), "bits", False),
    (jnp.float32(SLOPE), "mask", True),
]


def modes(*chosen):
    """Parametrises by the op under each mode."""
    ids = [
        f"{type(slope).__name__}-{kept}-{'both' if forward else 'reverse'}" for slope, kept, forward in chosen
    ]
    ops = [partial(leaky_relu, negative_slope=a, residual=r, forward_mode=f) for a, r, f in chosen]
    return pytest.mark.parametrize("f", ops, ids=ids)


every_mode = modes(*MODES)


def cube(f):
    """L = sum f(x)^3, whose gradient is 3 y^2 y' and whose Hessian is diagonal, 6 y y'^2."""
    return lambda x: (f(x) ** 3).sum()


@every_mode
class TestSecondOrder:
    diagonal = 6 * (STEEP * X) * STEEP**2

    def test_gradient_of_a_gradient(self, f):
        product = jax.jit(jax.grad(lambda x: (jax.grad(cube(f))(x) * V).sum()))(X)
        np.testing.assert_allclose(product, self.diagonal * V, rtol=1e-5)

    def test_hessian_forward_over_reverse(self, f):
        hessian = jax.jit(jax.hessian(cube(f)))(X[0])
        np.testing.assert_allclose(hessian, np.diag(self.diagonal[0]), rtol=1e-5)

    def test_hessian_reverse_over_reverse(self, f):
        hessian = jax.jit(jax.jacrev(jax.jacrev(cube(f))))(X[0])
        np.testing.assert_allclose(hessian, np.diag(self.diagonal[0]), rtol=1e-5)

    def test_third_derivative(self, f):
        third = jax.jit(jax.grad(jax.grad(jax.grad(cube(f)))))
        for x in (-1.5, 2.0):
            np.testing.assert_allclose(third(x), 6 * (SLOPE if x < 0 else 1) ** 3, rtol=1e-5)


def chain(weights, x):
    """NumPy: h <- leaky(w h) for each row of weights; the last h, and the gradients of its sum."""
    states = [x]
    for w in weights:
        z = w * states[-1]
        states.append(np.where(z > 0, z, SLOPE * z))
    cotangent, gradients = np.ones_like(x), []
    for w, h in zip(weights[::-1], states[-2::-1], strict=True):
        cotangent = np.where(w * h > 0, 1, SLOPE) * cotangent
        gradients.append(cotangent * h)
        cotangent = cotangent * w
    return states[-1], np.stack(gradients[::-1]), cotangent


@every_mode
class TestControlFlow:
    def test_scan(self, f):
        def run(weights, x):
            h, _ = jax.lax.scan(lambda h, w: (f(w * h), None), x, weights)
            return h.sum(), h

        (_, h), (weights_bar, x_bar) = jax.jit(jax.value_and_grad(run, (0, 1), has_aux=True))(V, X[0])
        expected, expected_weights_bar, expected_x_bar = chain(V, X[0])
        np.testing.assert_allclose(h, expected, rtol=1e-5)
        np.testing.assert_allclose(weights_bar, expected_weights_bar, rtol=1e-5)
        np.testing.assert_allclose(x_bar, expected_x_bar, rtol=1e-5)

    def test_fori_loop(self, f):
        def run(x):
            return jax.lax.fori_loop(0, 3, lambda _, h: f(h), x).sum()

        np.testing.assert_allclose(jax.jit(jax.grad(run))(X), STEEP**3, rtol=1e-6)

    def test_while_loop(self, f):
        _, h = jax.jit(
            lambda x: jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, f(c[1])), (0, x))
        )(X)
        np.testing.assert_allclose(h, STEEP**3 * X, rtol=1e-6)

    def test_cond_and_switch(self, f):
        branches = [lambda x: 2 * x, f, jnp.sin]
        branched = jax.jit(jax.value_and_grad(lambda x, i: jax.lax.switch(i, branches, x).sum()))
        value, gradient = branched(X, 1)
        np.testing.assert_allclose(value, (STEEP * X).sum(), rtol=1e-5)
        oracle.assert_equal(gradient, STEEP)
        np.testing.assert_allclose(branched(X, 2)[1], np.cos(X), rtol=1e-6)
        chosen = jax.jit(jax.grad(lambda x, p: jax.lax.cond(p, f, lambda x: 2 * x, x).sum()))
        oracle.assert_equal(chosen(X, True), STEEP)
        oracle.assert_equal(chosen(X, False), np.full_like(X, 2))


@every_mode
class TestMaps:
    def test_vmap_of_gradients_along_any_axis(self, f):
        for axis in (0, 1):
            gradients = jax.jit(jax.vmap(jax.grad(cube(f)), axis, axis))(X)
            np.testing.assert_allclose(gradients, 3 * (STEEP * X) ** 2 * STEEP, rtol=1e-5)

    def test_gradient_of_a_vmap(self, f):
        gradient = jax.jit(jax.grad(lambda x: (jax.vmap(f, 1, 1)(x) * V).sum()))(X)
        np.testing.assert_allclose(gradient, STEEP * V, rtol=1e-6)

    def test_per_example_hessians(self, f):
        hessians = jax.jit(jax.vmap(jax.hessian(cube(f))))(X)
        expected = np.stack([np.diag(row) for row in TestSecondOrder.diagonal])
        np.testing.assert_allclose(hessians, expected, rtol=1e-5)

    def test_the_pullback_is_linear_and_its_own_transpose(self, f):
        def pullback(cotangent):
            return jax.vjp(f, jnp.asarray(X))[1](cotangent)[0]

        (transposed,) = jax.linear_transpose(pullback, X)(V)
        np.testing.assert_allclose(transposed, STEEP * V, rtol=1e-6)


@modes(*MODES[:2], MODES[5])
class TestCheckify:
    def test_a_clean_run_reports_nothing(self, f):
        checked = checkify.checkify(jax.jit(jax.value_and_grad(lambda x: f(x).sum())), checkify.all_checks)
        error, (_, gradient) = checked(X)
        assert error.get() is None
        oracle.assert_equal(gradient, STEEP)

    def test_nan_is_reported(self, f):
        checked = checkify.checkify(jax.jit(lambda x: f(jnp.log(x))), checkify.nan_checks)
        assert "nan generated by primitive: log" in checked(X)[0].get()

    def test_a_bad_index_is_reported(self, f):
        checked = checkify.checkify(jax.jit(jax.grad(lambda x, i: f(x)[i].sum())), checkify.index_checks)
        assert checked(X, 2)[0].get() is None
        assert "out-of-bounds indexing" in checked(X, 3)[0].get()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("forward_mode", [False, True])
@pytest.mark.parametrize("slope", [SLOPE, jnp.float32(SLOPE), jnp.full((10,), SLOPE)], ids=np.shape)
def test_strict_promotion_of_dtypes_and_ranks(slope, forward_mode, dtype):
    @jax.jit
    def run(x, slope):
        y, pullback = jax.vjp(partial(leaky_relu, forward_mode=forward_mode), x, slope)
        return y, *pullback(jnp.ones_like(x))

    x = X.astype(dtype)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        oracle.assert_identical(leaky_relu(x, slope, forward_mode=forward_mode), oracle.value(x, SLOPE))
        y, x_bar, slope_bar = run(x, slope)
    oracle.assert_identical(y, oracle.value(x, SLOPE))
    oracle.assert_equal(x_bar, STEEP.astype(dtype))
    expected = np.where(X > 0, 0, X).sum(0 if np.ndim(slope) else None)
    np.testing.assert_allclose(slope_bar, expected, rtol=1e-5 if dtype == jnp.float32 else 0.02)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int32"])
def test_strict_promotion_of_whole_numbers(dtype):
    x = np.array([[0, 1, 3], [2, 0, 1]]).astype(dtype)
    for slope in (0.25, 2, jnp.float32(0.25), jnp.full(3, 0.25, jnp.bfloat16)):
        with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
            strict = leaky_relu(x, slope)
        oracle.assert_identical(strict, np.asarray(leaky_relu(x, slope)))


@pytest.mark.parametrize("slope", [0.5, jnp.float32(0.5), jnp.full((4,), 0.5)], ids=np.shape)
def test_debug_nans_has_nothing_to_complain_of_at_infinity(slope):
    with jax.debug_nans(True):
        x = jnp.array([-2.0, 0.0, -jnp.inf, jnp.inf])
        y, pullback = jax.vjp(lambda x: leaky_relu(x, slope), x)
        np.testing.assert_array_equal(y, [-1, 0, -jnp.inf, jnp.inf])
        np.testing.assert_array_equal(pullback(jnp.ones_like(x))[0], [0.5, 0.5, 0.5, 1])

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

# Each of the four rules, and each of the three residuals; which it is concerns no transformation.
MODES = [
    (SLOPE, "bits", False),
    (SLOPE, "output", True),
    (jnp.float32(SLOPE), "bits", False),
    (jnp.float32(SLOPE), "mask", True),
]


OPS = {
    f"{type(slope).__name__}-{kept}-{'both' if forward else 'reverse'}": partial(
        leaky_relu, negative_slope=slope, residual=kept, forward_mode=forward
    )
    for slope, kept, forward in MODES
}


def under_every_mode(transform, *args):
    """(mode, transform(f)(*args)) for the op f under each mode, all from one compiled program."""
    program = jax.jit(lambda *args: {mode: transform(f)(*args) for mode, f in OPS.items()})
    return program(*args).items()


def cube(f):
    """L = sum f(x)^3, whose gradient is 3 y^2 y' and whose Hessian is diagonal, 6 y y'^2."""
    return lambda x: (f(x) ** 3).sum()


DIAGONAL = 6 * (STEEP * X) * STEEP**2  # of the Hessian of the cube


class TestSecondOrder:
    def test_gradient_of_a_gradient(self):
        def product(f):
            return jax.grad(lambda x: (jax.grad(cube(f))(x) * V).sum())

        for mode, found in under_every_mode(product, X):
            np.testing.assert_allclose(found, DIAGONAL * V, rtol=1e-5, err_msg=mode)

    def test_hessian_forward_over_reverse_and_reverse_over_reverse(self):
        def hessians(f):
            return lambda x: (jax.hessian(cube(f))(x), jax.jacrev(jax.jacrev(cube(f)))(x))

        for mode, found in under_every_mode(hessians, X[0]):
            for hessian in found:
                np.testing.assert_allclose(hessian, np.diag(DIAGONAL[0]), rtol=1e-5, err_msg=mode)

    def test_third_derivative(self):
        def third(f):
            return jax.vmap(jax.grad(jax.grad(jax.grad(cube(f)))))

        for mode, found in under_every_mode(third, jnp.array([-1.5, 2.0])):
            np.testing.assert_allclose(found, [6 * SLOPE**3, 6], rtol=1e-5, err_msg=mode)


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


class TestControlFlow:
    def test_scan(self):
        def scanned(f):
            def run(weights, x):
                h, _ = jax.lax.scan(lambda h, w: (f(w * h), None), x, weights)
                return h.sum(), h

            return jax.value_and_grad(run, (0, 1), has_aux=True)

        expected, expected_weights_bar, expected_x_bar = chain(V, X[0])
        for mode, ((_, h), (weights_bar, x_bar)) in under_every_mode(scanned, V, X[0]):
            np.testing.assert_allclose(h, expected, rtol=1e-5, err_msg=mode)
            np.testing.assert_allclose(weights_bar, expected_weights_bar, rtol=1e-5, err_msg=mode)
            np.testing.assert_allclose(x_bar, expected_x_bar, rtol=1e-5, err_msg=mode)

    def test_fori_loop(self):
        def looped(f):
            return jax.grad(lambda x: jax.lax.fori_loop(0, 3, lambda _, h: f(h), x).sum())

        for mode, gradient in under_every_mode(looped, X):
            np.testing.assert_allclose(gradient, STEEP**3, rtol=1e-6, err_msg=mode)

    def test_while_loop(self):
        def looped(f):
            return lambda x: jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, f(c[1])), (0, x))[1]

        for mode, h in under_every_mode(looped, X):
            np.testing.assert_allclose(h, STEEP**3 * X, rtol=1e-6, err_msg=mode)

    def test_switch(self):
        def branched(f):
            branches = [lambda x: 2 * x, f, jnp.sin]
            chosen = jax.value_and_grad(lambda x, i: jax.lax.switch(i, branches, x).sum())
            return lambda x, i, j: (chosen(x, i), chosen(x, j))

        for mode, ((value, gradient), (_, of_sine)) in under_every_mode(branched, X, 1, 2):
            np.testing.assert_allclose(value, (STEEP * X).sum(), rtol=1e-5, err_msg=mode)
            oracle.assert_equal(gradient, STEEP)
            np.testing.assert_allclose(of_sine, np.cos(X), rtol=1e-6, err_msg=mode)

    def test_cond(self):
        def branched(f):
            chosen = jax.grad(lambda x, p: jax.lax.cond(p, f, lambda x: 2 * x, x).sum())
            return lambda x, p, q: (chosen(x, p), chosen(x, q))

        for _, (chosen, other) in under_every_mode(branched, X, True, False):
            oracle.assert_equal(chosen, STEEP)
            oracle.assert_equal(other, np.full_like(X, 2))


class TestMaps:
    def test_vmap_of_gradients_along_any_axis(self):
        def mapped(f):
            return lambda x: [jax.vmap(jax.grad(cube(f)), axis, axis)(x) for axis in (0, 1)]

        for mode, found in under_every_mode(mapped, X):
            for gradients in found:
                np.testing.assert_allclose(gradients, 3 * (STEEP * X) ** 2 * STEEP, rtol=1e-5, err_msg=mode)

    def test_gradient_of_a_vmap(self):
        def gradient(f):
            return jax.grad(lambda x: (jax.vmap(f, 1, 1)(x) * V).sum())

        for mode, found in under_every_mode(gradient, X):
            np.testing.assert_allclose(found, STEEP * V, rtol=1e-6, err_msg=mode)

    def test_per_example_hessians(self):
        expected = np.stack([np.diag(row) for row in DIAGONAL])
        for mode, hessians in under_every_mode(lambda f: jax.vmap(jax.hessian(cube(f))), X):
            np.testing.assert_allclose(hessians, expected, rtol=1e-5, err_msg=mode)

    def test_the_pullback_is_linear_and_its_own_transpose(self):
        def transposed(f):
            def pullback(cotangent):
                return jax.vjp(f, jnp.asarray(X))[1](cotangent)[0]

            return lambda v: jax.linear_transpose(pullback, X)(v)[0]

        for mode, found in under_every_mode(transposed, V):
            np.testing.assert_allclose(found, STEEP * V, rtol=1e-6, err_msg=mode)


class TestCheckify:
    """Each under every mode, from one compiled program."""

    def test_a_clean_run_reports_nothing(self):
        def gradients(x):
            return [jax.grad(lambda x, f=f: f(x).sum())(x) for f in OPS.values()]

        error, found = checkify.checkify(jax.jit(gradients), checkify.all_checks)(X)
        assert error.get() is None
        for gradient in found:
            oracle.assert_equal(gradient, STEEP)

    def test_nan_is_reported(self):
        logarithms = jax.jit(lambda x: [f(jnp.log(x)) for f in OPS.values()])
        error, _ = checkify.checkify(logarithms, checkify.nan_checks)(X)
        assert "nan generated by primitive: log" in error.get()

    def test_a_bad_index_is_reported(self):
        def gradients(x, i):
            return [jax.grad(lambda x, f=f: f(x)[i].sum())(x) for f in OPS.values()]

        checked = checkify.checkify(jax.jit(gradients), checkify.index_checks)
        assert checked(X, 2)[0].get() is None
        assert "out-of-bounds indexing" in checked(X, 3)[0].get()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_strict_promotion_of_dtypes_and_ranks(dtype):
    slopes = [jnp.float32(SLOPE), jnp.full((10,), SLOPE)]
    functions = [partial(leaky_relu, forward_mode=forward_mode) for forward_mode in (False, True)]
    x = X.astype(dtype)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        oracle.assert_identical(leaky_relu(x, SLOPE), oracle.value(x, SLOPE))
        by_slope = [(slope, oracle.run_each(functions, np.ones_like(x), x, slope)) for slope in slopes]
        numbers = oracle.run_each([partial(f, negative_slope=SLOPE) for f in functions], np.ones_like(x), x)
    expected_x_bar = STEEP.astype(dtype)
    for y, x_bar in numbers:
        oracle.assert_identical(y, oracle.value(x, SLOPE))
        oracle.assert_equal(x_bar, expected_x_bar)
    for slope, found in by_slope:
        expected = np.where(X > 0, 0, X).sum(0 if np.ndim(slope) else None)
        for y, x_bar, slope_bar in found:
            oracle.assert_identical(y, oracle.value(x, SLOPE))
            oracle.assert_equal(x_bar, expected_x_bar)
            np.testing.assert_allclose(slope_bar, expected, rtol=1e-5 if dtype == jnp.float32 else 0.02)


def test_strict_promotion_of_whole_numbers():
    """They become floats of the slope's dtype, or of JAX's default where the slope is a whole number too."""
    x = np.array([[0, 1, 3], [2, 0, 1]])
    slopes = [
        (0.25, "float32"),
        (2, "float32"),
        (jnp.float32(0.25), "float32"),
        (jnp.ones(3, bool), "float32"),
    ]
    slopes += [(jnp.bfloat16(0.25), "bfloat16"), (jnp.full(3, 0.25, jnp.bfloat16), "bfloat16")]
    dtypes = ["bool", "int4", "int8", "uint16", "int32"]

    @jax.jit
    def run(arrays):
        return [[leaky_relu(x, slope) for slope, _ in slopes] for x in arrays]

    arrays = [jnp.asarray(x, dtype) for dtype in dtypes]
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        found = run(arrays)
    for given, results in zip(arrays, found, strict=True):
        for (_, dtype), y in zip(slopes, results, strict=True):
            oracle.assert_identical(y, np.asarray(given).astype(dtype))  # none is below zero


@pytest.mark.parametrize("slope", [0.5, jnp.float32(0.5), jnp.full((4,), 0.5)], ids=np.shape)
def test_debug_nans_has_nothing_to_complain_of_at_infinity(slope):
    with jax.debug_nans(True):
        x = jnp.array([-2.0, 0.0, -jnp.inf, jnp.inf])
        y, pullback = jax.vjp(lambda x: leaky_relu(x, slope), x)
        np.testing.assert_array_equal(y, [-1, 0, -jnp.inf, jnp.inf])
        np.testing.assert_array_equal(pullback(jnp.ones_like(x))[0], [0.5, 0.5, 0.5, 1])

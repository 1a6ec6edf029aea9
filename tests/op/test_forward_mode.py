"""Forward mode: there with ``forward_mode=True``, refused with JAX's TypeError without."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import leaky_relu
from tests.op import oracle

X = np.random.default_rng(0).standard_normal((3, 10)).astype(np.float32)
TANGENT = np.random.default_rng(1).standard_normal(X.shape).astype(np.float32)
EDGES = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0], np.float32)
REFUSED = "can't apply forward-mode autodiff"

CASES = [
    ("bits", 0.2),
    ("mask", -0.5),
    ("output", 0.2),
    ("output", 0.0),
    ("bits", jnp.float32(0.2)),
    ("mask", jnp.float32(-0.5)),
]


def under_every_case(transform, *args):
    """(slope, transform(f)(*args)) for the op f of each case, all from one compiled program."""
    ops = [partial(leaky_relu, negative_slope=a, residual=kept, forward_mode=True) for kept, a in CASES]
    found = jax.jit(lambda *args: [transform(f)(*args) for f in ops])(*args)
    return zip([slope for _, slope in CASES], found, strict=True)


class TestWithForwardMode:
    def test_jvp(self):
        def pushed(f):
            return lambda x, tangent: jax.jvp(f, (x,), (tangent,))

        for slope, (y, tangent) in under_every_case(pushed, X, TANGENT):
            oracle.assert_identical(y, oracle.value(X, slope))
            oracle.assert_equal(tangent, oracle.pullback(X, slope, TANGENT))

    def test_jacfwd(self):
        for slope, jacobian in under_every_case(jax.jacfwd, EDGES):
            diagonal = np.diag(jacobian)
            oracle.assert_equal(diagonal, oracle.pullback(EDGES, slope, np.ones_like(EDGES)))
            assert not (np.asarray(jacobian) - np.diag(diagonal))[~np.eye(len(EDGES), dtype=bool)].any()

    def test_linearize_and_its_transpose(self):
        def linearized(f):
            def run(x, tangent):
                y, linear = jax.linearize(f, x)
                return y, linear(tangent), *jax.linear_transpose(linear, x)(tangent)

            return run

        for slope, (y, pushed, transposed) in under_every_case(linearized, X, TANGENT):
            oracle.assert_identical(y, oracle.value(X, slope))
            oracle.assert_equal(pushed, oracle.pullback(X, slope, TANGENT))
            oracle.assert_equal(transposed, oracle.pullback(X, slope, TANGENT))

    def test_reverse_over_forward(self):
        def hessian(f):
            return jax.jacrev(jax.jacfwd(lambda x: (f(x) ** 3).sum()))

        for slope, found in under_every_case(hessian, X[0]):
            a = np.where(X[0] > 0, 1, np.float32(slope))
            np.testing.assert_allclose(found, np.diag(6 * a**3 * X[0]), rtol=1e-5)


@pytest.mark.parametrize("residual", ["bits", "mask"])
def test_the_tangent_of_a_differentiated_slope(residual):
    """dy = y' dx + [x <= 0] x da."""
    f = partial(leaky_relu, residual=residual, forward_mode=True)
    slope, slope_tangent = np.linspace(-0.5, 2, 10, dtype=np.float32), TANGENT[0]
    y, tangent = jax.jit(lambda p, t: jax.jvp(f, p, t))((X, slope), (TANGENT, slope_tangent))
    oracle.assert_identical(y, oracle.value(X, slope))
    expected = np.where(X > 0, TANGENT, slope * TANGENT + X * slope_tangent)
    np.testing.assert_allclose(tangent, expected, rtol=1e-5)
    alone = jax.jvp(lambda a: f(jnp.array([jnp.inf, -2.0]), a), (0.5,), (1.0,))[1]
    np.testing.assert_array_equal(alone, [0, -2])


@pytest.mark.parametrize(("residual", "slope"), CASES, ids=str)
@pytest.mark.parametrize(
    "transform",
    [
        lambda f: jax.jvp(f, (X,), (TANGENT,)),
        lambda f: jax.jacfwd(f)(X),
        lambda f: jax.linearize(f, jnp.asarray(X))[1](jnp.asarray(TANGENT)),  # raises when called
        lambda f: jax.jit(lambda x: jax.jvp(f, (x,), (x,)))(X),
    ],
    ids=["jvp", "jacfwd", "linearize", "jit"],
)
def test_without_it_jax_refuses(transform, residual, slope):
    with pytest.raises(TypeError, match=REFUSED):
        transform(partial(leaky_relu, negative_slope=slope, residual=residual))


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("slope", [1e5, np.inf, -np.inf], ids=str)
def test_a_slope_that_is_infinite_in_the_dtype_of_x_spares_what_is_above_zero(slope):
    x = np.array([1, -1], np.float16)
    f = partial(leaky_relu, negative_slope=slope, forward_mode=True)
    tangent = jax.jvp(f, (x,), (np.ones_like(x),))[1]
    for derivative in (tangent, oracle.run(f, np.ones_like(x), x)[1]):
        np.testing.assert_array_equal(derivative, [1, np.sign(slope) * np.inf])

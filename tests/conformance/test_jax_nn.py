"""jax.nn.leaky_relu: the same function everywhere; another derivative at 0."""

import itertools

import jax
import numpy as np
import pytest

from tests.conformance.comparisons import SLOPE, Comparison, kept, ours, points

LIBRARY, VERSION = "jax.nn", jax.__version__


def value_and_derivative(x):
    """Theirs at each point."""
    y, pullback = jax.vjp(lambda x: jax.nn.leaky_relu(x, SLOPE), x)
    return y, pullback(np.ones_like(x))[0]


def compare(dtype):
    """Random arrays and slopes, all in one program."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((2, *shape)).astype(dtype) for shape in ((), (0,), (7,), (3, 4), (2, 3, 5))]
    slopes = (0.0, 0.01, 0.2, 1.0, -0.5)

    @jax.jit
    def both(arrays):
        found = []
        for (x, cotangent), slope in itertools.product(arrays, slopes):
            y, pullback = jax.vjp(lambda x, slope=slope: jax.nn.leaky_relu(x, slope), x)
            found.append((*ours(x, slope, cotangent), y, pullback(cotangent)[0]))
        return found

    for (pair, slope), found in zip(itertools.product(arrays, slopes), both(arrays), strict=True):
        ours_y, ours_x_bar, y, x_bar = found
        case = f"{np.dtype(dtype).name} {pair.shape[1:]}, slope {slope}"
        yield Comparison("random arrays", case, "value", ours_y, y)
        yield Comparison("random arrays", case, "gradient", ours_x_bar, x_bar)


def suites():
    """All comparisons."""
    for dtype in (np.float16, jax.numpy.bfloat16, np.float32):
        yield from compare(dtype)


@pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(np.float16, marks=pytest.mark.slow),
        pytest.param(jax.numpy.bfloat16, marks=pytest.mark.slow),
        np.float32,
    ],
    ids=lambda d: np.dtype(d).name,
)
def test_random_arrays(dtype):
    for comparison in compare(dtype):
        comparison.check()


def test_every_point_but_the_derivative_at_zero():
    y, x_bar = ours(points())
    expected_y, expected_x_bar = value_and_derivative(points())
    np.testing.assert_array_equal(np.asarray(y)[kept()], np.asarray(expected_y)[kept()])
    zeros = points() == 0
    others = kept() & ~zeros
    np.testing.assert_array_equal(np.asarray(x_bar)[others], np.asarray(expected_x_bar)[others])
    np.testing.assert_array_equal(np.asarray(x_bar)[zeros], SLOPE)
    np.testing.assert_array_equal(np.asarray(expected_x_bar)[zeros], 1)

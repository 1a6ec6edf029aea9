"""TensorFlow's op and Keras's layers: value, gradient, and gradient of the slope."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conformance.comparisons import SLOPE, Comparison, kept, ours, points, rounding

tensorflow = pytest.importorskip("tensorflow", reason="tensorflow, which is compared with, is not installed")
keras = pytest.importorskip("keras", reason="keras, which is compared with, is not installed")

pytestmark = pytest.mark.peer
LIBRARY, VERSION = "TensorFlow", tensorflow.__version__
SHAPES = ((), (0,), (7,), (3, 4), (2, 3, 5))
SLOPES = tuple(float(np.float32(slope)) for slope in (0, 0.01, 0.2, 1))  # theirs is a float32 whatever x is
DTYPES = ("float16", "bfloat16", "float32", "float64")


def theirs(f, x, cotangent, *variables):
    """The value of f, and the cotangents of x and of the variables."""
    x = tensorflow.constant(x)
    with tensorflow.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    gradients = tape.gradient(y, (x, *variables), tensorflow.constant(cotangent))
    return tuple(array.numpy() for array in (y, *gradients))


def op(slope):
    return lambda x: tensorflow.nn.leaky_relu(x, slope)


def layer(slope):
    return keras.layers.LeakyReLU(negative_slope=slope, dtype="float32")


def value_and_derivative(x):
    """TensorFlow's at each point."""
    return theirs(op(SLOPE), x, np.ones_like(x))


def keras_value_and_derivative(x):
    """Keras's at each point."""
    return theirs(layer(SLOPE), x, np.ones_like(x))


def keras_prelu_value_and_derivative(x):
    """Those of Keras's PReLU at each point."""
    prelu = keras.layers.PReLU(keras.initializers.Constant(SLOPE))
    y, x_bar = theirs(lambda x: prelu(x[None])[0], x, np.ones_like(x))
    return y, x_bar


def compare(dtype):
    """TensorFlow's op, and Keras's layer where it is float32, on random arrays."""
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        x = rng.standard_normal(shape).astype(jnp.dtype(dtype))
        cotangent = rng.standard_normal(shape).astype(x.dtype)
        for slope in SLOPES:
            y, x_bar = ours(x, slope, cotangent)
            sides = {"tf.nn.leaky_relu": op(slope)}
            if dtype == "float32":
                sides["keras.layers.LeakyReLU"] = layer(slope)
            for name, f in sides.items():
                expected, expected_x_bar = theirs(f, x, cotangent)
                case = f"{dtype} {shape}, slope {slope:.2g}"
                yield Comparison(f"random arrays, {name}", case, "value", y, expected, rounding(dtype))
                yield Comparison(
                    f"random arrays, {name}", case, "gradient", x_bar, expected_x_bar, rounding(dtype)
                )


def compare_prelu():
    """Keras's PReLU with a slope per entry and one per channel, and its gradient."""
    rng = np.random.default_rng(1)
    for shape, shared in (((3, 4), None), ((2, 3, 5), [1]), ((2, 3, 4, 5), [1, 2])):
        x = rng.standard_normal(shape).astype(np.float32)
        cotangent = rng.standard_normal(shape).astype(np.float32)
        prelu = keras.layers.PReLU(shared_axes=shared)
        prelu.build(shape)
        slope = rng.standard_normal(prelu.alpha.shape).astype(np.float32)
        prelu.alpha.assign(slope)
        found = ours(x, slope, cotangent)
        expected = theirs(prelu, x, cotangent, prelu.alpha.value)
        for part, one, other in zip(
            ("value", "gradient", "gradient of the slope"), found, expected, strict=True
        ):
            yield Comparison("random arrays, keras.layers.PReLU", f"{shape}", part, one, other, 1e-5, 1e-6)


def suites():
    """All comparisons."""
    for dtype in DTYPES:
        with jax.enable_x64(dtype == "float64"):
            yield from compare(dtype)
    yield from compare_prelu()


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_arrays(dtype):
    with jax.enable_x64(dtype == "float64"):
        for comparison in compare(dtype):
            comparison.check()


def test_prelu():
    for comparison in compare_prelu():
        comparison.check()


@pytest.mark.parametrize("side", [value_and_derivative, keras_value_and_derivative])
def test_every_point(side):
    y, x_bar = ours(points())
    expected_y, expected_x_bar = side(points())
    np.testing.assert_array_equal(np.asarray(y)[kept()], expected_y[kept()])
    np.testing.assert_array_equal(np.asarray(x_bar)[kept()], expected_x_bar[kept()])


def test_keras_prelu_has_another_derivative_at_zero():
    """It is relu(x) - slope relu(-x), whose derivative is 0 there; elsewhere it is ours."""
    y, x_bar = ours(points(), np.float32(SLOPE))[:2]
    expected_y, expected_x_bar = keras_prelu_value_and_derivative(points())
    finite = kept() & np.isfinite(points())
    np.testing.assert_array_equal(np.asarray(y)[finite], expected_y[finite])
    zeros = points() == 0
    np.testing.assert_array_equal(np.asarray(x_bar)[finite & ~zeros], expected_x_bar[finite & ~zeros])
    np.testing.assert_array_equal(expected_x_bar[zeros], 0)

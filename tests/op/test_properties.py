"""Random shapes, dtypes, slopes and compositions of transformations: always the oracle's value and gradients.

By default the same few examples every time; HYPOTHESIS_PROFILE=thorough, as `make thorough` sets it, draws 300 fresh
ones for each property and prints how to reproduce one that fails.
"""

import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jax_leaky import leaky_relu
from tests.op import oracle
from tests.op.compositions import FORWARD_ONLY, ONCE, TRANSFORMATIONS, compose

settings.register_profile("quick", max_examples=15, deadline=None, derandomize=True)
settings.register_profile(
    "thorough",
    max_examples=300,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],  # a composition is compiled, which takes most of a second
)
check = settings(settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick")))

# From few sizes, among them the sides of a byte, so that the compiled programs are not all new.
shapes = st.lists(st.sampled_from([1, 2, 7, 8, 9]), min_size=1, max_size=3).map(tuple)
residuals = st.sampled_from(["bits", "mask", "output"])
slopes = st.sampled_from([0.0, 0.01, 0.2, 1.0, -0.5, -1.25])
# Quarters: sums and products of a few are exact in float32 in any order.
quarters = st.integers(-16, 16).map(lambda k: k / 4)


def arrays(shape, dtype=np.float32):
    return hnp.arrays(np.float32, shape, elements=quarters, fill=st.nothing()).map(lambda x: x.astype(dtype))


def kept_under(slope, residual):
    """The residual; where the slope is a number below 0, which "output" refuses, bits."""
    return "bits" if residual == "output" and slope < 0 else residual


@check
@given(
    st.data(),
    shapes,
    residuals,
    slopes,
    st.sampled_from([np.float32, np.float16, jnp.bfloat16]),
    st.booleans(),
)
def test_any_shape_dtype_residual(data, shape, residual, slope, dtype, forward_mode):
    x, cotangent = data.draw(arrays(shape, dtype)), data.draw(arrays(shape, dtype))
    f = partial(
        leaky_relu, negative_slope=slope, residual=kept_under(slope, residual), forward_mode=forward_mode
    )
    y, x_bar = oracle.run(f, cotangent, x)
    oracle.assert_identical(y, oracle.value(x, slope))
    oracle.assert_equal(x_bar, oracle.pullback(x, slope, cotangent))


@pytest.mark.parametrize("shape", [(64, 1), (1, 16), (8, 1, 7), (64, 1, 5, 1)], ids=str)
def test_an_axis_of_one_element_beside_the_packed_one(shape):
    x, cotangent = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    _, x_bar = oracle.run(partial(leaky_relu, negative_slope=0.2), cotangent, x)
    oracle.assert_equal(x_bar, oracle.pullback(x, 0.2, cotangent))


@check
@given(st.data(), shapes, residuals, st.booleans())
def test_a_slope_of_any_shape_that_broadcasts(data, shape, residual, forward_mode):
    x, cotangent = data.draw(arrays(shape)), data.draw(arrays(shape))
    kept = data.draw(st.integers(0, len(shape)))
    ones = data.draw(st.lists(st.booleans(), min_size=kept, max_size=kept))
    slope_shape = tuple(
        1 if one else size for one, size in zip(ones, shape[len(shape) - kept :], strict=True)
    )
    slope = data.draw(arrays(slope_shape))
    f = partial(leaky_relu, residual=residual, forward_mode=forward_mode)
    y, x_bar, slope_bar = oracle.run(f, cotangent, x, slope)
    oracle.assert_equal(y, oracle.value(x, slope))
    oracle.assert_equal(x_bar, oracle.pullback(x, slope, cotangent))
    whole = oracle.slope_pullback(x, cotangent)
    oracle.assert_equal(slope_bar, summed_to(slope_shape, whole))


def summed_to(shape, whole):
    """Over the axes along which a slope of that shape was broadcast."""
    kept = whole.ndim - len(shape)
    axes = tuple(axis for axis in range(whole.ndim) if axis < kept or shape[axis - kept] == 1)
    return whole.sum(axes).reshape(shape).astype(np.float32)


ROWS, COLUMNS = 4, 8  # a row for each device of conftest.py
compositions = st.lists(st.sampled_from(sorted(TRANSFORMATIONS)), min_size=1, max_size=4)
# How a composition is differentiated: once or twice, backward or forward.
ORDERS = ("vjp", "jvp", "vjp of vjp", "jvp of vjp", "vjp of jvp")


@st.composite
def cases(draw):
    """(names, slope, x, a direction for x and one for the slope, order, f) of a composition."""
    names = draw(compositions)
    names = [name for place, name in enumerate(names) if name not in ONCE or name not in names[:place]]
    order = "jvp" if FORWARD_ONLY & set(names) else draw(st.sampled_from(ORDERS))
    kind = draw(st.sampled_from(["number", "traced", "vmapped"]))
    shape = {"number": None, "traced": (), "vmapped": (ROWS, 1)}[kind]
    slope = draw(slopes) if shape is None else draw(arrays(shape))
    residual = draw(residuals)
    op = partial(
        leaky_relu,
        residual=residual if shape is not None else kept_under(slope, residual),
        forward_mode="jvp" in order or draw(st.booleans()),
    )
    x, along_x = draw(arrays((ROWS, COLUMNS))), draw(arrays((ROWS, COLUMNS)))
    along_slope = None if shape is None else draw(arrays(shape))
    return names, slope, x, along_x, along_slope, order, op


@check
@given(cases())
def test_transformations_composed_at_random(case):
    names, slope, x, along_x, along_slope, order, op = case
    f = compose(names, op, slope if along_slope is None else None)
    primals, along = (x,), (along_x,)
    if along_slope is not None:
        primals, along = (x, slope), (along_x, along_slope)
    above, steep = x > 0, np.where(x > 0, 1.0, oracle.round_slope(slope, np.float32))
    close = partial(np.testing.assert_allclose, rtol=1e-6)
    by_slope = 0 if along_slope is None else np.where(above, 0, x) * along_slope
    if order == "vjp":
        y, *bars = oracle.run(f, along_x, *primals)
        oracle.assert_equal(bars[0], oracle.pullback(x, slope, along_x))
        if along_slope is not None:
            oracle.assert_equal(bars[1], summed_to(slope.shape, oracle.slope_pullback(x, along_x)))
    elif order == "jvp":
        y, tangent = jax.jit(partial(jax.jvp, f))(primals, along)
        close(tangent, steep * along_x + by_slope)
    else:
        # Of half the square of y: its derivative by x is y' y = steep^2 x.
        y = jax.jit(f)(*primals)
        half_square = lambda *primals: (f(*primals) ** 2).sum() / 2  # noqa: E731  as short as its mathematics
        if order == "vjp of jvp":

            def first(*primals):
                return jax.jvp(lambda x: half_square(x, *primals[1:]), primals[:1], (along_x,))[1]

            bars = jax.jit(jax.grad(first, tuple(range(len(primals)))))(*primals)
        elif order == "vjp of vjp":
            bars = oracle.run(jax.grad(half_square), along_x, *primals)[1:]
        else:
            _, tangent = jax.jit(partial(jax.jvp, jax.grad(half_square)))(primals, along)
            close(tangent, steep**2 * along_x + 2 * steep * by_slope)
        if order != "jvp of vjp":
            close(bars[0], steep**2 * along_x)
            if along_slope is not None:
                twice = 2 * steep * oracle.slope_pullback(x, along_x)
                close(bars[1], summed_to(slope.shape, twice), atol=1e-6)
    oracle.assert_equal(y, oracle.value(x, slope))

"""Random shapes, dtypes, slopes and compositions of transformations: always the oracle's value and gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import leaky_relu_oracle as oracle
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jax_leaky import leaky_relu

check = settings(max_examples=15, deadline=None, derandomize=True)

# From few sizes, among them the sides of a byte, so that the compiled programs are not all new.
shapes = st.lists(st.sampled_from([1, 2, 7, 8, 9]), min_size=1, max_size=3).map(tuple)
residuals = st.sampled_from(["bits", "mask", "output"])
slopes = st.sampled_from([0.0, 0.01, 0.2, 1.0])
# Quarters: sums and products of a few are exact in float32 in any order.
quarters = st.integers(-16, 16).map(lambda k: k / 4)


def arrays(shape, dtype=np.float32):
    return hnp.arrays(np.float32, shape, elements=quarters, fill=st.nothing()).map(lambda x: x.astype(dtype))


# Each takes a function of an array (3, ...) that works on every element by itself, and gives an equal one.
TRANSFORMATIONS = {
    "jit": jax.jit,
    "vmap": jax.vmap,
    "remat": jax.checkpoint,
    "map": lambda f: partial(jax.lax.map, f),
    "scan": lambda f: lambda x: jax.lax.scan(lambda c, row: (c, f(row[None])[0]), 0.0, x)[1],
    "cond": lambda f: lambda x: jax.lax.cond(x.sum() > 0, f, lambda x: f(x), x),
    "fori": lambda f: (
        lambda x: jax.lax.fori_loop(0, 3, lambda i, y: y.at[i].set(f(x[i][None])[0]), jnp.zeros_like(x))
    ),
    "vmap last axis": lambda f: jax.vmap(f, in_axes=-1, out_axes=-1),
    "reshape": lambda f: lambda x: f(x.reshape(x.shape[0], -1)).reshape(x.shape),
}


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
    f = partial(leaky_relu, negative_slope=slope, residual=residual, forward_mode=forward_mode)
    y, x_bar = oracle.run(f, cotangent, x)
    oracle.assert_identical(y, oracle.value(x, slope))
    oracle.assert_equal(x_bar, oracle.pullback(x, slope, cotangent))


@check
@given(st.data(), shapes, st.sampled_from(["bits", "mask"]), st.booleans())
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
    summed = tuple(
        axis for axis in range(x.ndim) if axis < x.ndim - kept or slope_shape[axis - x.ndim + kept] == 1
    )
    oracle.assert_equal(slope_bar, whole.sum(summed).reshape(slope_shape).astype(np.float32))


@check
@given(
    st.data(),
    st.lists(st.sampled_from(sorted(TRANSFORMATIONS)), min_size=1, max_size=3),
    residuals,
    slopes,
    st.booleans(),
)
def test_transformations_composed_at_random(data, names, residual, slope, forward_mode):
    x, cotangent = data.draw(arrays((3, 8))), data.draw(arrays((3, 8)))
    f = partial(leaky_relu, negative_slope=slope, residual=residual, forward_mode=forward_mode)
    for name in names:
        # vmap and map take an axis away that the next one may want: give it back.
        inner = f
        f = TRANSFORMATIONS[name](lambda x, inner=inner: inner(jnp.atleast_2d(x)).reshape(x.shape))
    y, x_bar = oracle.run(f, cotangent, x)
    oracle.assert_identical(y, oracle.value(x, slope))
    oracle.assert_equal(x_bar, oracle.pullback(x, slope, cotangent))

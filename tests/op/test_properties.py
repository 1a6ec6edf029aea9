"""Random values under random shapes, dtypes, slopes and compositions: always the oracle's value and gradients.

A program is compiled for a sample of cases at once and serves every example, which draws the values alone. By default
each property has one program and the same examples every time; HYPOTHESIS_PROFILE=thorough, as `make thorough` sets
it, draws 300 fresh examples over 20 programs for each property, and prints how to reproduce one that fails.
"""

import math
import os
from functools import cache, partial
from random import Random
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jax_leaky import leaky_relu
from tests.op import oracle
from tests.op.compositions import FORWARD_ONLY, ONCE, TRANSFORMATIONS, compose

settings.register_profile("quick", max_examples=25, deadline=None, derandomize=True)
settings.register_profile(
    "thorough",
    max_examples=300,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],  # the first example of a program waits until it is compiled
)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")
check = settings(settings.get_profile(PROFILE))
programs = st.integers(0, 19 if PROFILE == "thorough" else 0)

SIZES = (1, 2, 7, 8, 9)  # among them the sides of a byte
RESIDUALS = ("bits", "mask", "output")
SLOPES = (0.0, 0.01, 0.2, 1.0, -0.5, -1.25)
DTYPES = (np.float32, np.float16, jnp.bfloat16)
# Quarters: sums and products of a few are exact in float32 in any order.
quarters = st.integers(-16, 16).map(lambda k: k / 4)


def arrays(shape):
    return hnp.arrays(np.float32, shape, elements=quarters, fill=st.nothing())


# As many elements as the largest shape has, of which the others take what they need. Drawing is slow: 31 are drawn, and
# repeated, which is out of step with every size.
values = arrays(31).map(lambda drawn: np.resize(drawn, max(SIZES) ** 3))


def of_shape(shape, flat):
    return flat[: math.prod(shape)].reshape(shape)


def some_shape(random):
    return tuple(random.choices(SIZES, k=random.randint(1, 3)))


def kept_under(slope, residual):
    """The residual; where the slope is a number below 0, which "output" refuses, bits."""
    return "bits" if residual == "output" and slope < 0 else residual


@cache
def sample_with_numbers(program):
    """(shape, dtype, slope) of a sample of cases, and the program that gives value and pullback of each."""
    random = Random(program)
    cases = [(some_shape(random), random.choice(DTYPES), random.choice(SLOPES)) for _ in range(16)]
    ops = [
        partial(
            leaky_relu,
            negative_slope=slope,
            residual=kept_under(slope, random.choice(RESIDUALS)),
            forward_mode=random.choice([False, True]),
        )
        for _, _, slope in cases
    ]

    @jax.jit
    def run(x, cotangent):
        found = []
        for (shape, dtype, _), op in zip(cases, ops, strict=True):
            y, pullback = jax.vjp(op, of_shape(shape, x).astype(dtype))
            found.append((y, *pullback(of_shape(shape, cotangent).astype(dtype))))
        return found

    return cases, ops, run


@check
@given(programs, values, values)
def test_any_shape_dtype_residual(program, x, cotangent):
    cases, ops, run = sample_with_numbers(program)
    for (shape, dtype, slope), op, (y, x_bar) in zip(cases, ops, run(x, cotangent), strict=True):
        note(f"{op} of {np.dtype(dtype)} {shape}")
        given_x, given_cotangent = (of_shape(shape, flat).astype(dtype) for flat in (x, cotangent))
        oracle.assert_identical(y, oracle.value(given_x, slope))
        oracle.assert_equal(x_bar, oracle.pullback(given_x, slope, given_cotangent))


@pytest.mark.parametrize("shape", [(64, 1), (1, 16), (8, 1, 7), (64, 1, 5, 1)], ids=str)
def test_an_axis_of_one_element_beside_the_packed_one(shape):
    x, cotangent = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    _, x_bar = oracle.run(partial(leaky_relu, negative_slope=0.2), cotangent, x)
    oracle.assert_equal(x_bar, oracle.pullback(x, 0.2, cotangent))


@cache
def sample_with_arrays(program):
    """(shape, shape of the slope) of a sample of cases, and the program that gives value and pullbacks of each."""
    random = Random(program)
    cases, ops = [], []
    for _ in range(16):
        shape = some_shape(random)
        last = shape[random.randint(0, len(shape)) :]
        cases.append((shape, tuple(random.choice([1, size]) for size in last)))
        ops.append(
            partial(leaky_relu, residual=random.choice(RESIDUALS), forward_mode=random.choice([False, True]))
        )

    @jax.jit
    def run(x, slope, cotangent):
        found = []
        for (shape, slope_shape), op in zip(cases, ops, strict=True):
            y, pullback = jax.vjp(op, of_shape(shape, x), of_shape(slope_shape, slope))
            found.append((y, *pullback(of_shape(shape, cotangent))))
        return found

    return cases, ops, run


@check
@given(programs, values, values, values)
def test_a_slope_of_any_shape_that_broadcasts(program, x, slope, cotangent):
    cases, ops, run = sample_with_arrays(program)
    found = run(x, slope, cotangent)
    for (shape, slope_shape), op, (y, x_bar, slope_bar) in zip(cases, ops, found, strict=True):
        note(f"{op} of {shape} with a slope of {slope_shape}")
        given_x, given_cotangent = of_shape(shape, x), of_shape(shape, cotangent)
        given_slope = of_shape(slope_shape, slope)
        oracle.assert_equal(y, oracle.value(given_x, given_slope))
        oracle.assert_equal(x_bar, oracle.pullback(given_x, given_slope, given_cotangent))
        whole = oracle.slope_pullback(given_x, given_cotangent)
        oracle.assert_equal(slope_bar, summed_to(slope_shape, whole))


def summed_to(shape, whole):
    """Over the axes along which a slope of that shape was broadcast."""
    kept = whole.ndim - len(shape)
    axes = tuple(axis for axis in range(whole.ndim) if axis < kept or shape[axis - kept] == 1)
    return whole.sum(axes).reshape(shape).astype(np.float32)


ROWS, COLUMNS = 4, 8  # a row for each device of conftest.py
# How a composition is differentiated: once or twice, backward or forward.
ORDERS = ("vjp", "jvp", "vjp of vjp", "jvp of vjp", "vjp of jvp")


class Composition(NamedTuple):
    """The op under transformations, the last one outermost, and how it is differentiated."""

    names: tuple[str, ...]
    slope: float | tuple[int, ...]  # a number, or the shape of an array
    order: str
    op: partial

    @classmethod
    def at_random(cls, random):
        names = random.choices(sorted(TRANSFORMATIONS), k=random.randint(1, 4))
        names = [name for place, name in enumerate(names) if name not in ONCE or name not in names[:place]]
        order = "jvp" if FORWARD_ONLY & set(names) else random.choice(ORDERS)
        slope = random.choice([random.choice(SLOPES), (), (ROWS, 1)])
        residual = random.choice(RESIDUALS)
        op = partial(
            leaky_relu,
            residual=residual if isinstance(slope, tuple) else kept_under(slope, residual),
            forward_mode="jvp" in order or random.choice([False, True]),
        )
        return cls(tuple(names), slope, order, op)

    def primals(self, x, slope):
        """x, and the slope if it is an array."""
        return (x, of_shape(self.slope, slope)) if isinstance(self.slope, tuple) else (x,)

    def run(self, x, slope, along_x, along_slope):
        """y, and a tangent or the cotangents of the primals: of y, or of the gradient of half its square."""
        f = compose(self.names, self.op, None if isinstance(self.slope, tuple) else self.slope)
        primals, along = self.primals(x, slope), self.primals(along_x, along_slope)
        half_square = lambda *primals: (f(*primals) ** 2).sum() / 2  # noqa: E731  as short as its mathematics
        if self.order == "vjp":
            y, pullback = jax.vjp(f, *primals)
            return y, pullback(along_x)
        if self.order == "jvp":
            return jax.jvp(f, primals, along)
        if self.order == "vjp of vjp":
            return f(*primals), jax.vjp(jax.grad(half_square), *primals)[1](along_x)
        if self.order == "jvp of vjp":
            return f(*primals), jax.jvp(jax.grad(half_square), primals, along)[1]

        def first(*primals):
            return jax.jvp(lambda x: half_square(x, *primals[1:]), primals[:1], (along_x,))[1]

        return f(*primals), jax.grad(first, tuple(range(len(primals))))(*primals)

    def check(self, found, x, slope, along_x, along_slope):
        """On paper: y' is steep, and the derivative of half the square of y is y' y = steep^2 x."""
        y, derivative = found
        slopes = of_shape(self.slope, slope) if isinstance(self.slope, tuple) else self.slope
        by_slope = 0
        if isinstance(self.slope, tuple):
            by_slope = np.where(x > 0, 0, x) * of_shape(self.slope, along_slope)
        steep = np.where(x > 0, 1.0, oracle.round_slope(slopes, np.float32))
        close = partial(np.testing.assert_allclose, rtol=1e-6)
        oracle.assert_equal(y, oracle.value(x, slopes))
        if self.order == "vjp":
            oracle.assert_equal(derivative[0], oracle.pullback(x, slopes, along_x))
            for slope_bar in derivative[1:]:
                oracle.assert_equal(slope_bar, summed_to(self.slope, oracle.slope_pullback(x, along_x)))
        elif self.order == "jvp":
            close(derivative, steep * along_x + by_slope)
        elif self.order == "jvp of vjp":
            close(derivative, steep**2 * along_x + 2 * steep * by_slope)
        else:
            close(derivative[0], steep**2 * along_x)
            for slope_bar in derivative[1:]:
                twice = 2 * steep * oracle.slope_pullback(x, along_x)
                close(slope_bar, summed_to(self.slope, twice), atol=1e-6)


@cache
def sample_of_compositions(program):
    random = Random(program)
    sample = [Composition.at_random(random) for _ in range(12)]
    return sample, jax.jit(lambda *values: [composition.run(*values) for composition in sample])


matrices, slope_columns = arrays((ROWS, COLUMNS)), arrays(ROWS)


@pytest.mark.slow
@check
@given(programs, matrices, slope_columns, matrices, slope_columns)
def test_transformations_composed_at_random(program, x, slope, along_x, along_slope):
    sample, run = sample_of_compositions(program)
    drawn = x, slope, along_x, along_slope
    for composition, found in zip(sample, run(*drawn), strict=True):
        note(composition)
        composition.check(found, *drawn)

"""Compiled once for each shape: no second trace, and no slope disturbs another."""

import collections
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import leaky_relu


def counted(f):
    """The function jitted, and how often it was traced for each shape."""
    traces = collections.Counter()

    def run(x, *args):
        traces[x.shape] += 1
        return f(x, *args)

    return jax.jit(run), traces


@pytest.fixture
def compilations(caplog):
    """The programs that JAX compiles while the test runs, by name."""
    caplog.set_level(logging.WARNING)
    with jax.log_compiles(True):
        yield lambda: [r.getMessage() for r in caplog.records if r.getMessage().startswith("Compiling")]


@pytest.mark.parametrize(
    "slope", [0.25, jnp.float32(0.25), np.array([0.25, 0.5, 1.0])], ids=["number", "scalar", "channels"]
)
@pytest.mark.parametrize("forward_mode", [False, True])
def test_a_second_call_traces_and_compiles_nothing(slope, forward_mode, compilations):
    def gradient(x):
        return jax.grad(lambda x: leaky_relu(x, slope, forward_mode=forward_mode).sum())(x)

    f, traces = counted(gradient)
    inputs = [jnp.ones((5, 3)) * k for k in (1, -1, 2)]
    outputs = [jnp.ones((7, 3))]
    first = f(inputs[0])
    f(outputs[0])
    before = compilations()
    assert len(before) >= 2
    for x in inputs:
        f(x)
    assert traces == {(5, 3): 1, (7, 3): 1}
    assert compilations() == before
    assert (f(inputs[0]) == first).all()


def test_the_op_by_itself_compiles_once_for_each_shape_whatever_the_slope(compilations):
    def compiled():
        return sum("leaky_relu" in message for message in compilations())

    inputs = [jnp.full((11, 13), value) for value in (1.0, -1.0)]
    other = jnp.ones((13, 11))
    slopes = [jnp.float32(value) for value in (0.123, 0.125)]
    for calls, expected in [
        (
            [
                (inputs[0], 0.123),
                (inputs[1], 0.123),
                (inputs[0], np.float64(0.123)),
                (inputs[0], np.array(0.123)),
            ],
            1,
        ),
        ([(other, 0.123)], 2),
        ([(inputs[0], k / 100) for k in range(-50, 50)], 2),
        ([(inputs[0], slopes[0]), (inputs[0], slopes[1])], 3),  # an array has a rule of its own
        ([(inputs[0], 0.123), (other, 0.123), (inputs[1], 0.124)], 3),
    ]:
        for x, slope in calls:
            leaky_relu(x, slope)
        assert compiled() == expected


def test_static_slopes_do_not_disturb_each_other():
    x = jnp.array([-1.0, 2.0])
    for slope in (0.5, 0.25, 0.5, 0.0, -1.0, 0.25, 1, True, 0.5):
        np.testing.assert_array_equal(leaky_relu(x, slope), [-slope, 2])
        np.testing.assert_array_equal(jax.grad(lambda x, a=slope: leaky_relu(x, a).sum())(x), [slope, 1])


@pytest.mark.parametrize("residual", ["bits", "mask", "output"])
def test_a_traced_slope_serves_every_value_with_one_program(residual):
    f, traces = counted(lambda x, slope: jax.grad(lambda x: leaky_relu(x, slope, residual=residual).sum())(x))
    x = jnp.array([-1.0, 2.0])
    for slope in (0.5, 0.0, -2.0):
        np.testing.assert_array_equal(f(x, slope), [slope, 1])
    assert traces == {(2,): 1}

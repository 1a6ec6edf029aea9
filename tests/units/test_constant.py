import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import units

VARYING = np.float32([[1.0, 2.0], [1.0, 2.5], [1.0, 2.0]])


@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-30, 1e-37])
@pytest.mark.parametrize(
    ("outputs", "expected"), [(VARYING, 0), (np.tile(VARYING[:1], (3, 1)), 1), (-VARYING, 0)]
)
def test_constant_is_relative(outputs, expected, scale):
    assert float(units.constant_output(outputs * np.float32(scale))) == expected


def test_outputs_that_underflow_to_subnormals_still_vary():
    subnormal = np.float32([[1e-40], [2e-40]])
    assert float(units.constant_output(subnormal)) == 0
    assert float(units.constant_output(subnormal[[0, 0]])) == 1
    assert float(units.constant_output(np.float32([[0.0], [1e-45]]))) == 0


def test_zeros_are_constant_whatever_their_sign():
    assert float(units.constant_output(np.float32([[0.0], [-0.0]]))) == 1


def test_the_tolerance_is_inclusive_and_relative_to_the_output():
    outputs = np.float32([[1024.0], [1025.0]])
    assert float(units.constant_output(outputs)) == 0
    assert float(units.constant_output(outputs, rtol=1 / 1025)) == 1
    assert float(units.constant_output(outputs, rtol=1 / 1026)) == 0


def test_huge_outputs_of_both_signs_do_not_overflow():
    assert float(units.constant_output(np.float32([[3e38], [-3e38]]))) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_output_is_neither(bad):
    assert np.isnan(units.constant_output(np.float32([[bad], [bad]])))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_outputs(dtype):
    assert float(units.constant_output(jnp.ones((3, 2), dtype))) == 1
    assert float(units.constant_output(jnp.asarray([[1e-7], [2e-7]], dtype))) == 0


def test_double_precision():
    with jax.enable_x64(True):
        assert float(units.constant_output(jnp.array([1e-200, 1.1e-200]))) == 0
        assert float(units.constant_output(jnp.array([1e-200, 1e-200]))) == 1


def test_a_born_dead_network():
    # One input, a hidden layer of two units that are never active on the positive axis: the output is the bias.
    x = jnp.linspace(0.1, 1, 7)[:, None]

    def network(x, slope):
        z = x @ jnp.float32([[-1.0, -2.0]])
        return jnp.where(z > 0, z, slope * z) @ jnp.float32([[1.0], [3.0]]) + 0.5

    dead = jax.jit(lambda x, slope: units.constant_output(network(x, slope)))
    assert float(dead(x, 0.0)) == 1
    assert float(dead(x, 0.01)) == 0
    assert jax.vmap(lambda slope: units.constant_output(network(x, slope)))(
        jnp.float32([0.0, 0.2])
    ).tolist() == [1, 0]

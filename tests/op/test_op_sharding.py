"""The op over four devices: shard_map, sharded inputs under automatic and explicit sharding, and what is exchanged."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import leaky_relu_oracle as oracle
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_leaky import leaky_relu

DEVICES = 4
COLLECTIVE = re.compile(r" (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")
SPECS = [P("devices", None), P(None, "devices")]
SHAPES = [(32, 64), (16, 64), (8, 64), (24, 8), (64, 20)]  # of eight in a byte, some devices hold four or two

every_slope = pytest.mark.parametrize("slope", [0.25, jnp.float32(0.25)], ids=["number", "array"])
every_mode = pytest.mark.parametrize(
    ("residual", "forward_mode"), [("bits", False), ("bits", True), ("mask", False), ("output", False)]
)


def mesh(axis_type):
    return jax.make_mesh((DEVICES,), ("devices",), axis_types=(axis_type,))


def sample(shape):
    rng = np.random.default_rng(0)
    x, cotangent = rng.standard_normal((2, *shape)).astype(np.float32)
    return x, cotangent


def run(f, x, cotangent):
    y, pullback = jax.vjp(f, x)
    return y, *pullback(cotangent)


@every_slope
@every_mode
@pytest.mark.parametrize("spec", SPECS, ids=["batch", "features"])
def test_shard_map(spec, residual, forward_mode, slope):
    x, cotangent = sample((16, 64))
    f = partial(leaky_relu, negative_slope=slope, residual=residual, forward_mode=forward_mode)
    mapped = jax.shard_map(f, mesh=mesh(AxisType.Auto), in_specs=spec, out_specs=spec)
    y, x_bar = jax.jit(partial(run, mapped))(x, cotangent)
    oracle.assert_identical(y, oracle.value(x, 0.25))
    oracle.assert_equal(x_bar, oracle.pullback(x, 0.25, cotangent))


@every_mode
def test_the_gradient_of_a_replicated_slope_in_shard_map_is_summed_over_devices(residual, forward_mode):
    x, cotangent = sample((16, 8))
    f = partial(leaky_relu, residual=residual, forward_mode=forward_mode)
    mapped = jax.shard_map(f, mesh=mesh(AxisType.Auto), in_specs=(SPECS[0], P()), out_specs=SPECS[0])
    slope = jnp.full((8,), 0.25)
    _, x_bar, slope_bar = jax.jit(lambda x, a, c: run_both(mapped, x, a, c))(x, slope, cotangent)
    oracle.assert_equal(x_bar, oracle.pullback(x, 0.25, cotangent))
    np.testing.assert_allclose(slope_bar, oracle.slope_pullback(x, cotangent).sum(0), rtol=1e-5)


def run_both(f, x, slope, cotangent):
    y, pullback = jax.vjp(f, x, slope)
    return y, *pullback(cotangent)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["automatic", "explicit"])
@every_slope
@every_mode
@pytest.mark.parametrize("spec", SPECS, ids=["batch", "features"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sharded_inputs(shape, spec, residual, forward_mode, slope, axis_type):
    x, cotangent = sample(shape)
    f = partial(leaky_relu, negative_slope=slope, residual=residual, forward_mode=forward_mode)
    sharding = NamedSharding(mesh(axis_type), spec)
    with jax.set_mesh(sharding.mesh):
        sharded = [jax.device_put(array, sharding) for array in (x, cotangent)]
        y, x_bar = jax.jit(partial(run, f), out_shardings=(sharding, sharding))(*sharded)
    assert y.sharding.is_equivalent_to(sharding, 2)
    oracle.assert_identical(y, oracle.value(x, 0.25))
    oracle.assert_equal(x_bar, oracle.pullback(x, 0.25, cotangent))


@pytest.mark.parametrize("spec", SPECS, ids=["batch", "features"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("residual", ["mask", "output", "bits"])
def test_nothing_is_exchanged_between_devices(residual, shape, spec):
    """An elementwise op needs no neighbour, as long as a byte of bits does not lie across two devices."""
    sharding = NamedSharding(mesh(AxisType.Auto), spec)
    sharded = [jax.device_put(array, sharding) for array in sample(shape)]
    program = jax.jit(partial(run, partial(leaky_relu, residual=residual))).lower(*sharded).compile()
    assert COLLECTIVE.findall(program.as_text()) == []

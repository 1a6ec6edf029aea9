"""Sharded over four devices, a census counts the same."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_leaky import census, value_and_census

X = np.random.default_rng(4).normal(size=(3, 8, 5, 5, 2)).astype(np.float32)


class CNN(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Conv(6, (3, 3))(x))
        return nn.Dense(1)(nn.leaky_relu(nn.Dense(6)(x.mean((1, 2))), 0.1))


MODEL = CNN()
VARIABLES = jax.jit(MODEL.init)(jax.random.key(0), X[0])
FN = functools.partial(MODEL.apply, VARIABLES)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_the_counts_of_a_mesh_are_those_of_one_device(axis_type: AxisType) -> None:
    mesh = jax.make_mesh((4,), ("data",), axis_types=(axis_type,))
    alone = census(FN, list(X))
    placed = [jax.device_put(x, NamedSharding(mesh, P("data"))) for x in X]
    with jax.set_mesh(mesh):
        variables = jax.device_put(VARIABLES, NamedSharding(mesh, P()))
        found = census(functools.partial(MODEL.apply, variables), placed)
    for one, other in zip(alone, found, strict=True):
        for name in ("fired", "nonzero", "nonfinite", "last_fired", "n"):
            ours, theirs = (getattr(site.counts, name).to_numpy() for site in (one, other))
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
        np.testing.assert_allclose(one.counts.abs_sum.high, other.counts.abs_sum.high, rtol=1e-5)


def test_a_sharded_training_step_counts_the_same() -> None:
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    counted = jax.jit(value_and_census(MODEL.apply))
    placed = jax.device_put(X[0], NamedSharding(mesh, P("data")))
    alone, spread = counted(VARIABLES, jnp.asarray(X[0]))[1], counted(VARIABLES, placed)[1]
    for one, other in zip(alone, spread, strict=True):
        np.testing.assert_array_equal(one.counts.fired.to_numpy(), other.counts.fired.to_numpy())

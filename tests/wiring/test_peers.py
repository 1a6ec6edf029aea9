"""The wiring of modules of Equinox and Haiku."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import wiring

pytestmark = pytest.mark.peer


def test_an_equinox_module():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(3, 2, 4, 2, key=jax.random.key(0))
    params, static = eqx.partition(model, eqx.is_array)
    wires = wiring(lambda params, x: jax.vmap(eqx.combine(params, static))(x), params, jnp.ones((2, 3)))
    first, second = wires.units
    assert wires.reasons == {first: "", second: ""}
    incoming, outgoing = wires.entries(params, {first: np.arange(4) == 1})
    # Equinox keeps kernels as (out, in).
    np.testing.assert_array_equal(
        incoming.layers[0].weight, np.broadcast_to(np.arange(4)[:, None] == 1, (4, 3))
    )
    np.testing.assert_array_equal(outgoing.layers[1].weight, np.broadcast_to(np.arange(4) == 1, (4, 4)))


def test_a_haiku_module():
    hk = pytest.importorskip("haiku")
    net = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([4, 2])(x)))
    x = jnp.ones((2, 3))
    params = net.init(jax.random.key(0), x)
    wires = wiring(net.apply, params, x)
    (site,) = wires.units
    incoming, outgoing = wires.entries(params, {site: np.arange(4) == 1})
    np.testing.assert_array_equal(incoming["mlp/~/linear_0"]["w"], np.broadcast_to(np.arange(4) == 1, (3, 4)))
    np.testing.assert_array_equal(
        outgoing["mlp/~/linear_1"]["w"], np.broadcast_to(np.arange(4)[:, None] == 1, (4, 2))
    )

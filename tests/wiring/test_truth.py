"""The wiring of some forty small networks, against finite changes that know nothing of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import wiring
from tests.wiring.networks import NETWORKS, relu
from tests.wiring.oracle import Oracle


def wired(network):
    x = jnp.asarray(network.x)
    return wiring(lambda params, x: network.apply(params, x, relu), network.params, x)


def claims(wires, network, site, **options):
    """(units, entries) what the wiring says feeds each unit, and what reads it."""
    shape = wires.units[site]
    found = [[], []]
    for mask in np.eye(int(np.prod(shape)), dtype=bool):
        entries = wires.entries(network.params, {site: mask.reshape(shape)}, **options)
        for rows, tree in zip(found, entries, strict=True):
            rows.append(np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)]))
    return map(np.array, found)


def own(table, layers):
    """Without the entries that concern every unit of a layer: they belong to none."""
    by_layer = table.reshape(layers, -1, table.shape[-1])
    if by_layer.shape[1] == 1:
        return table
    return (by_layer & ~by_layer.all(axis=1, keepdims=True)).reshape(table.shape)


def check(network, wires, site, name, oracle):
    """A site whose units can be told apart, against the oracle."""
    before = oracle.run(oracle.params)
    incoming, outgoing = claims(wires, network, site)
    truth = oracle.truth(name)
    moves, reads = (own(table, len(table) // wires.units[site][-1]) for table in truth)
    # All that moves a unit feeds it. What feeds it and does not move it scales its output, and so reads it, or does
    # nothing at all, as a bias in front of a norm.
    np.testing.assert_array_equal(incoming & moves, moves, err_msg=site)
    scaling = incoming & ~moves & oracle.moves_anything
    # A weight whose product nothing uses reads in vain.
    assert not ((outgoing | scaling) & ~truth.reads & oracle.moves_anything).any()
    if name not in network.bent:
        np.testing.assert_array_equal(outgoing | scaling, reads, err_msg=site)
    for unit, where in enumerate(oracle.units(name)):
        # Without its outgoing entries a unit has no effect, to the bit; and no other unit feels its own.
        silenced = np.where(outgoing[unit], 0.0, oracle.params)
        quiet = oracle.run(silenced)
        np.testing.assert_array_equal(quiet, oracle.run(silenced, oracle.changed(name, unit)))
        fresh = np.where(incoming[unit] & ~outgoing[unit], -oracle.params, silenced)
        rows = np.concatenate([oracle.places[name][call].reshape(-1)[index] for call, index in where])
        others = np.setdiff1d(np.arange(len(before)), rows)
        np.testing.assert_array_equal(oracle.run(fresh)[others], quiet[others])


@pytest.mark.parametrize("name", NETWORKS)
def test_of_each_network(name):
    network = NETWORKS[name]()
    with jax.enable_x64(True):
        wires = wired(network)
        sites = {site.split("/")[-2]: site for site in wires.units}
        assert set(sites) == set(network.reasons)
        oracle = Oracle(network)
        for site, expected in network.reasons.items():
            reason = wires.reasons[sites[site]]
            assert (expected in reason) if expected else reason == "", str(wires)
            if not expected:
                check(network, wires, sites[site], site, oracle)

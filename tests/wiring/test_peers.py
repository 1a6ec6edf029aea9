"""The wiring of Equinox, Haiku and Keras modules; and asdex, an oracle that follows index sets through the program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import census, wiring
from tests.wiring.networks import NETWORKS
from tests.wiring.oracle import Oracle
from tests.wiring.test_truth import claims, own, wired

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


def test_a_keras_model(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "jax":
        pytest.skip("Keras was imported in this process with another backend; set KERAS_BACKEND=jax")
    layers = keras.layers
    model = keras.Sequential(
        [
            *[keras.Input((6, 6, 2)), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU()],
            *[layers.Flatten(), layers.Dense(5, activation="relu"), layers.Dense(3)],
        ]
    )
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, 6, 6, 2)), jnp.float32)
    rest = [v.value for v in model.non_trainable_variables]
    kernel, bias, gamma, beta, *dense = range(8)
    params, fresh = (
        [jnp.asarray(rng.normal(size=v.shape), jnp.float32) for v in model.trainable_variables] for _ in "ab"
    )
    params[beta] = params[beta].at[1].set(-99.0)
    params[dense[1]] = params[dense[1]].at[jnp.array([0, 3])].set(-999.0)
    run = lambda params, x: model.stateless_call(params, rest, x)[0]  # noqa: E731 a formula in one line
    wires = wiring(run, params, x)
    # 3 x 3 x 2 weights, bias, gamma and beta, read at 4 x 4 places by 5 units; 64 weights and a bias, read by 3.
    assert str(wires).splitlines() == [
        "site        units  incoming  outgoing  reason",
        "re_lu/relu  4      84        320",
        "dense/relu  5      325       15",
    ]
    incoming, outgoing = wires.entries(params, {"re_lu/relu": np.arange(4) == 1})
    assert [int(leaf.sum()) for leaf in incoming] == [18, 1, 1, 1, 0, 0, 0, 0]
    np.testing.assert_array_equal(incoming[kernel], np.broadcast_to(np.arange(4) == 1, (3, 3, 2, 4)))
    # Flatten keeps channels fastest.
    assert [int(leaf.sum()) for leaf in outgoing] == [0, 0, 0, 0, 80, 0, 0, 0]
    np.testing.assert_array_equal(outgoing[dense[0]].all(axis=1), np.arange(64) % 4 == 1)
    found = census(run, [(params, x)])
    masks = {site.name: site.per_unit("never_active") == 1 for site in found}
    assert [np.flatnonzero(mask).tolist() for mask in masks.values()] == [[1], [0, 3]]
    after = wires.recycle(params, masks, fresh)
    for index in (kernel, bias, gamma, beta):
        np.testing.assert_array_equal(after[index][..., 1], fresh[index][..., 1])
    run = jax.jit(run)
    np.testing.assert_array_equal(run(after, x), run(params, x))
    living = {"re_lu/relu": np.arange(4) == 0}
    assert not np.array_equal(run(wires.recycle(params, living, fresh), x), run(params, x))


# asdex 0.5.1 follows no convolution whose kernel depends on what it looks at, and takes a dynamic slice for the whole.
NOT_FOLLOWED = [
    "conv_flatten_dense_channels_last",
    "conv_flatten_dense_channels_first",
    "strided_and_dilated_convolutions",
    "an_ensemble_of_convolutions",
    "kernels_that_overhang_the_image",
    "depthwise_and_grouped_convolutions",
    "a_view_before_a_transposed_convolution",
    "batch_norm_between",
    "group_norms_and_layer_norm",
    "dropout_and_pooling",
    "squeeze_and_excitation",
    "an_nnx_module",
    "flattened_before_the_activation",
    "split_slice_pad_reverse_and_transpose",
]
FOLLOWED = [name for name in NETWORKS if name not in NOT_FOLLOWED]


@pytest.mark.parametrize("name", FOLLOWED)
def test_asdex_finds_the_same_entries(name):
    asdex = pytest.importorskip("asdex")
    assert len(FOLLOWED) > 20
    network = NETWORKS[name]()
    with jax.enable_x64(True):
        wires, oracle = wired(network), Oracle(network)
        moves = asdex.jacobian_sparsity(lambda p: oracle.values(p, oracle.outputs), oracle.params)
        # An entry reads a unit if what the unit's output changes depends on it.
        weight = np.random.default_rng(0).normal(size=moves.m)
        loss = lambda outputs, p: weight @ oracle.values(p, outputs)  # noqa: E731 a formula in one line
        reads = asdex.jacobian_sparsity(
            lambda p: jnp.concatenate(
                [g.ravel() for g in jax.tree.leaves(jax.grad(loss)(oracle.outputs, p))]
            ),
            oracle.params,
        )
    moves, reads = (np.asarray(pattern.todense()) != 0 for pattern in (moves, reads))
    order = jax.tree.leaves({site: [part.ravel() for part in parts] for site, parts in oracle.places.items()})
    reads = reads[np.argsort(np.concatenate(order))]  # a dictionary of JAX is sorted
    effective = moves.any(axis=0)
    for site, shape in wires.units.items():
        if wires.reasons[site]:
            continue
        scope = site.split("/")[-2]
        incoming, outgoing = claims(wires, network, site)
        rows = [
            np.concatenate([oracle.places[scope][call].reshape(-1)[index] for call, index in where])
            for where in oracle.units(scope)
        ]
        moved, read = (
            own(np.array([table[unit].any(axis=0) for unit in rows]), len(rows) // shape[-1])
            for table in (moves, reads)
        )
        np.testing.assert_array_equal(incoming & moved, moved, err_msg=site)
        scaling = incoming & ~moved & effective
        if scope not in network.bent:
            np.testing.assert_array_equal(outgoing | scaling, read, err_msg=site)

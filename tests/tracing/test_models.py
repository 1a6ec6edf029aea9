"""Models of every library, as their authors write them."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky._tracing import list_sites, observe, swap
from tests.tracing.small_network import firing

KEYS = jax.random.split(jax.random.key(2), 4)
RANDOM = np.random.default_rng(2)
IMAGES = jnp.asarray(RANDOM.normal(size=(4, 8, 8, 3)), jnp.float32)
ROWS = jnp.asarray(RANDOM.normal(size=(16, 5)), jnp.float32)


def same_bits(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: x.tobytes() == y.tobytes(), a, b))


def assert_unchanged(apply, params, *args):
    """Value, auxiliary state and gradient under jit, to the bit; returns the records."""

    def loss(params, *args):
        out, state = apply(params, *args)
        return (out**2).sum(), (out, state)

    def observed_loss(params, *args):
        (out, state), seen = observe(apply, firing)(params, *args)
        return (out**2).sum(), (out, state, seen)

    (_, (out, state)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params, *args)
    (_, (observed, state_too, seen)), gradient_too = jax.jit(jax.value_and_grad(observed_loss, has_aux=True))(
        params, *args
    )
    assert same_bits((out, state, gradient), (observed, state_too, gradient_too))
    return seen


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        return nn.leaky_relu(nn.Dense(16)(x), 0.1), None


class CNN(nn.Module):
    act: callable = nn.relu

    @nn.compact
    def __call__(self, x, train):
        for width in (4, 8):
            x = nn.Conv(width, (3, 3))(x)
            x = nn.BatchNorm(use_running_average=not train)(x)
            x = nn.max_pool(self.act(x), (2, 2), (2, 2))
        x = nn.Dense(16)(x.reshape(len(x), -1))
        x = nn.Dropout(0.5, deterministic=not train)(nn.PReLU()(x))
        x = nn.LayerNorm()(x)
        x, _ = nn.remat(Block)()(x)
        x, _ = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)()(x, None)
        x = nn.MultiHeadDotProductAttention(2)(x[:, None, :])[:, 0]
        return nn.Dense(3)(nn.gelu(x))


@functools.cache
def linen_variables():
    return jax.jit(functools.partial(CNN().init, train=False))({"params": KEYS[2]}, IMAGES)


def linen(act=nn.relu):
    model, variables = CNN(act), linen_variables()

    def apply(params, x):
        rngs = {"dropout": KEYS[3]}
        return model.apply({**variables, "params": params}, x, train=True, rngs=rngs, mutable=["batch_stats"])

    return apply, variables["params"]


def test_linen_names_sites_by_module():
    apply, params = linen()
    assert list_sites(apply, params, IMAGES).names == [
        "CNN/relu",
        "CNN/relu_1",
        "CNN/PReLU_0/prelu",
        "CNN/CheckpointBlock_0/leaky_relu",
        "CNN/scan/ScanBlock_0/leaky_relu",
        "CNN/gelu",
    ]


def test_linen_batch_norm_dropout_remat_and_scan():
    seen = assert_unchanged(*linen(), IMAGES)
    assert seen["CNN/relu"].shape == (4,)
    assert seen["CNN/scan/ScanBlock_0/leaky_relu"].shape == (3, 16)


def test_linen_swap_is_the_edited_model():
    apply, params = linen()
    edited, _ = linen(nn.silu)

    def results(fn):
        return jax.jit(jax.value_and_grad(lambda p, x: (fn(p, x)[0] ** 2).sum()))(params, IMAGES)

    actual, expected = results(swap(apply, {"relu": nn.silu})), results(edited)
    assert same_bits(actual, expected)


def test_linen_partial_and_bound_modules():
    model = nn.Sequential([nn.Dense(7), nn.relu, nn.Dense(2), nn.tanh])
    variables = model.init(KEYS[2], ROWS)
    sites = list_sites(functools.partial(model.apply, variables), ROWS)
    assert [(site.kind, site.shape) for site in sites] == [("relu", (16, 7)), ("tanh", (16, 2))]
    assert list_sites(model.bind(variables), ROWS).names == sites.names
    with pytest.raises(TypeError, match="list_sites could not trace Sequential: "):
        list_sites(model, ROWS)


@pytest.mark.peer
def test_equinox():
    eqx = pytest.importorskip("equinox", reason="equinox is not among the project's own dependencies")

    class Model(eqx.Module):
        layers: list
        norm: eqx.nn.LayerNorm
        act: callable

        def __call__(self, x):
            for layer in self.layers:
                x = self.act(self.norm(layer(x)))
            return x

    def model(act):
        layers = [eqx.nn.Linear(5, 5, key=key) for key in jax.random.split(KEYS[2], 3)]
        return Model(layers, eqx.nn.LayerNorm(5), act)

    params, static = eqx.partition(model(jax.nn.relu), eqx.is_array)

    def apply(params, x):
        return jax.vmap(eqx.combine(params, static))(x), ()

    assert len(assert_unchanged(apply, params, ROWS)) == 3
    assert [site.kind for site in list_sites(model(jax.nn.gelu), ROWS[0])] == ["gelu"] * 3
    assert len(list_sites(eqx.filter_jit(eqx.filter_vmap(model(jax.nn.silu))), ROWS)) == 3
    swapped = swap(jax.vmap(model(jax.nn.relu)), {"relu": jnp.tanh})(ROWS)
    np.testing.assert_array_equal(swapped, jax.vmap(model(jnp.tanh))(ROWS))
    mlp = eqx.nn.MLP(5, 2, 8, 2, key=KEYS[2])
    assert list_sites(jax.vmap(mlp), ROWS).names == ["eqx.nn.MLP/relu", "eqx.nn.MLP/relu_1"]


@pytest.mark.peer
def test_haiku():
    hk = pytest.importorskip("haiku", reason="dm-haiku is not among the project's own dependencies")

    def network(x):
        x = hk.nets.MLP([8, 8])(x)
        x = hk.BatchNorm(True, True, 0.9)(jax.nn.relu(x), is_training=True)
        core = hk.LSTM(4)
        x, _ = core(x, core.initial_state(len(x)))
        return jnp.tanh(hk.Linear(2)(x))

    transformed = hk.transform_with_state(network)
    params, state = transformed.init(KEYS[2], ROWS)

    def apply(params, x):
        return transformed.apply(params, state, None, x)

    seen = assert_unchanged(apply, params, ROWS)
    assert seen["mlp/relu"].shape == (8,)
    kinds = [site.kind for site in list_sites(apply, params, ROWS)]
    assert kinds == ["relu", "relu", "sigmoid", "sigmoid", "tanh", "sigmoid", "tanh", "tanh"]


@pytest.mark.peer
def test_keras_on_jax(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="Keras is not among the project's own dependencies")
    if keras.backend.backend() != "jax":
        pytest.skip("Keras was imported in this process with another backend; set KERAS_BACKEND=jax")
    layers = [
        keras.layers.Dense(8, "relu"),
        keras.layers.Dense(8),
        keras.layers.LeakyReLU(0.2),
        keras.layers.Dense(2),
    ]
    model = keras.Sequential([keras.Input((5,)), *layers])
    variables = [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables]

    def apply(params, x):
        return model.stateless_call(params, variables[1], x)

    assert len(assert_unchanged(apply, variables[0], ROWS)) == 2
    sites = list_sites(apply, variables[0], ROWS)
    assert [(site.kind, site.negative_slope) for site in sites] == [("relu", 0.0), ("leaky_relu", 0.2)]


def test_an_mlp_in_plain_jax_on_real_sizes():
    """Random floats and layers that XLA compiles to library calls: the bits stay without any care for rounding."""
    widths = [64, 256, 256, 10]
    keys = jax.random.split(KEYS[2], 3)
    params = [jax.random.normal(k, s) / 8 for k, s in zip(keys, itertools.pairwise(widths), strict=True)]
    x = jax.random.normal(KEYS[3], (128, 64))

    def apply(params, x):
        for w in params[:-1]:
            x = jax.nn.silu(x @ w)
        return x @ params[-1], ()

    seen = assert_unchanged(apply, params, x)
    z = np.asarray(x, np.float64) @ np.asarray(params[0], np.float64)
    first = next(iter(seen.values()))
    assert (
        np.abs(first - (z > 0).sum(0)).max() <= 1
    )  # a z within float32's rounding of 0 may fall on either side

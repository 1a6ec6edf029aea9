"""Whole training steps: the census of the step names the model's activations and no other, and counts as NumPy does."""

import functools
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.sharding import AxisType

from jax_leaky import census, list_sites, observe, value_and_census

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (8, 4))


def updated(optimizer, gradient, params):
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    return optax.apply_updates(params, updates)


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, x, key):
        h = nn.relu(nn.Dense(6)(x))
        mean, log_variance = nn.Dense(2)(h), nn.Dense(2)(h)
        z = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
        return nn.Dense(4)(nn.relu(nn.Dense(6)(z))), mean, log_variance


@pytest.mark.slow
def test_a_variational_autoencoder():
    model = Encoder()
    params = model.init(KEY, X, KEY)

    def step(params, x, key):
        def loss(params):
            out, mean, log_variance = model.apply(params, x, key)
            likelihood = optax.sigmoid_binary_cross_entropy(out, x > 0).sum(-1)
            divergence = -0.5 * (1 + log_variance - mean**2 - jnp.exp(log_variance)).sum(-1)
            return (likelihood + divergence).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        return updated(optax.adam(1e-3), gradient, params), value

    found = list_sites(step, params, X, KEY)
    assert found.names == ["Encoder/relu", "Encoder/relu_1"]
    # The standard deviation is made by an exponential, which bends.
    assert [entry.what for entry in found.opaque] == ["exp"]
    counts = census(step, (params, X, KEY))
    kernel, bias = (np.float64(params["params"]["Dense_0"][name]) for name in ("kernel", "bias"))
    fired = (np.float64(X) @ kernel + bias > 0).sum(0)
    np.testing.assert_array_equal(counts["Encoder/relu"].counts.fired.to_numpy(), fired)


class Critic(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.leaky_relu(nn.Dense(6)(x), 0.2))[:, 0]


class Generator(nn.Module):
    @nn.compact
    def __call__(self, z):
        return nn.tanh(nn.Dense(4)(nn.relu(nn.Dense(6)(z))))


def test_an_adversarial_pair():
    critic, generator = Critic(), Generator()
    params = critic.init(KEY, X), generator.init(KEY, X[:, :2])

    def step(params, x, key):
        z = jax.random.normal(key, (8, 2))

        def of_critic(ours):
            fake = lax.stop_gradient(generator.apply(params[1], z))
            real = optax.sigmoid_binary_cross_entropy(critic.apply(ours, x), jnp.ones(8))
            return (real + optax.sigmoid_binary_cross_entropy(critic.apply(ours, fake), jnp.zeros(8))).mean()

        def of_generator(ours):
            seen = critic.apply(params[0], generator.apply(ours, z))
            return optax.sigmoid_binary_cross_entropy(seen, jnp.ones(8)).mean()

        values, gradients = zip(
            jax.value_and_grad(of_critic)(params[0]), jax.value_and_grad(of_generator)(params[1]), strict=True
        )
        return updated(optax.sgd(0.1), gradients, params), values

    found = list_sites(step, params, X, KEY)
    assert not found.opaque
    kinds = [(site.path, site.kind) for site in found]
    layer = ("Critic", "leaky_relu")
    generating = [("Generator", "relu"), ("Generator", "tanh")]
    assert sorted(kinds) == sorted([*generating, layer, layer, *generating, layer])
    # The critic sees the batch, what is generated, and that again for the generator's loss; by module that is a row.
    folded = census(step, (params, X, KEY)).by_module()
    assert {module.name: len(module.sites) for module in folded} == {"Critic": 3, "Generator": 4}


class Actor(nn.Module):
    @nn.compact
    def __call__(self, x):
        policy = nn.Dense(2)(nn.tanh(nn.Dense(6)(x)))
        return policy, nn.Dense(1)(nn.relu(nn.Dense(6)(x)))[:, 0]


def training(model, optimizer, environments=4, steps=6, epochs=2, minibatches=3):
    """PPO with its environment in one scan: a point on a line that is to stay near 0."""

    def chosen(logits, action):
        return jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], 1)[:, 0]

    def loss(params, x, action, before, old_value, advantage, target):
        logits, value = model.apply(params, x)
        ratio = jnp.exp(chosen(logits, action) - before)
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.8, 1.2) * advantage)
        near = old_value + jnp.clip(value - old_value, -0.2, 0.2)
        error = jnp.maximum((value - target) ** 2, (near - target) ** 2)
        entropy = -(jax.nn.softmax(logits) * jax.nn.log_softmax(logits)).sum(-1)
        return (-gain + 0.25 * error - 0.01 * entropy).mean()

    def act(carry, _, params):
        x, key = carry
        key, own = jax.random.split(key)
        logits, value = model.apply(params, x)
        action = jax.random.categorical(own, logits)
        moved = x + 0.1 * (2.0 * action[:, None] - 1)
        reward = 1 - jnp.square(moved[:, 0])
        return (moved, key), (x, action, chosen(logits, action), value, reward)

    def train(params, key):
        def minibatch(carry, batch):
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params, *batch)
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), value

        def update(carry, _):
            params, state, x, key = carry
            (x, key), (seen, action, before, value, reward) = lax.scan(
                lambda carry, none: act(carry, none, params), (x, key), None, steps
            )
            key, own = jax.random.split(key)
            flat = [part.reshape(-1, *part.shape[2:]) for part in (seen, action, before, value, reward)]
            seen, action, before, value, reward = flat

            def epoch(carry, key):
                order = jax.random.permutation(key, environments * steps).reshape(minibatches, -1)
                data = (seen, action, before, value, reward - value, reward)
                return lax.scan(minibatch, carry, jax.tree.map(lambda part: part[order], data))

            (params, state), values = lax.scan(epoch, (params, state), jax.random.split(own, epochs))
            return (params, state, x, key), values

        start = (params, optimizer.init(params), jnp.zeros((environments, 1)), key)
        return lax.scan(update, start, None, 2)[0][0]

    return train


@pytest.mark.slow
def test_proximal_policy_optimisation_with_environment_and_epochs_in_one_scan():
    model = Actor()
    params = model.init(KEY, jnp.zeros((1, 1)))
    train = training(model, optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-3)))
    found = list_sites(train, params, KEY)
    assert [(site.path.split("/")[-1], site.kind) for site in found] == [
        ("Actor", "tanh"),
        ("Actor", "relu"),
    ] * 2
    assert {entry.what for entry in found.opaque} <= {"derivative"}
    after, counts = jax.jit(value_and_census(train))(params, KEY)
    jax.tree.map(np.testing.assert_array_equal, after, jax.jit(train)(params, KEY))
    # One row for all steps of the environment, one for all minibatches: 2 x 6 x 4 and 2 x 2 x 24 samples.
    assert [int(site.n) for site in counts] == [48, 48, 96, 96]
    assert {site.counts.shape for site in counts} == {(6,)}
    _, seen = observe(train, lambda _, z: z)(params, KEY)
    for site in counts:
        z = np.asarray(seen[site.name])
        np.testing.assert_array_equal(site.counts.fired.to_numpy(), (z.reshape(-1, 6) > 0).sum(0))


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x):
        z = nn.BatchNorm(use_running_average=False, axis_name="devices")(nn.Dense(6)(x))
        return nn.Dense(1)(nn.relu(z))


WAYS = ["shard_map", "shard_map, reduced inside", "pmap", "pmap, reduced inside"]


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=[pytest.mark.slow] * (how != "shard_map")) for how in WAYS]
)
def test_batch_norm_over_devices(how):
    model, devices = Normed(), jax.device_count()
    x = jax.random.normal(KEY, (devices, 8, 4))
    state = jax.pmap(model.init, axis_name="devices", in_axes=(None, 0))(KEY, x)
    state = jax.tree.map(lambda leaf: leaf[0], state)
    inside = how.endswith("inside")
    apply = functools.partial(model.apply, mutable=["batch_stats"])
    counted = value_and_census(apply) if inside else lambda *given: (apply(*given), None)

    def step(state, x):
        def loss(params):
            (out, stats), counts = counted({**state, "params": params}, x)
            return jnp.square(out).mean(), (stats, counts)

        (_, (stats, counts)), gradient = jax.value_and_grad(loss, has_aux=True)(state["params"])
        gradient = lax.pmean(gradient, "devices")
        state = {"params": updated(optax.sgd(0.1), gradient, state["params"]), **stats}
        return (state, counts.all_reduce("devices")) if inside else state

    if how.startswith("pmap"):
        everywhere = jax.pmap(step, axis_name="devices", in_axes=(None, 0))
    else:
        everywhere = jax.shard_map(
            lambda state, x: step(state, x[0]),
            mesh=jax.make_mesh((devices,), ("devices",), axis_types=(AxisType.Auto,)),
            in_specs=(jax.P(), jax.P("devices")),
            out_specs=jax.P(),
        )
    if inside:
        _, counts = jax.jit(everywhere)(state, x)
        counts = jax.tree.map(lambda leaf: leaf[0], counts) if how.startswith("pmap") else counts
    else:
        # That an axis of length 1 was cut away is more than the flow of a shard_map's arrays tells.
        counts = census(everywhere, (state, x), sample_axes=None if how == "pmap" else "devices")
    assert not counts.opaque
    ((name, found),) = ((site.name, site) for site in counts)
    assert name.endswith("Normed/relu")
    dense = {part: np.float64(state["params"]["Dense_0"][part]) for part in ("kernel", "bias")}
    z = np.float64(x).reshape(-1, 4) @ dense["kernel"] + dense["bias"]
    z = (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5)
    assert found.n == 8 * devices
    np.testing.assert_array_equal(found.counts.fired.to_numpy(), (z > 0).sum(0))


@pytest.mark.slow
def test_batch_norm_over_eight_devices():
    program = "import jax; from tests.tracing.test_training_steps import WAYS, test_batch_norm_over_devices; "
    program += "assert jax.device_count() == 8; [test_batch_norm_over_devices(how) for how in WAYS]"
    subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "JAX_NUM_CPU_DEVICES": "8"}, check=True
    )


def counted_step(w, x, *, gradients=False):
    def loss(w, x):
        with jax.named_scope("net"):
            h = jax.nn.relu(x @ w)
            return (jnp.tanh(jax.nn.leaky_relu(h - 0.5, 0.1)) ** 2).mean()

    gradient, counts = jax.grad(value_and_census(loss, gradients=gradients), has_aux=True)(w, x)
    return w - 0.1 * gradient, counts


def with_scalars(w, x):
    w, counts = counted_step(w, x)
    return w, counts.scalars(), counts["net/relu"].summary.per_unit


def in_a_scan(w, x):
    w, counts = lax.scan(lambda w, x: counted_step(w, x, gradients=True), w, x[None])
    return w, counts.sum_steps()


@pytest.mark.parametrize(
    "step",
    [
        counted_step,
        jax.jit(functools.partial(counted_step, gradients=True)),
        with_scalars,
        in_a_scan,
    ],
    ids=["plain", "gradients", "scalars", "scan"],
)
def test_what_a_step_counts_itself_is_no_activation(step):
    w = jax.random.normal(KEY, (4, 6))
    found = list_sites(step, w, X)
    names = [name.removeprefix("scan/") for name in found.names]
    assert (names, found.opaque) == (["net/relu", "net/leaky_relu", "net/tanh"], ())
    fired = (np.float64(X) @ np.float64(w) > 0).sum(0)
    np.testing.assert_array_equal(census(step, (w, X))[0].counts.fired.to_numpy(), fired)

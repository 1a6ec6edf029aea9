"""One step of Flax and Optax against the same step in NumPy float64, written from the formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.dead_neurons import experiment as dead_neurons
from experiments.lab.nets import layers, mlp
from jax_leaky import leaky_relu, observe, value_and_census

HIDDEN, FEATURES, BATCH, CLASSES = (7, 5), 6, 11, 10


@pytest.fixture
def problem():
    random = np.random.default_rng(0)
    params = jax.jit(lambda key: mlp.MLP(HIDDEN).start(key, FEATURES))(jax.random.key(0))
    # Biases that are not 0, so that a forgotten one shows.
    params = jax.tree.map(
        lambda leaf: leaf + 0.1 * random.standard_normal(leaf.shape).astype(np.float32), params
    )
    x = random.standard_normal((BATCH, FEATURES)).astype(np.float32)
    return params, jnp.asarray(x), jnp.asarray(random.integers(0, CLASSES, BATCH))


def oracle(params, x, labels, slope):
    """Losses, logits, z, dL/dz per sample, and the gradient of the mean loss, all in float64."""
    layers = [
        (np.float64(params[name]["kernel"]), np.float64(params[name]["bias"])) for name in sorted(params)
    ]
    inputs, z = [np.float64(x)], []
    for kernel, bias in layers:
        z.append(inputs[-1] @ kernel + bias)
        inputs.append(np.where(z[-1] > 0, z[-1], slope * z[-1]))
    logits = z[-1]
    log_sum = np.log(np.exp(logits).sum(1))
    losses = log_sum - logits[np.arange(len(labels)), labels]
    back = np.exp(logits - log_sum[:, None])
    back[np.arange(len(labels)), labels] -= 1
    gradients, per_sample = {}, []
    for number in reversed(range(len(layers))):
        gradients[sorted(params)[number]] = {"kernel": inputs[number].T @ back / len(x), "bias": back.mean(0)}
        if number:
            back = back @ layers[number][0].T * np.where(z[number - 1] > 0, 1, slope)
            per_sample.insert(0, back)
    return losses, logits, z[:-1], per_sample, gradients


def close(ours, theirs):
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.2])
def test_an_evaluation_is_the_oracles(problem, slope):
    params, x, labels = problem
    losses, logits, z, per_sample, _ = oracle(params, x, labels, slope)
    (our_losses, our_logits), census = jax.jit(
        lambda slope: value_and_census(mlp.losses_and_logits, gradients=True)(
            mlp.MLP(HIDDEN), params, x, labels, slope
        )
    )(jnp.float32(slope))
    close(our_losses, losses)
    close(our_logits, logits)
    for site, z_of, gradient in zip(census, z, per_sample, strict=True):
        output = np.abs(np.where(z_of > 0, z_of, slope * z_of)).mean(0)
        close(site.per_unit("act_freq"), (z_of > 0).mean(0))
        close(site.per_unit("dormant_score"), output / output.mean())
        close(site.per_unit("grad_score"), np.abs(gradient).mean(0) / np.abs(gradient).mean())
    _, seen = observe(mlp.losses_and_logits, lambda _, z: z)(mlp.MLP(HIDDEN), params, x, labels, slope)
    for ours, theirs in zip(seen.values(), z, strict=True):
        close(ours, theirs)
    ours = layers.measures_of(census)
    close(ours["never_active"], [(z_of <= 0).all(0).mean() for z_of in z])
    close(ours["rare"], [((z_of > 0).mean(0) < 0.01).mean() for z_of in z])
    close(ours["mean_slope"], [np.where(z_of > 0, 1, slope).mean() for z_of in z])
    close(ours["grad_dead"], [(gradient == 0).all(0).mean() for gradient in per_sample])
    close(ours["dead"], [np.nan if slope else (z_of <= 0).all(0).mean() for z_of in z])


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.2])
def test_loss_and_gradient_are_the_oracles(problem, slope):
    params, x, labels = problem
    losses, _, _, _, gradients = oracle(params, x, labels, slope)
    loss, ours = jax.value_and_grad(mlp.cross_entropy, argnums=1)(mlp.MLP(HIDDEN), params, x, labels, slope)
    close(loss, losses.mean())
    jax.tree.map(close, dict(ours), gradients)


def test_sgd_and_adam_are_the_formulas():
    values, gradients = np.float64([1.0, -2.0]), (np.float64([0.5, 0.0]), np.float64([-1.0, 2.0]))
    for name in ("sgd", "adam"):
        rule = dead_neurons.OPTIMIZERS[name](0.1)
        ours, state = jnp.asarray(values, jnp.float32), rule.init(jnp.asarray(values, jnp.float32))
        expected, first, second = values.copy(), np.zeros(2), np.zeros(2)
        for step, gradient in enumerate(gradients, 1):
            updates, state = rule.update(jnp.asarray(gradient, jnp.float32), state, ours)
            ours = optax.apply_updates(ours, updates)
            if name == "sgd":
                first = 0.9 * first + gradient
                expected = expected - 0.1 * first
            else:
                first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
                corrected = first / (1 - 0.9**step), second / (1 - 0.999**step)
                expected = expected - 0.1 * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        close(ours, expected)


def test_start_is_he_with_zero_biases_and_the_same_for_every_slope():
    params = jax.jit(lambda key: mlp.MLP((400, 300)).start(key, 500))(jax.random.key(1))
    for name, fan_in in (("Dense_0", 500), ("Dense_1", 400)):
        assert not params[name]["bias"].any()
        assert float(params[name]["kernel"].var()) == pytest.approx(2 / fan_in, rel=0.02)


def history(*never_active):
    """The records of a layer of 4 units at evaluations in which the listed ones are negative on both samples."""
    found = []
    for negative in never_active:
        signs = jnp.where(jnp.isin(jnp.arange(4), jnp.array(negative or [], jnp.int32)), -1.0, 1.0)
        z = jnp.full((2, 4), jnp.nan) if negative is None else jnp.tile(signs, (2, 1))
        found.append(value_and_census(leaky_relu)(z, 0.0)[1])
    masks = [jnp.stack(layer) for layer in zip(*map(layers.never_active_of, found), strict=True)]
    changes = layers.changes_of(masks)
    records = [
        layers.layers_to_json(
            layers.measures_of(census) | {name: np.asarray(values[place]) for name, values in changes.items()}
        )
        for place, census in enumerate(found)
    ]
    return {name: [record[name][0] for record in records] for name in records[0]}


def test_died_and_revived_on_a_made_up_history():
    found = history([0], [0, 1, 2], [2, 3], [])
    assert found["never_active"] == [0.25, 0.75, 0.5, 0.0]
    assert found["died"] == [0, 2, 1, 0]
    assert found["revived"] == [0, 0, 2, 2]
    assert found["overlap"] == [1.0, pytest.approx(1 / 3), 0.0, None]


def test_a_layer_with_a_nan_has_no_measures():
    found = history([0], None, [0])
    for name in ("never_active", "dead", "mean_slope", "died", "revived", "overlap"):
        assert found[name][1] is None
    assert found["never_active"][2] == 0.25
    assert found["died"][2] is None  # what was before is not known


@pytest.mark.parametrize(("steps", "expected"), [(1, [0, 1]), (4, [0, 1, 2, 4]), (6, [0, 1, 2, 4, 6])])
def test_records_are_at_0_powers_of_two_and_the_last(steps, expected):
    assert dead_neurons.recorded_steps(steps) == expected

"""The experiments' networks without their dead units: the same outputs with the widths that are left."""

import jax
import numpy as np
import optax
import pytest

from experiments.dead_neurons import experiment as dead_neurons
from experiments.image_classification.plain_cnn import PlainCNN
from experiments.lab.data import batches, datasets
from experiments.lab.nets.mlp import MLP, cross_entropy
from experiments.models import upconv7
from jax_leaky import census, wiring


def without_the_dead(fn, params, x, data=None):
    """The parameters that are left, the width of each layer, and how many units are dead.

    By the census on x; or, where the least and the greatest number of the data are given, on all data between them.
    """
    found = census(fn, [(params, x)])
    masks = {site.name: np.asarray(site.summary.per_unit["dead"]) == 1 for site in found}
    wires = wiring(fn, params, x[:1])
    if data is not None:
        by_bounds = {name: np.asarray(mask) for name, mask in wires.dead_by_bounds(params, *data).items()}
        assert all((masks[name] | ~mask).all() for name, mask in by_bounds.items())
        masks = by_bounds
    small, left = wires.remove(params, masks)
    assert left == {name: int((~mask).sum()) for name, mask in masks.items()}
    return small, tuple(left.values()), sum(int(mask.sum()) for mask in masks.values())


def same(small, whole):
    """Equal within the rounding of sums that are split otherwise."""
    np.testing.assert_allclose(small, whole, rtol=1e-4, atol=1e-5 * float(np.abs(whole).max()))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_dead_neurons_at_a_learning_rate_of_one_tenth(optimizer):
    config = dead_neurons.Config()
    images = batches.images_of(datasets.load("embedded"))
    model, rule = MLP(config.hidden), dead_neurons.OPTIMIZERS[optimizer](0.1)
    params = model.start(jax.random.key(0), 784)
    state = rule.init(params)

    @jax.jit
    def step(params, state, x, labels):
        gradient = jax.grad(cross_entropy, argnums=1)(model, params, x, labels, 0.0)
        updates, state = rule.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    for first in range(0, 32 * 16, 32):
        chosen = slice(first, first + 32)
        x, labels = images.standardize(images.train_images[chosen]), images.train_labels[chosen]
        params, state = step(params, state, x, labels)
    x = images.standardize(images.test_images)
    fn = lambda params, x: model.apply({"params": params}, x, 0.0)  # noqa: E731 a formula in one line
    small, widths, dead = without_the_dead(fn, params, x)
    assert dead >= 10
    assert small["Dense_1"]["kernel"].shape == widths[:2]
    after = MLP(widths).apply({"params": small}, x, 0.0)
    same(after, fn(params, x))
    # They are dead on photographs alone: none is on all images that pixels can make, and noise wakes some.
    black, white = (float(images.standardize(np.full_like(x, shade)).max()) for shade in (0, 255))
    assert without_the_dead(fn, params, x, (black, white))[2] == 0
    noise = np.random.default_rng(0).choice(np.float32([black, white]), size=x.shape)
    whole = fn(params, noise)
    missed = MLP(widths).apply({"params": small}, noise, 0.0) - whole
    assert np.abs(missed).max() > 0.01 * np.abs(whole).max()


def silenced(params, name, share, rng):
    """Parameters in which a share of a layer's biases is so low that no input is above them."""
    bias = np.array(params[name]["bias"])
    bias[rng.permutation(len(bias))[: int(share * len(bias))]] = -1e6
    return params | {name: {**params[name], "bias": bias}}


@pytest.mark.slow
def test_a_convolutional_network_with_batch_normalisation():
    def network(stages):
        return PlainCNN(True, stages=stages)

    rng = np.random.default_rng(0)
    model, x = network(((8, 8), (12, 12))), np.float32(rng.normal(size=(6, 12, 12, 1)))
    fn = lambda variables, x: model.apply(variables, x, 0.0, train=False)  # noqa: E731 a formula in one line
    shapes = jax.eval_shape(model.init, jax.random.key(0), x, 0.0)
    variables = jax.tree.map(lambda leaf: np.float32(rng.normal(size=leaf.shape)), shapes)
    variables["batch_stats"] = jax.tree.map(
        lambda leaf: np.abs(leaf) + np.float32(0.1), variables["batch_stats"]
    )
    for layer in range(4):
        variables["params"] = silenced(variables["params"], f"BatchNorm_{layer}", 0.4, rng)
    small, (a, b, c, d), dead = without_the_dead(fn, variables, x)
    assert dead >= 3 + 3 + 4 + 4
    same(network(((a, b), (c, d))).apply(small, x, 0.0, train=False), fn(variables, x))
    small, (a, b, c, d), dead = without_the_dead(fn, variables, x, (-5.0, 5.0))
    assert dead >= 3 + 3
    x = np.float32(rng.uniform(-5, 5, size=x.shape))
    same(network(((a, b), (c, d))).apply(small, x, 0.0, train=False), fn(variables, x))


@pytest.mark.slow
def test_upconv_7_with_relu(monkeypatch):
    """With its own slope of 0.1 no unit is dead, so ReLU takes the place of LeakyReLU."""
    model = upconv7.Upconv7(lambda z, negative_slope: jax.nn.relu(z))  # noqa: ARG005 what the module gives
    rng = np.random.default_rng(0)
    x = np.float32(rng.uniform(size=(1, 18, 18, 3)))
    fn = lambda params, x: model.apply({"params": params}, x)  # noqa: E731 a formula in one line
    params = dict(model.init(jax.random.key(0), x)["params"])
    for layer in range(6):
        params = silenced(params, f"Conv_{layer}", 0.3, rng)
    for data in (None, (0.0, 1.0)):
        x = np.float32(rng.uniform(size=x.shape))
        expected = fn(params, x)
        small, widths, dead = without_the_dead(fn, params, x, data)
        assert dead >= 0.25 * sum(upconv7.CHANNELS)
        with monkeypatch.context() as patch:
            patch.setattr(upconv7, "CHANNELS", widths)
            same(model.apply({"params": small}, x), expected)

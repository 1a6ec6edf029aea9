import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.image_classification import experiment
from experiments.image_classification import training as classifier
from experiments.image_classification.plain_cnn import PlainCNN
from experiments.image_classification.resnet import ResNet
from experiments.lab.data import batches
from experiments.lab.run.errors import LabError
from jax_leaky import value_and_census
from tests.experiments.test_cifar10 import write

SMOKE = experiment.PRESETS["smoke"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    experiment.run(experiment.Config(out=out, **SMOKE))
    names = {path.name for path in out.iterdir()}
    assert {"rows.jsonl", "summary.md", "report.html", "against_relu.png", "over_layers.png"} <= names
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_row_per_look_at_every_network(rows):
    activations = [("relu", "leaky_0.01", "leaky_0.2"), ("prelu",)]
    assert [(row["activation"], row["seed"], row["step"]) for row in rows] == [
        (activation, seed, step)
        for group in activations
        for seed in (0, 1)
        for activation in group
        for step in range(0, 41, 10)
    ]
    for row in rows:
        assert row["channels"] == [8, 8, 16, 16, 32, 32]
        assert not row["diverged"]
        # ReLU's never-active channels are dead; a leaky one's are not.
        assert row["dead"] == (row["never_active"] if row["activation"] == "relu" else row["dead"])
        assert (row["learned_slope"] is None) == (row["activation"] != "prelu")
    assert {
        tuple(row["learned_slope"]) for row in rows if row["activation"] == "prelu" and not row["step"]
    } == {(0.25,) * 6}


@pytest.mark.slow
def test_training_lowers_the_loss(rows):
    for row in rows:
        if row["step"] == 40:
            first = next(
                one
                for one in rows
                if (one["activation"], one["seed"], one["step"]) == (row["activation"], row["seed"], 0)
            )
            assert row["test_loss"] < first["test_loss"]


@pytest.fixture(scope="module")
def images():
    return batches.images_of(experiment.load(experiment.Config(data="digits")))


@pytest.mark.slow
def test_networks_of_one_seed_begin_alike_whatever_the_activation(images):
    config = experiment.Config(**SMOKE | {"networks": ("cnn", "resnet")})
    for network in config.networks:
        ours, theirs = (
            classifier.initialise(
                classifier.Run(np.float32(0.25), np.float32(0.05), np.uint32(3)),
                images,
                model=experiment.network_of(network, config, learned=learned),
                steps=config.steps,
                batch_size=config.batch_size,
            )
            for learned in (False, True)
        )
        found = dict(jax.tree_util.tree_leaves_with_path(theirs.params))
        for path, leaf in jax.tree_util.tree_leaves_with_path(ours.params):
            np.testing.assert_array_equal(leaf, found[path])
        np.testing.assert_array_equal(ours.order, theirs.order)


@pytest.mark.slow
def test_the_smoothed_loss_and_the_step_that_reached_the_target(images):
    config = experiment.Config(**SMOKE | {"steps": 12})
    model = experiment.network_of("cnn", config, learned=False)
    run = classifier.Run(np.float32(0.2), np.float32(0.05), np.uint32(0))
    state = classifier.initialise(run, images, model=model, steps=config.steps, batch_size=config.batch_size)
    losses, means = [], []
    for number in range(12):
        chosen = np.asarray(state.order[number])
        x = (images.train_images[chosen].astype(np.float32) - images.mean) * images.scale
        logits = np.float64(model.apply({"params": state.params}, x.reshape(-1, 8, 8, 1), 0.2))
        right = logits[np.arange(len(chosen)), images.train_labels[chosen]]
        losses.append((np.log(np.exp(logits).sum(1)) - right).mean())
        weights = 0.98 ** np.arange(len(losses))[::-1]
        means.append(np.average(losses, weights=weights))
        state = classifier.step(run, state, images, model=model, steps=12, target_loss=config.target_loss)
        assert float(state.loss) == pytest.approx(means[-1], rel=1e-3)
    state = classifier.initialise(run, images, model=model, steps=12, batch_size=config.batch_size)
    for _ in range(12):
        state = classifier.step(run, state, images, model=model, steps=12, target_loss=means[6])
    assert int(state.reached) == 1 + next(at for at, mean in enumerate(means) if mean <= means[6] + 1e-6)


@pytest.mark.slow
def test_the_census_counts_what_the_model_computes(images):
    config = experiment.Config(**SMOKE)
    model = experiment.network_of("cnn", config, learned=False)
    run = classifier.Run(np.float32(0.0), np.float32(0.05), np.uint32(0))
    state = classifier.initialise(run, images, model=model, steps=config.steps, batch_size=config.batch_size)
    # A bias of -100 silences a channel of the first layer.
    first = state.params["Conv_0"]
    bias = first["bias"].at[5].set(-100.0)
    state = state._replace(params=state.params | {"Conv_0": first | {"bias": bias}})
    seen = classifier.evaluate(run, state, images, model=model)
    site = next(iter(seen.census))
    assert site.n == len(images.test_labels) * 16
    assert 5 in site.where("never_active").tolist()
    x = classifier.pictures(images, images.test_images)
    expected = model.apply({"params": state.params}, x, 0.0).argmax(-1) == images.test_labels
    assert float(seen.accuracy) == pytest.approx(float(expected.mean()))


@pytest.mark.parametrize(
    ("model", "channels"),
    [
        (PlainCNN(True), [16, 16, 32, 32, 64, 64]),
        pytest.param(ResNet(), [16, 16, 16, 32, 32, 64, 64], marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_the_slope_reaches_every_activation(model, channels):
    x = jax.random.normal(jax.random.key(0), (4, 28, 28, 1))
    variables = model.init(jax.random.key(1), x, 0.0)
    found = value_and_census(lambda v, x: model.apply(v, x, 0.3, train=False))(variables, x)[1]
    assert [site.units for site in found] == channels
    assert {site.negative_slope for site in found} == {0.3}
    # At the slope 1 the activation is no more: without normalisation and bias the network is linear but for the norm's.
    linear = model.apply(variables, 2 * x, 1.0, train=False) - 2 * model.apply(variables, x, 1.0, train=False)
    np.testing.assert_allclose(linear, jnp.zeros((4, 10)), atol=1e-4)


def test_cifar10_is_read_from_its_folder(tmp_path):
    write(tmp_path, images=3)
    found = experiment.load(experiment.Config(data=str(tmp_path), full=True))
    assert classifier.pictures(batches.images_of(found), found.train_images).shape == (15, 32, 32, 3)
    with pytest.raises(LabError, match="add --full"):
        experiment.load(experiment.Config(data=str(tmp_path)))

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg

from experiments.gan_images import experiment as gan_images
from experiments.gan_images import training as image_gan
from experiments.gan_images.frechet import Moments, frechet_distance, moments
from experiments.gan_images.judge import entropy, train_judge
from experiments.gan_images.model import Discriminator, Generator
from experiments.gan_images.report import collapsed, runs_of


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "gan_images"
    settings = gan_images.PRESETS["smoke"] | {"seeds": 1, "steps": 4, "arms": ("relu", "leaky_0.2")}
    gan_images.run(gan_images.Config(out=out, **settings))
    written = {path.name for path in out.iterdir()}
    assert {
        "rows.jsonl",
        "summary.md",
        "report.html",
        "changes.png",
        "over_steps.png",
        "samples.png",
    } <= written
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_row_per_look_of_every_arm(rows):
    assert [(row["normalisation"], row["arm"], row["step"]) for row in rows] == [
        (normalisation, arm, step)
        for normalisation in ("batch", "none")
        for arm in ("relu", "leaky_0.2")
        for step in (0, 2, 4)
    ]
    for row in rows:
        assert 1 <= row["modes"] <= 10
        assert row["frechet"] > 0
        assert not row["diverged"]
        assert ("images" in row) == (row["step"] == 4)
        assert (row["generator_gradient"] is None) == (row["step"] == 0)
    assert [len(image) for image in rows[2]["images"]] == [2 * 64] * 36


def test_frechet_distance_against_scipy():
    random = np.random.default_rng(0)
    one, other = (moments(random.standard_normal((200, 6)) @ random.standard_normal((6, 6))) for _ in "ab")
    root = scipy.linalg.sqrtm(one.covariance @ other.covariance).real
    expected = ((one.mean - other.mean) ** 2).sum() + np.trace(one.covariance + other.covariance - 2 * root)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_of_known_normals():
    # In one dimension after another: (m1 - m2)^2 + (s1 - s2)^2; a constant feature has no variance.
    one = Moments(np.array([0.0, 1.0, 2.0]), np.diag([1.0, 4.0, 0.0]))
    other = Moments(np.array([3.0, 1.0, 2.0]), np.diag([4.0, 9.0, 0.0]))
    assert frechet_distance(one, other) == pytest.approx(9 + 1 + 1)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-12)
    assert np.isnan(frechet_distance(one, Moments(np.full(3, np.nan), np.eye(3))))


def test_entropy_of_histograms():
    assert entropy(np.full(10, 0.1)) == pytest.approx(np.log(10))
    assert entropy(np.eye(10)[3]) == 0


def test_images_of_a_smaller_side():
    pixels = np.zeros((2, 28, 28), np.uint8)
    pixels[0, :2, :2] = 100  # the upper left, which two pixels of margin stand beside
    pixels[1, 26:, 26] = 60
    small = gan_images.images_of(pixels.reshape(2, -1), 16).reshape(2, 16, 16)
    assert small[0, 1, 1] == 100
    assert small[0].sum() == 100
    assert small[1, 14, 14] == 30
    np.testing.assert_array_equal(gan_images.images_of(pixels.reshape(2, -1), 28), pixels.reshape(2, -1))


@pytest.mark.slow
def test_the_judge_learns_and_is_the_same_again():
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 640).astype(np.int32)
    # Classes that a position gives away.
    images = random.normal(0, 0.1, (640, 8, 8, 1)).astype(np.float32)
    images[np.arange(640), labels // 2, labels % 2 * 4] = 3
    judges = [
        train_judge(images[:512], labels[:512], images[512:], labels[512:], epochs=12) for _ in range(2)
    ]
    assert judges[0].accuracy > 0.9
    assert judges[0].sha256 == judges[1].sha256
    assert judges[0].real.mean.shape == (32,)


@pytest.mark.slow
def test_the_networks_shapes_and_slope():
    images = Generator(8, 4).init_with_output(jax.random.key(0), jnp.ones((3, 5)), train=True)[0]
    assert images.shape == (3, 8, 8, 1)
    x = jax.random.normal(jax.random.key(1), (3, 8, 8, 1))
    model = Discriminator(4, normalized=False)
    params = model.init(jax.random.key(2), x, 0.0, train=True)
    linear, relu = (model.apply(params, x, slope, train=True) for slope in (1.0, 0.0))
    twice = model.apply(params, 2 * x, 1.0, train=True)
    # With slope 1 and no biases yet, the discriminator is linear.
    np.testing.assert_allclose(twice, 2 * np.asarray(linear), rtol=1e-4)
    assert np.abs(np.asarray(relu) - np.asarray(linear)).max() > 1e-4


@pytest.mark.slow
def test_a_step_is_adam_on_each_players_own_loss():
    setup = image_gan.Setup(8, 4, False, 16, 40)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 64)).astype(np.uint8)
    material, run = image_gan.Material(pixels, None), image_gan.Run(np.float32(0.2), np.uint32(3))
    state = image_gan.initialise(run, material, setup=setup)
    after = image_gan.step(run, state, material, setup=setup)

    image_key, noise_key = jax.random.split(jax.random.fold_in(state.key, 0))
    chosen = np.asarray(jax.random.randint(image_key, (16,), 0, 50))
    real = pixels[chosen].reshape(-1, 8, 8, 1) / np.float32(127.5) - 1
    noise = jax.random.normal(noise_key, (16, 64))
    model_d, model_g = Discriminator(4, normalized=False), Generator(8, 4)

    def logits(params_d, params_g):
        variables = {"params": params_g, "batch_stats": state.generator.statistics}
        fake, _ = model_g.apply(variables, noise, train=True, mutable=["batch_stats"])
        return (model_d.apply({"params": params_d}, x, 0.2, train=True) for x in (real, fake))

    def loss_d(params):
        real_logits, fake_logits = logits(params, state.generator.params)
        return -jnp.log(jax.nn.sigmoid(real_logits)).mean() - jnp.log(1 - jax.nn.sigmoid(fake_logits)).mean()

    def loss_g(params):
        _, fake_logits = logits(state.discriminator.params, params)
        return -jnp.log(jax.nn.sigmoid(fake_logits)).mean()

    for player, moved, loss, place in (
        (state.discriminator, after.discriminator, loss_d, 0),
        (state.generator, after.generator, loss_g, 1),
    ):
        value, gradient = jax.value_and_grad(loss)(player.params)
        assert float(after.losses[place]) == pytest.approx(float(value), rel=1e-4)
        assert float(after.norms[place]) == pytest.approx(float(optax.tree.norm(gradient)), rel=1e-3)
        # Adam's first moment after one step: (1 - b1) times the gradient.
        mu = moved.optimizer[0].mu
        jax.tree.map(lambda m, g: np.testing.assert_allclose(m, 0.5 * g, rtol=1e-2, atol=1e-5), mu, gradient)


def test_a_run_with_half_of_the_classes_has_collapsed():
    keys = {"normalisation": "none", "arm": "relu", "seed": 0, "diverged": False}
    records = [{"modes": modes, "step": step, **keys} for step, modes in enumerate((5, 6))]
    assert not collapsed(runs_of(records).records).item()
    assert collapsed(runs_of(records[:1]).records).item()

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.gan_modes import experiment as gan_modes
from experiments.gan_modes import mixtures
from experiments.gan_modes.model import Discriminator, Generator
from experiments.gan_modes.report import MEASURES, collapsed, runs_of
from experiments.lab.nets.adversarial import discriminator_loss, generator_loss, turn


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "gan_modes"
    settings = gan_modes.PRESETS["smoke"] | {"seeds": 1, "steps": 20, "mixtures": ("ring",)}
    gan_modes.run(gan_modes.Config(out=out, **settings))
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
    assert [(row["optimizer"], row["arm"], row["step"]) for row in rows] == [
        (name, arm, step) for name in gan_modes.OPTIMIZERS for arm in gan_modes.ARMS for step in (0, 10, 20)
    ]
    for row in rows:
        assert 0 <= row["modes"] <= 8
        assert 0 <= row["high_quality"] <= 1
        assert 0 <= row["reverse_kl"] <= math.log(8) + 1e-5
        assert (row["discriminator_slope"], row["generator_slope"]) == gan_modes.ARMS[row["arm"]]
        assert ("samples" in row) == (row["step"] == 20)
        assert not row["diverged"]


@pytest.mark.slow
def test_pairs_of_a_seed_begin_with_the_same_weights(rows):
    # With the same weights, only the players' slopes differ: the generator's samples before training are the same
    # wherever its own slope is, and the discriminator's loss on them differs with the discriminator's.
    at_start = {row["arm"]: row for row in rows if row["step"] == 0 and row["optimizer"] == "fast"}
    assert at_start["relu"]["reverse_kl"] == at_start["discriminator_0.2"]["reverse_kl"]
    assert at_start["relu"]["discriminator_loss"] != at_start["discriminator_0.2"]["discriminator_loss"]


def test_the_ring_is_closed_and_the_grid_square():
    ring, grid = np.float64(mixtures.ring().centers), np.float64(mixtures.grid().centers)
    assert ring.shape == (8, 2)
    assert grid.shape == (25, 2)
    np.testing.assert_allclose(np.linalg.norm(ring, axis=1), 1, rtol=1e-6)
    # Neighbours are all equally far apart, the last from the first too.
    np.testing.assert_allclose(
        np.linalg.norm(ring - np.roll(ring, 1, 0), axis=1), 2 * np.sin(np.pi / 8), rtol=1e-5
    )
    assert {tuple(center) for center in grid} == {(x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)}


def test_the_mixture_covers_itself():
    mixture = mixtures.grid()
    covered = mixtures.coverage(mixture, mixtures.draw(mixture, jax.random.key(0), 40_000))
    assert covered.modes == 25
    # Rayleigh's distribution: within three standard deviations in the plane.
    assert covered.high_quality == pytest.approx(1 - math.exp(-4.5), abs=0.002)
    assert covered.reverse_kl == pytest.approx(0, abs=0.002)


def test_coverage_by_hand():
    mixture = mixtures.ring()
    near, far = np.array([1.0, 0.029]), np.array([1.0, 0.031])
    covered = mixtures.coverage(mixture, jnp.array([near, near, far, [0.0, 1.0]], jnp.float32))
    assert covered.modes == 2
    assert covered.high_quality == pytest.approx(0.75)
    expected = 0.75 * math.log(0.75 * 8) + 0.25 * math.log(0.25 * 8)
    assert covered.reverse_kl == pytest.approx(expected, rel=1e-5)


def test_a_sample_that_is_not_finite_leaves_no_measure():
    covered = mixtures.coverage(mixtures.ring(), jnp.array([[1.0, 0.0], [jnp.nan, 0.0]]))
    assert all(np.isnan(value) for value in covered)


def test_losses_against_cross_entropy():
    real, fake = np.array([0.3, -1.2]), np.array([2.0, -0.5])

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    expected = -np.log(sigmoid(real)).mean() - np.log(1 - sigmoid(fake)).mean()
    assert discriminator_loss(jnp.array(real), jnp.array(fake)) == pytest.approx(expected, rel=1e-5)
    assert generator_loss(jnp.array(fake)) == pytest.approx(-np.log(sigmoid(fake)).mean(), rel=1e-5)


def test_a_turn_against_gradients_by_hand():
    # D(x) = d x, G = g u: every derivative is known.
    real, noise, d, g = np.array([1.0, 2.0]), np.array([0.5, -1.0]), 0.7, 1.3
    fake = g * noise

    def judge(params, x):
        return (params * jnp.array(real), params * x), None

    seen = turn(
        judge, lambda params: (params * jnp.array(noise), "statistics"), jnp.float32(d), jnp.float32(g)
    )

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    by_d = (-sigmoid(-d * real) * real).mean() + (sigmoid(d * fake) * fake).mean()
    by_g = (-sigmoid(-d * fake) * d * noise).mean()
    assert seen.discriminator_gradient == pytest.approx(by_d, rel=1e-5)
    assert seen.generator_gradient == pytest.approx(by_g, rel=1e-5)
    assert seen.generator_statistics == "statistics"


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_the_networks_against_numpy(slope):
    x = np.random.default_rng(0).standard_normal((50, 2)).astype(np.float32)
    discriminator, generator = Discriminator((5, 4)), Generator((6,))
    params = discriminator.init(jax.random.key(0), x, 0.0)["params"]
    h = np.float64(x)
    for layer in range(3):
        dense = params[f"Dense_{layer}"]
        h = h @ np.float64(dense["kernel"]) + np.float64(dense["bias"])
        h = h if layer == 2 else np.where(h > 0, h, slope * h)
    np.testing.assert_allclose(
        discriminator.apply({"params": params}, x, slope), h[:, 0], rtol=1e-4, atol=1e-6
    )

    begun = generator.init(jax.random.key(1), x, 0.0, train=False)
    z = np.float64(x) @ np.float64(begun["params"]["Dense_0"]["kernel"])
    z = (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5)
    expected = np.where(z > 0, z, slope * z) @ np.float64(begun["params"]["Dense_1"]["kernel"])
    made, _ = generator.apply(begun, x, slope, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)


def test_measures_of_a_run():
    keys = {"mixture": "ring", "optimizer": "fast", "arm": "relu", "seed": 0, "diverged": False}
    records = [{"modes": modes, "step": step, **keys} for step, modes in enumerate((0, 8, 5, 7, 2))]
    runs = runs_of(records)
    found = {
        name: runs.by_seed(runs.cells[0], MEASURES[name]).item() for name in ("modes", "late_modes", "swing")
    }
    # 7 and 2 are the evaluations of the second half, and 5 to 7 to 2 what changes in it.
    assert found == {"modes": 2, "late_modes": 4.5, "swing": 3.5}
    assert collapsed(runs.records).item()
    assert not collapsed(runs_of(records[:-1]).records).item()

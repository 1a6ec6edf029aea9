import json

import jax
import numpy as np
import pytest

from experiments.signal_gain import experiment as signal_gain
from experiments.signal_gain.report import expected
from jax_leaky import leaky_he_normal


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "signal_gain"
    config = signal_gain.Config(out=out, seeds=8, width=128, layers=8, every=4, negative_slopes=(0.0, 0.5))
    signal_gain.run(config)
    return out, config, [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


def test_leaves_rows_plot_and_page(run):
    out, _, rows = run
    assert {"rows.jsonl", "summary.md", "report.html", "over_layers.png"} <= {
        path.name for path in out.iterdir()
    }
    assert [(row["negative_slope"], row["gain"]) for row in rows[:3]] == [
        (0, "own"),
        (0.5, "own"),
        (0.5, "relu"),
    ]
    assert len(rows) == 8 * 3
    assert all(
        row["layers"] == [0, 4, 8] and row["second_moment"][0] == row["gradient_norm"][-1] == 1
        for row in rows
    )


def test_one_network_against_numpy(run):
    _, config, rows = run
    input_key, top_key, weights_key = jax.random.split(jax.random.key(0), 3)
    h = np.float64(jax.random.normal(input_key, (16, 128)))
    start, top = (h**2).mean(), np.float64(jax.random.normal(top_key, (16, 128)))
    passed, weights = [], []
    for key in jax.random.split(weights_key, config.layers):
        weights.append(np.float64(leaky_he_normal(0.0)(key, (128, 128))))
        z = h @ weights[-1]
        passed.append(np.where(z > 0, 1, 0.5))
        h = z * passed[-1]
    gradient = top
    for slope, kernel in zip(passed[::-1], weights[::-1], strict=True):
        gradient = (gradient * slope) @ kernel.T
    row = rows[2]
    assert (row["negative_slope"], row["gain"], row["seed"]) == (0.5, "relu", 0)
    assert row["second_moment"][-1] == pytest.approx((h**2).mean() / start, rel=1e-3)
    assert row["gradient_norm"][0] == pytest.approx(np.linalg.norm(gradient) / np.linalg.norm(top), rel=1e-3)


def test_the_right_gain_is_that_of_leaky_he_normal():
    key = jax.random.key(3)
    ours = np.float64(jax.nn.initializers.he_normal()(key, (64, 64))) / np.sqrt(1.25)
    np.testing.assert_allclose(leaky_he_normal(0.5)(key, (64, 64)), ours, rtol=1e-6)


def test_the_wrong_gain_multiplies_by_the_expected_factor_in_every_network(run):
    # The weights are the same but for their size, and the network is positively homogeneous.
    rows = run[2]
    for own, relu in zip(rows[1::3], rows[2::3], strict=True):
        assert relu["second_moment"][-1] / own["second_moment"][-1] == pytest.approx(1.25**8, rel=1e-3)
        assert relu["gradient_norm"][0] / own["gradient_norm"][0] == pytest.approx(1.25**4, rel=1e-3)


def test_expectations_are_the_published_ones():
    assert expected(0.2, "own", 50) == 1
    assert expected(0.2, "relu", 50) == pytest.approx(7.1, abs=0.01)

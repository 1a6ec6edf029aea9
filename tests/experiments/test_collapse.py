import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.collapse import experiment as collapse
from experiments.collapse.narrow_networks import ASYMMETRIC_DEVIATION, draw, draw_layer, outputs


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "collapse"
    settings = collapse.PRESETS["smoke"] | {"seeds": 75, "steps": 20}
    collapse.run(collapse.Config(out=out, **settings))
    assert {"rows.jsonl", "summary.md", "report.html", "shares.png"} <= {path.name for path in out.iterdir()}
    assert "Collapsed after so many steps" in (out / "summary.md").read_text()
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_row_per_network_and_no_more(rows):
    assert sorted((row["negative_slope"], row["seed"]) for row in rows) == [
        (slope, seed) for slope in (0.0, 0.01, 0.2) for seed in range(75)
    ]
    assert {row["end"] for row in rows} <= {"collapsed", "half-trained", "trained"}


@pytest.mark.slow
def test_each_look_tells_whether_a_network_has_collapsed_and_the_last_is_the_end(rows):
    assert collapse.Config(steps=20).evaluations == [2, 6, 20]
    assert collapse.Config(steps=10_000).evaluations == [1000, 3000, 10_000]
    assert collapse.Config(steps=1).evaluations == [1]
    for row in rows:
        assert len(row["collapsed"]) == 3
        assert row["collapsed"][-1] == (row["end"] == "collapsed")


@pytest.mark.slow
def test_a_look_on_the_way_does_not_change_the_training(rows):
    """The networks after 2 of 20 steps are those of a run of 2 steps."""
    config = collapse.Config(steps=2, block=50)
    row = collapse.Block(np.float32(0.2), np.uint32(0))
    short = collapse.train(
        row, collapse.samples_of(config), config=config, function="abs", initialisation="he"
    )
    ours = {row["seed"]: row["collapsed"][0] for row in rows if row["negative_slope"] == 0.2}
    assert [ours[seed] for seed in range(50)] == [share < 0.05 for share in short.explained[-1]]


@pytest.mark.slow
def test_born_constant_networks_stay_so_and_only_relu_has_them(rows):
    born = [row for row in rows if row["born_constant"]]
    assert {row["negative_slope"] for row in born} == {0.0}
    # 0.880 of them by Lu et al.; four standard deviations of 75 networks are 0.15.
    assert len(born) / 75 == pytest.approx(0.88, abs=0.15)
    assert all(row["constant"] and row["end"] == "collapsed" for row in born)


@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize(
    "width", [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(6, marks=pytest.mark.slow)]
)  # products of up to 16 are written out
def test_many_networks_against_one_in_numpy(slope, width):
    layers = draw("asymmetric", jax.random.split(jax.random.key(0), 5), width, 4)
    x = np.linspace(-1, 1, 7)
    h = x[None]
    for place, (weights, biases) in enumerate(layers):
        h = np.float64(weights[..., 2]) @ h + np.float64(biases[:, 2:3])
        h = h if place == 3 else np.where(h > 0, h, slope * h)
    ours = outputs(layers, jnp.array(x, jnp.float32), slope)
    assert ours.shape == (7, 5)
    np.testing.assert_allclose(ours[:, 2], h[0], rtol=1e-5, atol=1e-6)


def test_a_network_depends_on_its_own_key_alone():
    keys = jax.random.split(jax.random.key(0), 5)
    some, one = draw("he", keys, 2, 3), draw("he", keys[3:4], 2, 3)
    jax.tree.map(lambda many, alone: np.testing.assert_array_equal(many[..., 3], alone[..., 0]), some, one)


def test_the_asymmetric_draw_has_one_beta_number_a_unit():
    weights, biases = draw_layer("asymmetric", jax.random.key(0), 4, 40_000)
    parameters = np.concatenate([weights, np.asarray(biases)[:, None]], axis=1)
    # Each of 5 places holds a Beta(2, 1) number, of mean 2/3 and mean square 1/2, in a fifth of the units.
    np.testing.assert_allclose(parameters.mean(0), 2 / 3 / 5, atol=0.01)
    square = 0.8 * ASYMMETRIC_DEVIATION**2 / 4 + 0.2 / 2
    np.testing.assert_allclose((parameters**2).mean(0), square, rtol=0.03)


def test_explained_share_and_its_names():
    y = jnp.array([0.0, 1.0, 2.0, 3.0])
    output = jnp.stack([y, jnp.full(4, 1.5), jnp.full(4, jnp.nan)], axis=1)
    explained = collapse.explained_share(output, y)
    np.testing.assert_allclose(explained[:2], [1, 0], atol=1e-6)
    assert [collapse.end_of(float(share)) for share in explained] == ["trained", "collapsed", "diverged"]
    assert collapse.end_of(0.5) == "half-trained"


def test_the_functions_are_the_published_ones():
    samples = collapse.samples_of(collapse.Config(points=5))
    assert samples["x"][0] == pytest.approx(-np.sqrt(3))
    np.testing.assert_array_equal(samples["abs"], np.abs(samples["x"]))
    assert samples["step"][2] == 0
    assert samples["sine"][4] == pytest.approx(np.sqrt(3) * np.sin(5 * np.sqrt(3)), rel=1e-6)

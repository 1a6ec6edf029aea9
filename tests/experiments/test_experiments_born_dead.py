import dataclasses
import functools
import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import born_dead
from experiments.lab import random_networks
from experiments.lab.born_dead_theory import DEPTH_TEN, lower_bound, point_death
from experiments.lab.errors import LabError

KEYS = {
    "width",
    "depth",
    "input_dim",
    "negative_slope",
    "networks",
    "born_dead",
    "point_dead",
    "lower",
    "upper",
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "born_dead"
    config = born_dead.Config(
        out=out, **{**born_dead.PRESETS["smoke"], "widths": (2,), "input_dims": (1, 3), "networks": 25_000}
    )
    born_dead.run(config)
    assert {
        "rows.jsonl",
        "summary.md",
        "report.html",
        "config.json",
        "environment.json",
        "over_depth.png",
    } <= {path.name for path in out.iterdir()}
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


def test_a_row_per_cell_with_the_keys_that_were_promised(rows):
    cells = {(row["width"], row["depth"], row["input_dim"], row["negative_slope"]) for row in rows}
    assert cells == set(itertools.product((2,), (3, 10), (1, 3), (0.0, 0.01)))
    assert len(rows) == len(cells)
    assert all(set(row) >= KEYS and row["networks"] == 25_000 for row in rows)


def test_shares_meet_the_exact_and_the_published_probabilities(rows):
    for row in rows:
        if row["negative_slope"]:
            continue
        width, depth = row["width"], row["depth"]
        five_sigma = 5 * math.sqrt(0.25 / row["networks"])
        exact_point = 1 - (1 - 2.0**-width) ** (depth - 1)
        assert row["point_dead"] == pytest.approx(exact_point, abs=five_sigma)
        assert row["lower"] - five_sigma < row["born_dead"] < row["upper"] + five_sigma
        if row["input_dim"] == 1:
            exact = 4.0**-width * (3 - 2.0 ** (1 - width)) if depth == 3 else DEPTH_TEN[width]
            assert row["born_dead"] == pytest.approx(exact, abs=five_sigma)


def test_a_leaky_network_is_never_dead(rows):
    for row in rows:
        if row["negative_slope"]:
            assert row["born_dead"] == row["point_dead"] == row["lower"] == row["upper"] == 0


def test_bounds_against_paper_arithmetic():
    assert lower_bound(2, 3, 1) == 5 / 32
    assert lower_bound(3, 3, 1) == pytest.approx(11 / 256)
    assert [lower_bound(1, depth, 1) for depth in (2, 3, 4)] == [0, 0.5, 0.75]  # each later layer halves
    assert lower_bound(2, 3, 5) == 1 / 16  # all four weights negative
    assert point_death([2, 2]) == 7 / 16
    assert point_death([1, 3]) == pytest.approx(9 / 16)
    for width, published in DEPTH_TEN.items():
        assert lower_bound(width, 10, 1) < published < point_death([width] * 9)


def test_a_layer_against_numpy_and_death_by_signs():
    rng = np.random.default_rng(0)
    h = np.broadcast_to(rng.standard_normal((2, 3, 64)), (2, 2, 3, 64)).astype(np.float32).copy()
    weights = rng.standard_normal((2, 3, 64)).astype(np.float32)
    weights[:, :, 0] = -np.abs(weights[:, :, 0])
    h[:, 0, :, 0] = np.abs(h[:, 0, :, 0])  # network 0 is killed for probe 0
    h[:, :, :, 1] = 0  # nothing reaches network 1: its signs are unknown
    before = random_networks.Signal(jnp.array(h), jnp.zeros((2, 2, 64), bool))
    signal = random_networks.through_layer(before, jnp.array(weights), jnp.array([0.0, 0.25]))
    z = np.einsum("oib,spib->spob", weights.astype(np.float64), h)
    np.testing.assert_allclose(signal.h[0], np.maximum(z[0], 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(signal.h[1], np.where(z[1] > 0, z[1], 0.25 * z[1]), rtol=1e-5, atol=1e-6)
    killed = (z[0] <= 0).all(1)
    killed[:, 1] = False
    np.testing.assert_array_equal(signal.dead[0], killed)
    assert signal.dead[0, 0, 0]
    assert not signal.dead[1].any()


def test_a_signal_lost_by_underflow_is_collapsed_and_not_dead():
    row = random_networks.Row(np.uint32(0), np.int32(0), np.int32(512))
    probes = {"1": random_networks.probes_of(1, 2)}
    draw = functools.partial(random_networks.draw, width=1, input_dim=1, hidden=59, negative_slopes=(0.001,))
    counts = jax.jit(draw)(row, probes)
    assert counts.born_dead[-1, 0] == counts.point_dead[-1, 0] == 0
    assert counts.collapsed[-1, 0] == 512  # some 30 layers multiply by 0.001
    assert counts.collapsed[2, 0] == 0


def test_probes_are_opposite_pairs_of_length_one():
    probes = random_networks.probes_of(3, 9)
    np.testing.assert_array_equal(probes[:5], -probes[5:])
    np.testing.assert_allclose(np.linalg.norm(probes, axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"widths": (0,)}, "--widths is"),
        ({"depths": (1,)}, "--depths is"),
        ({"input_dims": ()}, "--input-dims is empty"),
        ({"networks": 0}, "--networks is 0"),
        ({"negative_slopes": (0.0, 0.0)}, "names a value twice"),
    ],
)
def test_a_wrong_setting_is_one_sentence(tmp_path, change, sentence):
    with pytest.raises(LabError, match=sentence):
        born_dead.run(dataclasses.replace(born_dead.Config(out=tmp_path / "run"), **change))
    assert not (tmp_path / "run").exists()

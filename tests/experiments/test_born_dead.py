import functools
import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.born_dead import experiment as born_dead
from experiments.born_dead import random_networks
from experiments.born_dead.report import main_table, verdicts
from experiments.born_dead.theory import DEPTH_TEN, exact_at_three, lower_bound, point_death
from jax_leaky import units

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
    "collapsed",
    "exact",
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "born_dead"
    config = born_dead.Config(
        out=out, **{**born_dead.PRESETS["smoke"], "widths": (2,), "input_dims": (1, 2, 3), "networks": 25_000}
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


@pytest.mark.slow
def test_a_row_per_cell_with_the_keys_that_were_promised(rows):
    cells = {(row["width"], row["depth"], row["input_dim"], row["negative_slope"]) for row in rows}
    assert cells == set(itertools.product((2,), (3, 10), (1, 2, 3), (0.0, 0.01)))
    assert len(rows) == len(cells)
    assert all(set(row) >= KEYS and row["networks"] == 25_000 for row in rows)


@pytest.mark.slow
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
        elif depth == 3:
            exact = 2.0 ** -(width**2)
            assert row["born_dead"] == pytest.approx(exact, abs=5 * math.sqrt(exact / row["networks"]))
        assert row["exact"] == (row["input_dim"] < 3 or depth == 3)


@pytest.mark.slow
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


def test_the_exact_probabilities_of_depth_three():
    assert exact_at_three(2, 1) == 5 / 32
    assert exact_at_three(2, 2) == exact_at_three(2, 7) == 1 / 16
    assert exact_at_three(3, 2) is None  # the plane does not reach every output of three units
    assert exact_at_three(3, 3) == 1 / 512


@pytest.mark.parametrize(
    ("width", "input_dim"),
    [(2, 3), pytest.param(2, 5, marks=pytest.mark.slow), pytest.param(3, 3, marks=pytest.mark.slow)],
)
def test_depth_three_is_exact_where_inputs_are_no_fewer_than_units(width, input_dim):
    # With one pair of sampled inputs, so that the vectors of a single entry decide.
    share = drawn(width=width, input_dim=input_dim, hidden=2, probes=2).born_dead[1, 0] / 25_000
    exact = 2.0 ** -(width**2)
    assert share == pytest.approx(exact, abs=5 * math.sqrt(exact / 25_000))


def test_a_layer_against_numpy_and_death_by_signs():
    rng = np.random.default_rng(0)
    h = rng.standard_normal((2, 3, 64)).astype(np.float32)
    weights = rng.standard_normal((2, 3, 64)).astype(np.float32)
    weights[:, :, 0] = -np.abs(weights[:, :, 0])
    h[0, :, 0] = np.abs(h[0, :, 0])  # network 0 is killed for input 0
    h[:, :, 1] = 0  # nothing reaches network 1: its signs are unknown
    before = random_networks.Signal(jnp.array(h), jnp.zeros((2, 64), bool), None)
    z = np.einsum("oib,pib->pob", weights.astype(np.float64), h)
    for slope in (0.0, 0.25):
        signal, born_dead, _ = random_networks.through_layer(before, jnp.array(weights), slope)
        np.testing.assert_allclose(signal.h, np.where(z > 0, z, slope * z), rtol=1e-5, atol=1e-6)
        killed = (z <= 0).all(1) & (slope == 0)
        killed[:, 1] = False
        np.testing.assert_array_equal(signal.dead, killed)
        np.testing.assert_array_equal(born_dead, killed.all(0))
        assert signal.dead[0, 0] == (slope == 0)


def test_a_signal_lost_by_underflow_is_collapsed_and_not_dead():
    counts = drawn(width=1, input_dim=1, hidden=59, slopes=(0.001,), networks=512)
    assert counts.born_dead[-1, 0] == counts.point_dead[-1, 0] == 0
    assert counts.collapsed[-1, 0] == 512  # some 30 layers multiply by 0.001
    assert counts.collapsed[2, 0] == 0


def test_collapsed_is_constant_relative_to_the_output_with_the_input_zero_among_the_inputs():
    """The judge is the package's own relative test; in float64 none of the networks is constant."""
    inputs = np.array([[1.0], [-1.0], [0.0]])
    outputs = {}
    for kind in (np.float32, np.float64):
        rng = np.random.default_rng(0)
        h = np.broadcast_to(inputs[:, :, None], (3, 1, 200)).astype(kind)
        for _ in range(26):
            weights = rng.standard_normal((1, 1, 200)) * math.sqrt(2)
            z = h * weights.astype(kind)[None, 0]
            h = np.where(z > 0, z, kind(0.001) * z)
        outputs[kind] = h[:, 0] + kind(0)
    lost = (outputs[np.float32] == 0).all(0)
    assert 0 < lost.sum() < 200
    judged = [float(units.constant_output(outputs[np.float32][:, place])) for place in range(200)]
    np.testing.assert_array_equal(lost, judged)
    assert all(np.ptp(outputs[np.float64], axis=0) > 0.5 * np.abs(outputs[np.float64]).max(0))


@pytest.mark.slow
def test_an_upper_estimate_is_printed_as_one_and_without_an_interval(rows):
    lines = [line for line in main_table(rows).rows if line[3] == "ReLU"]
    assert {(line[0], line[2]) for line in lines if line[4].startswith("≤")} == {("3", "10")}
    assert all("(" not in line[4] for line in lines if line[4].startswith("≤"))
    findings = {line[0]: line for line in verdicts(rows).rows}
    for dimension in (2, 3):
        _, expected, _, _, verdict = findings[f"constant, dimension {dimension}, width 2, depth 3 (exact)"]
        assert expected == "0.06250"
        assert verdict != "not reproduced"
    wrong = [{**row, "born_dead": 0.0710} for row in rows]  # what 16 random inputs gave
    findings = {line[0]: line[-1] for line in verdicts(wrong).rows}
    assert findings["constant, dimension 2, width 2, depth 3 (exact)"] == "not reproduced"


def test_probes_are_opposite_pairs_of_length_one():
    for dimension in (1, 2, 3):
        probes = random_networks.probes_of(dimension, 9)
        half = len(probes) // 2
        np.testing.assert_allclose(probes[:half], -probes[half:], rtol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(probes, axis=1), 1, rtol=1e-6)
    angles = np.sort(np.arctan2(*random_networks.probes_of(2, 8).T))
    np.testing.assert_allclose(np.diff(angles), np.pi / 4, rtol=1e-5)


def drawn(*, width, input_dim, hidden, slopes=(0.0,), networks=25_000, probes=64):
    row = random_networks.Part(np.uint32(0), np.int32(0), np.int32(networks))
    inputs = {str(input_dim): random_networks.probes_of(input_dim, probes)}
    draw = functools.partial(
        random_networks.draw, width=width, input_dim=input_dim, hidden=hidden, negative_slopes=slopes
    )
    return jax.jit(draw)(row, inputs)

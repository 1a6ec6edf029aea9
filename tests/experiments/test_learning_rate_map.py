import json

import numpy as np
import pytest

from experiments.learning_rate_map import experiment as learning_rate_map
from experiments.learning_rate_map.plots import maps
from experiments.learning_rate_map.report import (
    MEASURES,
    counts_table,
    differences_table,
    divergence,
    means_table,
    reached,
    runs_of,
    verdicts,
)

KEYS = {
    "optimizer",
    "learning_rate",
    "negative_slope",
    "seed",
    "never_active",
    "change",
    "accuracy",
    "diverged",
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "map"
    settings = learning_rate_map.PRESETS["smoke"] | {"optimizers": ("sgd",), "learning_rates": (0.05, 1e9)}
    learning_rate_map.run(learning_rate_map.Config(out=out, **settings))
    assert {"rows.jsonl", "summary.md", "report.html", "maps.png"} <= {path.name for path in out.iterdir()}
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_row_per_network_with_its_keys(rows):
    assert len(rows) == 2 * 2 * 2
    assert all(set(row) >= KEYS | {"steps_to_target"} for row in rows)
    for row in rows:
        if row["learning_rate"] == 0.05:
            assert not row["diverged"]
            assert row["accuracy"] > 0.5
            assert row["steps_to_target"] is None or row["steps_to_target"] % 8 == 0


@pytest.mark.slow
def test_a_diverged_network_has_no_measures(rows):
    diverged = [row for row in rows if row["diverged"]]
    assert all(row["learning_rate"] == 1e9 for row in diverged)
    assert diverged
    for row in diverged:
        assert row["accuracy"] is row["never_active"] is row["steps_to_target"] is None


def network(slope, rate, seed, **measures):
    """A record of 100 steps; the measures that are not given are those of a network without a fault."""
    healthy = {
        "never_active": 0.1,
        "change": 0.1,
        "accuracy": 0.8,
        "steps_to_target": 40,
        "diverged": False,
    }
    keys = {"optimizer": "sgd", "learning_rate": rate, "negative_slope": slope, "seed": seed}
    return keys | healthy | measures


def diverged(slope, rate, seed):
    return network(
        slope,
        rate,
        seed,
        **dict.fromkeys(("never_active", "change", "accuracy", "steps_to_target")),
        diverged=True,
    )


def test_the_comparison_with_relu_uses_the_same_rate():
    records = [
        network(slope, rate, seed, accuracy=slope + rate * seed)
        for slope in (0, 0.5)
        for rate in (1, 2)
        for seed in (0, 1, 2)
    ]
    difference = runs_of(records, 100).difference(("sgd", 2, 0.5), MEASURES["accuracy"])
    assert difference.mean == 0.5
    assert difference.half_width == 0


def test_a_network_that_does_not_reach_the_target_counts_with_all_steps():
    relu = [network(0, 0.1, seed) for seed in range(3)]
    late = network(0.2, 0.1, 1, steps_to_target=None)
    runs = runs_of([*relu, network(0.2, 0.1, 0), late, diverged(0.2, 0.1, 2)], 100)
    cell = "sgd", 0.1, 0.2
    assert runs.difference(cell, MEASURES["steps"]).mean == pytest.approx((0 + 60 + 60) / 3)
    assert runs.count(reached, cell) == (1, 3)
    assert runs.difference(cell, MEASURES["accuracy"]).values == 2


def test_divergence_is_compared_by_fishers_test_with_a_correction():
    records = [network(0, rate, seed) for rate in (0.01, 0.1) for seed in range(10)]
    records += [network(0.2, 0.01, seed) for seed in range(10)] + [diverged(0.2, 0.1, s) for s in range(10)]
    runs = runs_of(records, 100)
    # All ten of one group: 1 of the 184,756 ways to choose 10 of 20 on each side, times two comparisons.
    assert divergence(runs, ("sgd", 0.1, 0.2)) == pytest.approx(2 * 2 / 184_756)
    assert divergence(runs, ("sgd", 0.01, 0.2)) == 1
    ((_, *shown, worse, count),) = counts_table(runs).rows
    assert (worse, count) == ("0 better, 1 worse", "10/20")
    assert shown == ["0 better, 0 worse"] * 3 + ["0 better, 1 worse"]
    texts = [panel_text.get_text() for panel_text in maps(runs, list(MEASURES.values()), 100).axes[0].texts]
    assert "10/10 diverged" in texts


def test_the_tables_say_what_the_corrections_and_the_intervals_leave_open():
    rng = np.random.default_rng(0)
    records = [
        network(slope, 0.1, seed, accuracy=0.8 + rng.normal(0, 0.01))
        for slope in (0, 0.2)
        for seed in range(5)
    ]
    runs = runs_of(records, 100)
    assert runs.seeds == "5 seeds"
    half = runs.difference(("sgd", 0.1, 0.2), MEASURES["accuracy"]).half_width * 100
    assert f"{half:.1f} points in test accuracy" in " ".join(counts_table(runs).notes)
    assert len(differences_table(runs).rows) == 1
    assert len(means_table(runs).rows) == 2


def test_a_cut_run_is_reported_without_its_missing_pairs():
    alone = runs_of([network(0.2, 0.1, 0), network(0.2, 0.1, 1), network(0, 0.3, 0)], 100)
    assert alone.seeds == "1 to 2 seeds"
    assert alone.difference(("sgd", 0.1, 0.2), MEASURES["accuracy"]).values == 0
    for table in (verdicts, counts_table, differences_table, means_table):
        assert table(alone).to_markdown()
    maps(alone, list(MEASURES.values()), 100).draw_without_rendering()

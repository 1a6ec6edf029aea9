import dataclasses
import json
import math

import numpy as np
import pytest
from scipy import stats

from experiments import learning_rate_map
from experiments.lab.errors import LabError
from experiments.lab.paired import differences, is_shown, simultaneous
from experiments.reports.learning_rate_map import cells_of

KEYS = {
    "optimizer",
    "learning_rate",
    "negative_slope",
    "seed",
    "always_negative",
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


def test_a_row_per_network_with_its_keys(rows):
    assert len(rows) == 2 * 2 * 2
    assert all(set(row) >= KEYS | {"steps_to_target"} for row in rows)
    for row in rows:
        if row["learning_rate"] == 0.05:
            assert not row["diverged"]
            assert row["accuracy"] > 0.5
            assert row["steps_to_target"] is None or row["steps_to_target"] % 8 == 0


def test_a_diverged_network_has_no_measures(rows):
    diverged = [row for row in rows if row["diverged"]]
    assert all(row["learning_rate"] == 1e9 for row in diverged)
    assert diverged
    for row in diverged:
        assert row["accuracy"] is row["always_negative"] is row["steps_to_target"] is None


def test_differences_are_paired_by_seed():
    assert differences({0: 1.0, 1: 5.0, 2: None, 3: 1.0}, {0: 0.5, 1: 1.0, 2: 3.0}) == [0.5, 4.0]


def test_the_corrected_interval_is_that_of_a_stricter_t_test():
    values = list(np.random.default_rng(0).normal(1, 1, 10))
    ours = simultaneous(values, 50)
    low, high = stats.t.interval(1 - 0.05 / 50, 9, np.mean(values), stats.sem(values))
    assert (ours.mean - ours.half_width, ours.mean + ours.half_width) == pytest.approx((low, high))
    assert is_shown(ours) == (stats.ttest_1samp(values, 0).pvalue * 50 < 0.05)
    assert math.isnan(simultaneous([1.0], 3).half_width)
    assert not is_shown(simultaneous([1.0, 1.0], 3))


def test_the_comparison_with_relu_uses_the_same_rate():
    def row(slope, rate, seed, accuracy):
        return {
            "optimizer": "sgd",
            "learning_rate": rate,
            "negative_slope": slope,
            "seed": seed,
            "accuracy": accuracy,
        }

    records = [
        row(slope, rate, seed, slope + rate * seed)
        for slope in (0, 0.5)
        for rate in (1, 2)
        for seed in (0, 1)
    ]
    difference = cells_of(records).against_relu(("sgd", 2, 0.5), "accuracy")
    assert difference.mean == 0.5
    assert difference.half_width == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"negative_slopes": (0.1,)}, "give 0 too"),
        ({"learning_rates": (-1.0,)}, "--learning-rates is"),
        ({"every": 0}, "--every is 0"),
        ({"hidden": ()}, "--hidden is"),
    ],
)
def test_a_wrong_setting_is_one_sentence(tmp_path, change, sentence):
    config = dataclasses.replace(learning_rate_map.Config(out=tmp_path / "run"), **change)
    with pytest.raises(LabError, match=sentence):
        learning_rate_map.check(config)

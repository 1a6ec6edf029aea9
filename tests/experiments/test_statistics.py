import math

import numpy as np
import pytest
import scipy.stats

from experiments.lab.analysis.cells import Units, cells_of
from experiments.lab.analysis.statistics import estimate


@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_interval_is_scipys_t_interval(count):
    values = np.random.default_rng(count).normal(3, 2, count)
    low, high = scipy.stats.t.interval(0.95, count - 1, loc=values.mean(), scale=scipy.stats.sem(values))
    found = estimate(values.tolist())
    np.testing.assert_allclose((found.mean - found.half_width, found.mean + found.half_width), (low, high))


def test_interval_on_paper():
    # Mean 2, s = 1, n = 3: t(0.975, 2) = 4.302653, divided by sqrt 3.
    assert estimate([1.0, 2.0, 3.0]).half_width == pytest.approx(2.484138, abs=1e-6)


def test_what_is_not_there_is_left_out():
    assert estimate([1.0, None, 3.0, math.nan]) == estimate([1.0, 3.0])
    one, none = estimate([2.0, None]), estimate([None])
    assert (one.mean, one.values) == (2.0, 1)
    assert math.isnan(one.half_width)
    assert math.isnan(none.mean)


@pytest.mark.parametrize(
    ("values", "text"),
    [([0.5, 0.5], "50.0 ± 0.0"), ([0.1, 0.3], "20 ± 127"), ([0.25], "25.0"), ([], "\N{EN DASH}")],
)
def test_format(values, text):
    assert estimate(values).format(100) == text


def record(seed, step, shares, accuracy=0.5, diverged=False):
    grid = {"optimizer": "sgd", "learning_rate": 0.1, "negative_slope": 0.0}
    return {
        **grid,
        "seed": seed,
        "step": step,
        "never_active": shares,
        "test_accuracy": accuracy,
        "diverged": diverged,
    }


def test_units_are_weighted_by_width_and_diverged_lives_left_out():
    rows = [record(0, 0, [0.0, 0.0]), record(0, 9, [0.5, 0.25])]
    rows += [record(1, 0, [0.5, 0.5]), record(1, 9, [None, None], diverged=True)]
    (cell,) = cells_of(rows)
    of = Units([100, 300])
    assert cell.diverged == 1
    assert cell.by_seed(of.share("never_active")) == {0: (50 + 75) / 400, 1: None}
    assert cell.by_seed(of.change("never_active"))[0] == 125 / 400
    assert cell.estimate(of.share("never_active")).values == 1

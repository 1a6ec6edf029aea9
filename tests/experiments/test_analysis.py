"""Means, intervals, tests and words such as "second half", against SciPy, published figures and arithmetic by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from experiments.lab.analysis import (
    Estimate,
    Finding,
    Measure,
    Runs,
    binomial,
    change,
    estimate,
    first,
    fisher,
    last,
    last_tenth,
    ratio,
    second_half,
    share,
    spread,
    swing,
    total,
    wilson,
)
from experiments.lab.show.table import verdict_table


@pytest.mark.parametrize("comparisons", [1, 50])
@pytest.mark.parametrize("count", [3, 5, 20])
def test_an_interval_is_scipys_corrected_t_interval(count, comparisons):
    values = np.random.default_rng(count).normal(1, 1, count)
    found = estimate(values.tolist(), comparisons)
    low, high = stats.t.interval(1 - 0.05 / comparisons, count - 1, values.mean(), stats.sem(values))
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))
    significant = stats.ttest_1samp(values, 0).pvalue * comparisons < 0.05
    assert found.shown == significant


def test_an_interval_on_paper():
    # Mean 2, s = 1, n = 3: t(0.975, 2) = 4.302653, divided by sqrt 3.
    assert estimate([1.0, 2.0, 3.0]).half_width == pytest.approx(2.484138, abs=1e-6)


def test_what_is_not_there_is_left_out():
    assert estimate([1.0, None, 3.0, 5.0, math.nan]) == estimate([1.0, 3.0, 5.0])
    assert math.isnan(estimate([None]).mean)


@pytest.mark.parametrize("values", [[2.0], [1.0, 3.0]], ids=["one", "two"])
def test_fewer_than_three_values_have_a_mean_alone(values):
    found = estimate([*values, None])
    assert (found.mean, found.values, found.shown) == (2.0, len(values), False)
    assert math.isnan(found.half_width)
    share = ratio([(value, 10) for value in values])
    assert (share.mean, share.values) == (pytest.approx(0.2), len(values))
    assert math.isnan(share.half_width)


@pytest.mark.parametrize(
    ("values", "text"),
    [([0.5] * 3, "50.0 ± 0.0"), ([0.1, 0.2, 0.3], "20 ± 25"), ([0.25, 0.25], "25.0"), ([], "\N{EN DASH}")],
)
def test_format(values, text):
    assert estimate(values).format(100) == text


def test_equal_differences_are_judged_by_the_sign_test():
    # Of n pairs that all agree, the sign test's p is 2 ** (1 - n): 0.0625 for 5 and 0.03125 for 6.
    assert not estimate([0.25] * 5).shown
    assert estimate([0.25] * 6).shown
    assert not estimate([0.25] * 6, comparisons=2).shown
    assert not estimate([0.0] * 20).shown


def test_a_ratio_over_seeds():
    found = ratio([(1, 2), (3, 4), (4, 6)])
    # Share 8/12; residuals -1/3, 1/3 and 0; standard error sqrt(3/2 * 2/9) / 12; t(0.975, 2) = 4.302653.
    assert (found.mean, found.values) == (pytest.approx(2 / 3), 3)
    assert found.half_width == pytest.approx(4.302653 * math.sqrt(1 / 3) / 12, rel=1e-5)
    shares = [0.1, 0.4, 0.3]
    assert ratio([(30 * share, 30) for share in shares]) == pytest.approx(estimate(shares))
    assert not ratio([(0, 0), (0, 0)]).values


def test_wilsons_interval_against_the_textbook():
    # Newcombe (1998), table I: 15 of 148 gives 0.0624 to 0.1605.
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    found = binomial(15, 148)
    assert found.mean + found.half_width == pytest.approx(0.1605, abs=5e-5)
    assert binomial(0, 100).half_width == pytest.approx(3.8415 / 103.8415, abs=1e-4)
    assert binomial(0, 0).values == 0


def test_wilsons_ends_are_where_the_share_is_by_their_own_error():
    assert wilson(0, 1_000_000) == pytest.approx((0, 3.84e-6), rel=1e-3)
    assert wilson(10, 10)[1] == 1
    low, high = wilson(1, 1_000_000)
    assert 0 < low < 1e-6 < high
    assert high - 1e-6 > 1e-6 - low
    for end in (low, high):  # where the share lies 1.96 standard errors from the end
        assert abs(1e-6 - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / 1e6), rel=1e-6)


def test_fishers_p_value_is_that_of_the_tea_tasting():
    # Fisher (1935): 3 of 4 against 1 of 4 cups: p = 0.4857 with both sides.
    assert fisher((3, 4), (1, 4), 1) == pytest.approx(34 / 70)
    assert fisher((3, 4), (1, 4), 3) == 1


def life(values, seed=0, arm="relu", **more):
    """One run that is evaluated at steps 0, 10, 20, ...."""
    columns = {name: [value] * len(values) for name, value in more.items()}
    return [
        {"arm": arm, "seed": seed, "step": 10 * place, "x": value, "diverged": False}
        | {name: column[place] for name, column in columns.items()}
        for place, value in enumerate(values)
    ]


def one(of, records):
    """The value of the only run."""
    return of(Runs(records, "arm", baseline="relu").records).item()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 8, 5, 7, 2], (7 + 2) / 2),  # steps 0 to 40: 20 itself is in the first half
        ([0, 8, 5, 7], (5 + 7) / 2),  # steps 0 to 30: beyond 15
        ([0, 8], 8),
        ([3], 3),
        ([0, 8, 5, None, 2], math.nan),
        ([0, None, 5, 7, 2], (7 + 2) / 2),
    ],
)
def test_the_second_half_is_what_lies_beyond_half_of_the_steps(values, expected):
    assert one(second_half("x"), life(values)) == pytest.approx(expected, nan_ok=True)


def test_the_words_by_hand():
    records = life([0, 8, 5, 7, 2])
    assert one(first("x"), records) == 0
    assert one(last("x"), records) == 2
    assert one(change("x"), records) == 2
    assert one(total("x"), records) == 22
    assert one(swing("x"), records) == (2 + 5) / 2  # 5 to 7 to 2: the changes noted in the second half
    assert one(last_tenth("x"), life(range(41))) == (37 + 38 + 39 + 40) / 4
    assert one(change("x", last_tenth), life(range(41))) == 38.5
    assert math.isnan(one(total("x"), life([1, None])))


def test_a_spread_is_that_of_the_intervals_in_the_second_half():
    records = life([None, 9.0, 1.0, 3.0, 1.0])
    for record in records:
        record["generator_gradient_deviation"] = record["x"]
        record["generator_gradient"] = 2.0
    assert one(spread("generator"), records) == pytest.approx((1.5 + 0.5) / 2)
    assert math.isnan(one(spread("generator"), records[:1]))


def test_the_order_of_finishing_changes_nothing():
    runs = [life([0, 1, 2 + seed], seed, arm) for arm in ("leaky", "relu") for seed in range(3)]
    forwards, backwards = (
        Runs([record for run in some for record in run], "arm", baseline="relu")
        for some in (runs, runs[::-1])
    )
    measure = Measure("x", last("x"))
    assert forwards.arms == backwards.arms == ["relu", "leaky"]
    assert forwards.mean(("leaky",), measure) == backwards.mean(("leaky",), measure) == estimate([2, 3, 4])


def test_units_are_weighted_by_width_and_diverged_runs_left_out():
    def record(seed, step, shares, *, diverged=False):
        grid = {"optimizer": "sgd", "learning_rate": 0.1, "negative_slope": 0.0, "channels": (100, 300)}
        return {**grid, "seed": seed, "step": step, "never_active": shares, "diverged": diverged}

    rows = [record(0, 0, [0.0, 0.0]), record(0, 9, [0.5, 0.25])]
    rows += [record(1, 0, [0.5, 0.5]), record(1, 9, [None, None], diverged=True)]
    runs = Runs(rows, "negative_slope", ("optimizer", "learning_rate"))
    (cell,) = runs.cells
    assert runs.diverged(cell) == (1, 2)
    at_end = Measure("never active", last(share("never_active")))
    assert runs.by_seed(cell, at_end).to_dict() == {0: (50 + 75) / 400}
    assert runs.mean(cell, Measure("change", change(share("never_active")))).mean == 125 / 400
    assert [layer.mean for layer in runs.layers(cell, "never_active")] == [0.5, 0.25]
    assert runs.curve(cell, share("never_active")) == ([0, 9], [estimate([0.0]), estimate([125 / 400])])


def test_arms_are_compared_by_seed_and_diverged_runs_left_out():
    def record(arm, seed, value, *, diverged=False):
        return {"mixture": "ring", "arm": arm, "seed": seed, "modes": value, "diverged": diverged}

    relu = [record("relu", seed, seed) for seed in range(4)]
    leaky = [record("leaky", seed, seed + 1 + seed % 2) for seed in range(3)]
    runs = Runs([*relu, *leaky, record("leaky", 3, 99, diverged=True)], "arm", ("mixture",), "relu")
    difference = runs.difference(("ring", "leaky"), Measure("modes", last("modes"), 1))
    assert difference.values == 3
    assert difference.mean == pytest.approx(4 / 3)
    assert runs.comparisons == 1


def test_a_difference_is_corrected_for_all_arms_and_settings():
    records = [
        {"network": network, "activation": activation, "seed": seed, "x": 0.1 * seed + gain}
        for network in ("cnn", "resnet")
        for activation, gains in (("relu", (0, 0, 0)), ("leaky", (0.01, 0.01, 0.02)), ("prelu", (0, 1, 2)))
        for seed, gain in enumerate(gains)
    ]
    found = Runs(records, "activation", ("network",), "relu").difference(
        ("cnn", "leaky"), Measure("x", last("x"))
    )
    # Differences 0.01, 0.01, 0.02 among four comparisons: t(1 - 0.025 / 4, 2) = 8.8602.
    assert found.mean == pytest.approx(0.04 / 3)
    assert found.half_width == pytest.approx(8.8602 * np.std([1, 1, 2], ddof=1) / 100 / np.sqrt(3), rel=1e-4)


@pytest.mark.parametrize(
    ("mean", "half", "verdict"),
    [
        (0.5, 0.1, "reproduced"),
        (0.39, 0.02, "not excluded"),
        (0.62, 0.03, "not excluded"),
        (0.3, 0.02, "not reproduced"),
        (0.3, math.nan, "not reproduced"),
        (math.nan, math.nan, "not measured"),
    ],
)
def test_the_verdict_follows_from_range_and_interval(mean, half, verdict):
    finding = Finding("share", "0.5", Estimate(mean, half, 3), 0.4, 0.6)
    assert finding.verdict == verdict
    assert verdict in verdict_table("t", [finding]).to_markdown()


def test_a_difference_that_is_to_be_shown_needs_the_whole_interval():
    assert Finding("gain", "> 0", Estimate(0.5, 0.4, 3), 0, 1, whole=True).verdict == "reproduced"
    assert Finding("gain", "> 0", Estimate(0.5, 0.6, 3), 0, 2, whole=True).verdict == "not excluded"


@pytest.mark.parametrize(("half", "seeds"), [(math.nan, 1), (0.1, 2)])
def test_a_difference_that_is_to_be_shown_needs_three_seeds(half, seeds):
    gain = Estimate(0.5, half, seeds)
    assert Finding("gain", "> 0", gain, 0, 1, whole=True).verdict == "too few seeds"
    assert Finding("mean", "0.5", gain, 0, 1).verdict == "reproduced"
    three = gain._replace(values=3, half_width=0.1)
    assert Finding("gain", "> 0", three, 0, 1, whole=True).verdict == "reproduced"
    nothing = Estimate(math.nan, math.nan, 0)
    assert Finding("gain", "> 0", nothing, 0, 1, whole=True).verdict == "not measured"


def test_the_verdict_table_scales_our_figure():
    table = verdict_table("t", [Finding("share", "50 %", Estimate(0.5, 0.01, 3), 0.4, 0.6, scale=100)])
    assert table.rows == [["share", "50 %", "50.0", "49.0 to 51.0", "reproduced"]]

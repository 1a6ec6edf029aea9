import math

import pytest

from experiments.lab.analysis.statistics import Estimate
from experiments.lab.analysis.verdict import Finding, binomial, verdict_table


@pytest.mark.parametrize(
    ("mean", "half", "verdict"),
    [
        (0.5, 0.1, "reproduced"),
        (0.39, 0.02, "within our interval"),
        (0.62, 0.03, "within our interval"),
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
    assert Finding("gain", "> 0", Estimate(0.5, 0.6, 3), 0, 2, whole=True).verdict == "within our interval"


@pytest.mark.parametrize(("half", "seeds"), [(math.nan, 1), (0.1, 2)])
def test_a_difference_that_is_to_be_shown_needs_three_seeds(half, seeds):
    gain = Estimate(0.5, half, seeds)
    assert Finding("gain", "> 0", gain, 0, 1, whole=True).verdict == "too few seeds"
    assert Finding("mean", "0.5", gain, 0, 1).verdict == "reproduced"
    assert (
        Finding("gain", "> 0", gain._replace(values=3, half_width=0.1), 0, 1, whole=True).verdict
        == "reproduced"
    )
    assert Finding("gain", "> 0", Estimate(math.nan, math.nan, 0), 0, 1, whole=True).verdict == "not measured"


def test_the_table_scales_our_figure():
    table = verdict_table("t", [Finding("share", "50 %", Estimate(0.5, 0.01, 3), 0.4, 0.6, scale=100)])
    assert table.rows == [["share", "50 %", "50.0", "49.0 to 51.0", "reproduced"]]


def test_wilson_interval_against_the_textbook():
    # Newcombe (1998), table I: 15 of 148 gives 0.0624 to 0.1605.
    share = binomial(15, 148)
    assert share.mean + share.half_width == pytest.approx(0.1605, abs=5e-5)
    assert binomial(0, 100).half_width == pytest.approx(3.8415 / 103.8415, abs=1e-4)
    assert binomial(0, 0).values == 0

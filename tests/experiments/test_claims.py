"""Verdicts on rows whose answer is known, and the recorded table against the recorded rows."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from experiments.claims import experiment as claims
from experiments.claims.evidence import Claim, Comparison, examine
from experiments.claims.report import report, verdict_table
from experiments.claims.sentences import CLAIMS
from experiments.lab.run.errors import LabError

RESULTS = Path(claims.__file__).parent / "results"


def comparison(**changes):
    given = {
        "experiment": "toy",
        "measure": "accuracy, points",
        "of": lambda life: life[-1]["accuracy"],
        "baseline": {"slope": 0.0},
        "arms": {"slope 0.2": {"slope": 0.2}},
        "settings": ("optimizer", "rate"),
        "scale": 100,
    }
    return Comparison(**(given | changes))


def rows(gains, optimizer="adam", rate=0.1):
    """ReLU at 0.5 for each seed, and the other above it by the gain."""
    return [
        {"optimizer": optimizer, "rate": rate, "slope": slope, "seed": seed, "accuracy": value}
        for seed, gain in enumerate(gains)
        for slope, value in ((0.0, 0.5), (0.2, None if gain is None else 0.5 + gain))
    ]


SURE, UNSURE, BAD = [0.03, 0.031, 0.029, 0.03], [0.03, -0.02, 0.0, 0.01], [-0.03, -0.031, -0.029, -0.03]


def verdict_of(records, **changes):
    return examine(Claim("It helps.", (comparison(**changes),)), {"toy": records}).verdict


def test_supported_where_every_interval_leaves_out_zero():
    assert verdict_of(rows(SURE) + rows(SURE, "sgd")) == "supported"


def test_supported_only_where_some_do_and_they_are_counted():
    records = rows(SURE) + rows(SURE, rate=0.01) + rows(UNSURE, "sgd") + rows(BAD, "sgd", 1.0)
    assert verdict_of(records) == (
        "supported only with slope 0.2 in accuracy (2 of 4 settings); "
        "the opposite is shown with slope 0.2 in accuracy (1 of 4 settings)"
    )


@pytest.mark.parametrize(
    "gains",
    [UNSURE, SURE[:2], [0.03, None, None, 0.031], [None] * 4],
    ids=["noise", "two pairs", "two pairs survive", "none survives"],
)
def test_not_supported_where_nothing_is_shown(gains):
    assert verdict_of(rows(gains)) == "not supported: it is shown in no setting"


def test_less_is_better_turns_the_verdict():
    assert verdict_of(rows(BAD), more_is_better=False) == "supported"
    assert verdict_of(rows(SURE), more_is_better=False).startswith("not supported: the opposite")


def test_a_difference_below_what_matters_is_not_shown():
    assert verdict_of(rows(SURE), least=2.0) == "supported"
    assert verdict_of(rows(SURE), least=4.0).startswith("not supported")


def test_no_cost_is_supported_within_the_margin():
    assert verdict_of(rows(SURE), more_is_better=False, margin=4.0) == "supported"
    assert verdict_of(rows(SURE), more_is_better=False, margin=2.0).startswith("not supported")


def test_the_clearest_difference_is_the_farthest_from_the_margin():
    level, costly = [0.001, -0.001, 0.0005, -0.0005], [0.03, 0.035, 0.025, 0.03]
    records = rows(level) + rows(costly, "sgd")
    claim = Claim("It costs nothing.", (comparison(more_is_better=False, margin=10.0),))
    assert examine(claim, {"toy": records}).clearest.setting == "adam 0.1"
    claim = Claim("It costs nothing.", (comparison(more_is_better=False),))
    assert examine(claim, {"toy": records}).clearest.setting == "sgd 0.1"


def test_equal_differences_are_judged_by_the_sign_test():
    # Of n pairs that all agree, the sign test's p is 2 ** (1 - n): 0.0625 for 5 and 0.03125 for 6.
    assert verdict_of(rows([0.25] * 5)).startswith("not supported")
    assert verdict_of(rows([0.25] * 6)) == "supported"


def test_the_interval_is_students_corrected_for_the_number_of_differences():
    gains = [0.01, 0.05, 0.02, 0.04]
    found = examine(Claim("It helps.", (comparison(),)), {"toy": rows(gains) + rows(UNSURE, "sgd")})
    low, high = stats.t.interval(1 - 0.05 / 2, 3, 100 * np.mean(gains), 100 * stats.sem(gains))
    estimate = found.effects[0].estimate
    assert estimate.mean - estimate.half_width == pytest.approx(low)
    assert estimate.mean + estimate.half_width == pytest.approx(high)


def test_no_verdict_without_the_rows():
    claim = Claim("It helps.", (comparison(), comparison(experiment="other")))
    found = examine(claim, {"toy": rows(SURE)})
    assert found.verdict == "no verdict: other must be recorded first"
    assert verdict_of(rows(SURE), arms={"slope 0.3": {"slope": 0.3}}).startswith("no verdict")


def test_an_empty_folder_gives_no_verdict_but_those_by_definition(tmp_path):
    for finding in claims.findings(tmp_path):
        assert finding.verdict.startswith(
            "no verdict" if finding.claim.comparisons else "false by definition"
        )


def test_every_sentence_is_there_once():
    sentences = [claim.sentence for claim in CLAIMS]
    assert len(set(sentences)) == len(sentences) == 12
    for words in (
        "death",
        "smooth",
        "never zero",
        "saturation",
        "stable",
        "faster",
        "better",
        "cheap",
        "modes",
    ):
        assert any(words in sentence for sentence in sentences)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(LabError, match="is no folder"):
        claims.run(claims.Config(tmp_path / "nowhere"))


def test_what_is_written_is_escaped(tmp_path):
    claim = Claim("<b>It</b> helps | a lot.", (comparison(),))
    report([examine(claim, {"toy": rows(SURE)})], tmp_path)
    assert "&lt;b&gt;It&lt;/b&gt;" in (tmp_path / "claims.html").read_text()
    assert r"helps \| a lot." in (tmp_path / "claims.md").read_text()


def test_neuron_death_is_what_the_rows_say():
    """The clearest difference, by hand from the recorded rows."""
    lines = (RESULTS / "learning_rate_map" / "rows.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    at = {
        slope: [
            row["never_active"]
            for row in records
            if (row["optimizer"], row["learning_rate"], row["negative_slope"]) == ("adam", 0.03, slope)
        ]
        for slope in (0.0, 0.2)
    }
    expected = 100 * (np.mean(at[0.2]) - np.mean(at[0.0]))
    death = claims.findings(RESULTS)[0]
    assert death.clearest.estimate.mean == pytest.approx(expected)
    assert not math.isnan(expected)
    assert death.clearest.setting == "adam 0.03"


def test_the_recorded_table_is_that_of_the_recorded_rows(tmp_path):
    shutil.copytree(RESULTS, tmp_path / "results", ignore=shutil.ignore_patterns("*.png"))
    claims.run(claims.Config(tmp_path / "results"))
    assert (tmp_path / "results" / "claims.md").read_text() == (RESULTS / "claims.md").read_text()


def test_the_readme_shows_every_verdict():
    readme = (RESULTS.parents[1] / "README.md").read_text()
    for sentence, _, clearest, counts, verdict in verdict_table(claims.findings(RESULTS)).rows:
        assert f"| {sentence} | {clearest} | {counts} | {verdict} |" in readme

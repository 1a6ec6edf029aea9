"""Verdicts on runs whose answer is known, and the recorded table against the recorded rows."""

import functools
import shutil

import numpy as np
import pytest
from scipy import stats

from experiments.claims import experiment as claims
from experiments.claims.evidence import Claim, Comparison, examine
from experiments.claims.report import report
from experiments.claims.sentences import CLAIMS, RUNS
from experiments.lab.analysis import Measure, Runs, last
from experiments.lab.run.errors import LabError
from tests.experiments.recorded import EXPERIMENTS, rows_of, summary_of


@functools.cache
def findings():
    return claims.findings(EXPERIMENTS)


def comparison(*, experiment="toy", arms=None, least=0, margin=0, more_is_better=True):
    measure = Measure("accuracy", last("accuracy"), more_is_better=more_is_better)
    return Comparison(experiment, experiment, measure, arms or {0.2: "slope 0.2"}, least, margin)


def toy(records):
    return {"toy": Runs(records, "slope", ("optimizer", "rate"))}


def rows(gains, optimizer="adam", rate=0.1):
    """ReLU at 0.5 for each seed, and the other above it by the gain."""
    return [
        {"optimizer": optimizer, "rate": rate, "slope": slope, "seed": seed, "accuracy": value}
        for seed, gain in enumerate(gains)
        for slope, value in ((0.0, 0.5), (0.2, None if gain is None else 0.5 + gain))
    ]


SURE, UNSURE, BAD = [0.03, 0.031, 0.029, 0.03], [0.03, -0.02, 0.0, 0.01], [-0.03, -0.031, -0.029, -0.03]


def verdict_of(records, **changes):
    return examine(Claim("It helps.", (comparison(**changes),)), toy(records)).verdict


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
    assert examine(claim, toy(records)).clearest.setting == "adam 0.1"
    claim = Claim("It costs nothing.", (comparison(more_is_better=False),))
    assert examine(claim, toy(records)).clearest.setting == "sgd 0.1"


def test_equal_differences_are_judged_by_the_sign_test():
    # Of n pairs that all agree, the sign test's p is 2 ** (1 - n): 0.0625 for 5 and 0.03125 for 6.
    assert verdict_of(rows([0.25] * 5)).startswith("not supported")
    assert verdict_of(rows([0.25] * 6)) == "supported"


def test_the_interval_is_students_corrected_for_the_number_of_differences():
    gains = [0.01, 0.05, 0.02, 0.04]
    found = examine(Claim("It helps.", (comparison(),)), toy(rows(gains) + rows(UNSURE, "sgd")))
    low, high = stats.t.interval(1 - 0.05 / 2, 3, 100 * np.mean(gains), 100 * stats.sem(gains))
    estimate = found.effects[0].estimate
    assert estimate.mean - estimate.half_width == pytest.approx(low)
    assert estimate.mean + estimate.half_width == pytest.approx(high)


def test_no_verdict_without_the_rows():
    claim = Claim("It helps.", (comparison(), comparison(experiment="other")))
    found = examine(claim, toy(rows(SURE)))
    assert found.verdict == "no verdict: other must be recorded first"
    assert verdict_of(rows(SURE), arms={0.3: "slope 0.3"}).startswith("no verdict")


def test_an_empty_folder_gives_no_verdict_but_those_by_definition(tmp_path):
    for finding in claims.findings(tmp_path):
        assert finding.verdict.startswith(
            "no verdict" if finding.claim.comparisons else "false by definition"
        )


def test_every_sentence_is_there_once():
    sentences = [claim.sentence for claim in CLAIMS]
    assert len(set(sentences)) == len(sentences) == 13
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
    report([examine(claim, toy(rows(SURE)))], tmp_path)
    assert "&lt;b&gt;It&lt;/b&gt;" in (tmp_path / "claims.html").read_text()
    assert r"helps \| a lot." in (tmp_path / "claims.md").read_text()


def test_neuron_death_is_what_the_rows_say():
    """One difference, by hand from the recorded rows, and which is the clearest."""
    at = {
        slope: [
            row["never_active"]
            for row in rows_of("learning_rate_map")
            if (row["optimizer"], row["learning_rate"], row["negative_slope"]) == ("adam", 0.03, slope)
        ]
        for slope in (0.0, 0.2)
    }
    difference = 100 * (np.array(at[0.2]) - np.array(at[0.0]))
    effects = {(effect.setting, effect.arm): effect for effect in findings()[0].effects}
    found = effects["adam 0.03", "slope 0.2"].estimate
    # Five slopes at ten settings are compared.
    low, high = stats.t.interval(1 - 0.05 / 50, 9, difference.mean(), stats.sem(difference))
    assert found.mean == pytest.approx(difference.mean())
    assert found.half_width == pytest.approx((high - low) / 2)
    apart = [
        effect for effect in effects.values() if effect.estimate.half_width
    ]  # no unit of some networks is dead
    assert findings()[0].clearest is max(
        apart, key=lambda effect: abs(effect.estimate.mean) / effect.estimate.half_width
    )


def test_a_generators_gradient_spreads_more_at_slope_two_tenths_with_batch_norm():
    """By hand: the evaluations after half of the 1,200 steps, four differences in the family."""
    spread = {}
    for row in rows_of("gan_images"):
        if row["normalisation"] == "batch" and row["step"] > 600:
            value = row["generator_gradient_deviation"] / row["generator_gradient"]
            spread.setdefault((row["arm"], row["seed"]), []).append(value)
    assert {len(values) for values in spread.values()} == {5}
    difference = np.array(
        [np.mean(spread["leaky_0.2", seed]) - np.mean(spread["relu", seed]) for seed in range(4)]
    )
    low, _ = stats.t.interval(1 - 0.05 / 4, 3, difference.mean(), stats.sem(difference))
    (effect,) = [
        effect
        for finding in findings()
        for effect in finding.effects
        if effect.comparison.measure.name.startswith("spread of G")
        and "batch" in effect.setting
        and effect.shown
    ]
    assert effect.estimate.mean == pytest.approx(difference.mean())
    assert effect.estimate.mean - effect.estimate.half_width == pytest.approx(low)
    assert low > 0
    assert effect.shown == -1


def cells_of(text):
    """The cells of each line of a text's tables."""
    return [
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]


def told():
    """Each effect of a measure that its experiment's own report tells, once."""
    effects = {
        (effect.comparison.experiment, effect.comparison.measure.name, effect.setting, effect.arm): effect
        for finding in findings()
        for effect in finding.effects
        if effect.comparison.runs == effect.comparison.experiment
        and effect.comparison.experiment not in ("collapse", "signal_gain")  # they show no differences
    }
    return [pytest.param(effect, id=" ".join(key)) for key, effect in effects.items()]


def test_a_difference_is_the_same_in_a_report_and_in_the_claims():
    """In figures and in what is shown: the summary's line of that setting and arm has the claim's difference."""
    count = 0
    for case in told():
        (effect,) = case.values
        comparison, shown = effect.comparison, effect.estimate.shown
        measure = comparison.measure
        text = effect.estimate.format(1, measure.digits, sign=True) + ("*" if shown else "")
        slope = effect.arm.removeprefix("slope ").split(" ")[0]
        words = [word.removesuffix(".0") for word in effect.setting.split(" ") if word]
        lines = [
            line
            for line in cells_of(summary_of(comparison.experiment))
            if text in line and any(slope in cell for cell in line)
        ]
        few = effect.estimate.values < 3
        assert lines or few, (case.id, text)
        assert few or any(all(_named(word, line) for word in words) for line in lines), (case.id, text)
        assert bool(effect.shown) == shown or comparison.least or comparison.margin
        count += 1
    assert count > 80


NAMED = {
    "mlp_sgd": "MLP, SGD",
    "mlp_adam": "MLP, Adam",
    "conv_adam": "conv, Adam",
    "breakout": "Breakout",
    "space_invaders": "SpaceInvaders",
    "freeway": "Freeway",
    "dqn_0.25": "replay ratio 0.25",
    "dqn_1": "replay ratio 1",
    "dqn_4": "replay ratio 4",
    "ppo": "PPO",
    "cnn": "plain CNN",
    "cnn_norm": "normalised",
    "resnet": "ResNet",
    "batch": "batch norm",
    "none": "without norm",
}


def _named(word, line):
    return any(NAMED.get(word, word) in cell for cell in line)


def test_what_a_report_calls_better_or_worse_is_in_favour_or_against():
    """The verdicts of the image GAN, of which one once contradicted the claims."""
    for line in cells_of(summary_of("gan_images")):
        for verdict, shown in (("better: ", 1), ("worse: ", -1)):
            for part in line[-1].split("; "):
                if part.startswith(verdict):
                    name = part.removeprefix(verdict)
                    effects = [
                        effect.shown
                        for finding in findings()
                        for effect in finding.effects
                        if effect.comparison.measure.name == name and NAMED[effect.setting] in line[0]
                    ]
                    assert effects.count(shown) == 1


def test_the_recorded_table_is_that_of_the_recorded_rows(tmp_path):
    for experiment in {source.experiment for source in RUNS.values()} - {"residuals"}:
        (tmp_path / experiment).mkdir()
        (tmp_path / experiment / "results").symlink_to(EXPERIMENTS / experiment / "results")
    (tmp_path / "benchmark").symlink_to(EXPERIMENTS / "benchmark")
    (tmp_path / "claims" / "results").mkdir(parents=True)
    claims.run(claims.Config(tmp_path))
    for name in ("claims.md", "claims.html"):
        written, committed = (folder / "claims" / "results" / name for folder in (tmp_path, EXPERIMENTS))
        assert written.read_text() == committed.read_text()


def copied(tmp_path, experiment="learning_rate_map"):
    (tmp_path / experiment / "results").mkdir(parents=True)
    for name in ("rows.jsonl", "config.json"):
        shutil.copy(EXPERIMENTS / experiment / "results" / name, tmp_path / experiment / "results")
    return tmp_path / experiment / "results"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:50] + b"\xff" + content[51:],
        lambda content: content[:-20],
        lambda _content: b"",
        lambda content: content + b"5\n",
        lambda content: content.replace(b'"seed"', b'"seat"', 1).replace(b'"optimizer"', b'"optimiser"'),
        lambda content: content.replace(b'"accuracy": 0', b'"accuracy": "x", "y": 0', 1),
    ],
    ids=[
        "no UTF-8",
        "half a line",
        "nothing",
        "a line that is a number",
        "a key is missing",
        "a word as a figure",
    ],
)
def test_damaged_rows_are_one_sentence(tmp_path, damage):
    path = copied(tmp_path) / "rows.jsonl"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(LabError, match=r"cannot be (used|compared) \(.*\): record the runs? again\.$"):
        claims.findings(tmp_path)


@pytest.mark.parametrize("name", ["rows.jsonl", "config.json"])
@pytest.mark.parametrize("instead", ["folder", "{"])
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path, name, instead):
    path = copied(tmp_path) / name
    path.unlink()
    path.mkdir() if instead == "folder" else path.write_text(instead)
    with pytest.raises(LabError, match=r"rows\.jsonl cannot be used \(.*\): record the run again\.$"):
        claims.findings(tmp_path)


@pytest.mark.parametrize(
    "content", ["5", "{", '{"cpu": {"figures": [5]}}', '{"cpu": 5}', '{"cpu": {"figures": []}}']
)
def test_a_damaged_table_of_residuals_is_one_sentence(tmp_path, content):
    (tmp_path / "benchmark" / "results").mkdir(parents=True)
    (tmp_path / "benchmark" / "results" / "residuals.json").write_text(content)
    with pytest.raises(LabError, match=r"residuals\.json cannot be used \(.*\): record the run again\.$"):
        claims.findings(tmp_path)

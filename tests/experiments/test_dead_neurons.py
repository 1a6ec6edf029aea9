import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import __main__ as listing
from experiments.dead_neurons import experiment as dead_neurons
from experiments.dead_neurons import report
from tests.experiments.recorded import EXPERIMENTS, rows_of

ROOT = Path(dead_neurons.__file__).parents[2]
TINY = [
    "--smoke",
    "--optimizers",
    "sgd",
    "--hidden",
    "16",
    "8",
    "--steps",
    "8",
    "--learning-rates",
    "0.01",
    "1e9",
]
LEFT = {"config.json", "finished_0.jsonl", "environment.json", "rows.jsonl", "summary.md", "report.html"}
PLOTS = {"over_learning_rate.png", "over_steps.png", "in_depth.png"}


def command(*flags, code=None, expect=0):
    start = ["-c", code] if code else ["-m", "experiments.dead_neurons"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    # A user's own choice for all of their programs, which is not to end this one.
    environment |= {"JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_NUMPY_RANK_PROMOTION": "raise"}
    done = subprocess.run(
        [sys.executable, *start, *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert done.returncode == expect, done.stderr
    return done


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "tiny"
    return out, command(*TINY, "--out", str(out))


def test_leaves_all_files_and_says_what_it_used(finished):
    out, done = finished
    assert {path.name for path in out.iterdir() if path.is_file()} == LEFT | PLOTS
    assert "data: scikit-learn's digits" in done.stdout
    assert "n = 360 test images" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100 + len(str(out))
    environment = json.loads((out / "environment.json").read_text())
    assert environment["packages"]["jax"]
    assert environment["seconds"] >= 1
    assert "digits" in (out / "summary.md").read_text()
    assert environment["command"].startswith("python -m experiments.dead_neurons --smoke")
    html = (out / "report.html").read_text()
    assert html.count("data:image/png;base64,") == 3
    assert str(out) in html  # the command that repeats it
    assert "paired by seed" in (out / "summary.md").read_text()


def test_rows_hold_every_record_of_every_network(finished):
    rows = [json.loads(line) for line in (finished[0] / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 3 * 2 * 5  # rates, slopes, seeds, records
    assert [row["step"] for row in rows[:5]] == [0, 1, 2, 4, 8]
    measures = {"never_active", "dead", "rare", "mean_slope", "grad_dead", "died", "revived", "overlap"}
    for row in rows:
        assert measures < set(row)
        assert all(len(row[name]) == 2 for name in measures)
        if row["negative_slope"]:
            assert row["dead"] == [None, None]
        elif not row["diverged"]:
            assert row["dead"] == row["never_active"]


def test_networks_of_a_seed_begin_equal_whatever_their_activation(finished):
    rows = [json.loads(line) for line in (finished[0] / "rows.jsonl").read_text().splitlines()]
    first = {}
    for row in rows:
        if row["step"] == 0:
            # The first layer's pre-activations do not depend on the slope.
            first.setdefault(row["seed"], set()).add(row["never_active"][0])
    assert all(len(shares) == 1 for shares in first.values())


def test_a_diverged_network_is_counted_and_has_no_measures(finished):
    rows = [json.loads(line) for line in (finished[0] / "rows.jsonl").read_text().splitlines()]
    last = [row for row in rows if row["step"] == 8]
    diverged = [row for row in last if row["diverged"]]
    assert diverged
    assert not any(row["diverged"] for row in last if row["learning_rate"] == 0.01)
    assert "2/2" in finished[1].stdout
    for row in diverged:
        assert row["loss"] is None or None in row["never_active"]


@pytest.mark.slow
def test_two_runs_and_other_device_counts_give_the_same_bytes(finished, tmp_path):
    code = (
        "import jax; from experiments.lab.run import devices; from experiments.dead_neurons import experiment; "
        "devices.use_all_cores = lambda: jax.config.update('jax_num_cpu_devices', 3); experiment.main()"
    )
    command(*TINY, "--out", str(tmp_path), code=code)
    for name in ("rows.jsonl", "config.json"):  # the configuration does not hold where things lie
        assert (tmp_path / name).read_bytes() == (finished[0] / name).read_bytes()
    again = command(*TINY, "--so-far", "--out", str(tmp_path))
    assert "12 of 12 networks are finished" in again.stdout


def test_another_configuration_is_refused_with_a_sentence(finished):
    done = command(*TINY, "--steps", "9", "--out", str(finished[0]), expect=2)
    assert "holds a run of steps 8, and this command has 9" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_without_matplotlib_it_still_runs(tmp_path):
    # A finder that hides them; the run's numbers and page are there, and a sentence says what is missing.
    code = """
import importlib.util, sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "matplotlib" else found(name, package)
from pathlib import Path
from experiments.dead_neurons import experiment as d
d.run(d.Config(out=Path(sys.argv[1]), seeds=1, steps=2, data="digits", hidden=(8,), optimizers=("sgd",)))
"""
    done = command(str(tmp_path), code=code)
    assert "matplotlib is missing" in done.stdout
    assert "sgd 0.003 ReLU" in " ".join(done.stdout.split())
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == LEFT
    assert "matplotlib is missing" in (tmp_path / "report.html").read_text()


def test_the_listing_has_a_line_for_each_experiment():
    found = listing.experiments()
    assert found["dead_neurons"].startswith("How many neurons die")
    assert "benchmark" not in found
    assert all(found.values())


def test_the_answer_says_when_relu_is_not_there():
    hidden = json.loads((EXPERIMENTS / "dead_neurons" / "results" / "config.json").read_text())["hidden"]
    rows = rows_of("dead_neurons")
    assert report.answer(report.runs_of(rows, hidden)).startswith(
        "With Adam at 0.1, where ReLU loses most units"
    )
    leaky = [row for row in rows if row["negative_slope"]]
    assert "nothing is compared" in report.answer(report.runs_of(leaky, hidden))

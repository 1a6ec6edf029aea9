"""The benchmarks' commands work from the command line to the table; small, and without a figure that counts."""

import argparse
import json
import subprocess
import sys

import pytest

from experiments.benchmark import __main__ as benchmark
from experiments.benchmark.residuals import benchmark as residuals
from experiments.lab.run.errors import LabError

BLOCK = "MLP, frozen, unrolled"
SMALL = {
    "device": "--rounds 2 --seconds 0 --rows 64 --training-steps 2 --minutes 0.1",
    "networks": "--networks graph --platforms cpu --rounds 1",
    "ppo": "--rounds 1",
    "residuals": "--platforms cpu --blocks block --rounds 1",
    "scaling": "--rounds 1 --devices 2",
    "sweep": "--rounds 1",
    "tracing": "--rounds 2 --seconds 0 --first-rounds 1",
    "widths": "--widths 8 --rounds 1 --steps 2",
}
# What no flag makes smaller.
FIRST = {
    "residuals": "from experiments.benchmark.residuals import benchmark; benchmark.PROCESSES = 1",
    "tracing": """
from experiments.benchmark import first_census, tracing
tracing.CASES, first_census.MODELS = tracing.CASES[:1], first_census.MODELS[:1]
""",
}
COMMAND = """
from experiments.benchmark import __main__
__main__.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", benchmark.MODULES)
def test_a_benchmark_runs_from_the_command_line_to_its_table(name):
    if name == "ppo":
        pytest.importorskip("gymnax")
    flags = [BLOCK if flag == "block" else flag for flag in SMALL[name].split()]
    command = [sys.executable, "-c", FIRST.get(name, "") + COMMAND, name, *flags]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    assert any(line.startswith("# ") for line in ran.stdout.splitlines())


def test_times_are_medians_of_the_processes_medians(monkeypatch):
    seconds = iter(
        {"jax.nn": theirs, "bits": ours}
        for theirs, ours in (
            ([1.0, 1.0, 9.0], [1.0, 2.0, 9.0]),  # ratios 1, 2, 1
            ([2.0, 2.0, 2.0], [4.0, 2.0, 6.0]),  # 2, 1, 3
            ([1.0, 1.0, 1.0], [3.0, 4.0, 3.0]),  # 3, 4, 3
        )
    )

    def lines(_title, _blocks, module, *_arguments):
        if module == "residuals.figures":
            return [{"block": BLOCK, "activation": name} for name in ("jax.nn", "bits")]
        return [{"block": BLOCK, "activation": name, "seconds": took} for name, took in next(seconds).items()]

    monkeypatch.setattr(residuals, "_lines", lines)
    monkeypatch.setattr(residuals, "PROCESSES", 3)
    theirs, ours = residuals.measure("cpu", 3, [BLOCK])
    assert theirs["times_jax_nn"] == [1, 1, 1]
    assert ours["times_jax_nn"] == [2, 1, 3]
    assert ours["seconds"] == [3, 2, 4]


def part(time):
    figures = [{"block": block, "activation": "bits", "time": time} for block in residuals.BLOCK_NAMES]
    return {"figures": figures, "command": f"took {time}", "date": "today"}


def test_blocks_that_are_recorded_again_replace_themselves_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(residuals, "RESULTS", tmp_path)
    monkeypatch.setattr(residuals, "to_markdown", lambda *_: "")
    (tmp_path / "residuals.json").write_text(json.dumps({"cpu": part(1)}))
    again = part(2)
    again["figures"] = again["figures"][:1]
    residuals.record({"cpu": again})
    found = json.loads((tmp_path / "residuals.json").read_text())["cpu"]
    assert [figure["time"] for figure in found["figures"]] == [2] + [1] * (len(residuals.BLOCK_NAMES) - 1)
    assert found["command"] == "took 1"
    assert found["again"] == [{"blocks": residuals.BLOCK_NAMES[:1], "command": "took 2", "date": "today"}]


def test_blocks_of_another_processor_are_refused_before_they_are_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(residuals, "RESULTS", tmp_path)
    monkeypatch.setattr(residuals, "measure", lambda *_: pytest.fail("it was measured"))
    about = residuals.describe("cpu", 3, None)
    (tmp_path / "residuals.json").write_text(json.dumps({"cpu": about | {"processor": "another"}}))
    parser = argparse.ArgumentParser()
    residuals.add_flags(parser)
    with pytest.raises(LabError, match="another processor: record all of them"):
        residuals.run(parser.parse_args(["--platforms", "cpu", "--blocks", BLOCK, "--record"]))


def test_blocks_measured_like_the_recorded_ones_are_taken():
    about = residuals.describe("cpu", 3, None)
    residuals.check_alike(json.loads(json.dumps(about)), residuals.describe("cpu", 3, [BLOCK]))

"""The benchmarks' commands work from the command line to the table; small, and without a figure that counts."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        (["widths", "--widths", "8", "--rounds", "1", "--steps", "2"], "# How fast the sweep trains, by width"),
        pytest.param(["sweep", "--rounds", "1"], "# How fast the sweep trains", marks=pytest.mark.slow),
        (["networks", "--networks", "graph", "--platforms", "cpu", "--rounds", "1"], "# Networks in the wild"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_benchmark_runs(arguments, title):
    command = [sys.executable, "-m", "experiments.benchmark", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert title in ran.stdout.splitlines()

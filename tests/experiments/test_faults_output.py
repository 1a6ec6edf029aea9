"""An output that nobody reads, or that takes no more, ends a run with a sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.experiments import toy_experiment

COMMAND = [sys.executable, toy_experiment.__file__]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(toy_experiment.__file__).parents[2])}
GOES_ON = "What is finished is kept: the same command goes on from there."


def test_a_pipe_that_nobody_reads_any_longer_ends_a_run_with_a_sentence(tmp_path):
    command = [*COMMAND, str(tmp_path), "--steps", "50"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline().startswith("advance")
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 141
    assert said == f"\nStopped, because nobody reads the output any longer. {GOES_ON}\n"
    assert list((tmp_path / "chunks").glob("*.jsonl"))
    assert subprocess.run(command, env=ENVIRONMENT, check=False).returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_an_output_that_takes_no_more_is_a_sentence(tmp_path):
    command = [*COMMAND, str(tmp_path), "--steps", "50"]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, check=False
        )
    assert ended.returncode == 2
    assert ended.stderr == f"The output cannot be written (No space left on device). {GOES_ON}\n"


def test_the_list_of_experiments_can_be_cut_off():
    command = f"{sys.executable} -m experiments | head -1"
    ended = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert "Traceback" not in ended.stderr
    assert ended.stdout.startswith("born_dead")

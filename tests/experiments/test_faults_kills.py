"""A run that is killed at any moment, or interrupted, and the same command again."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.lab.run import store
from tests.experiments import toy_experiment, toy_loop

SWEEP = [sys.executable, toy_experiment.__file__]
LOOP = [sys.executable, toy_loop.__file__]


def start(command, path, *flags):
    return subprocess.Popen(
        [*command, str(path), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(toy_loop.__file__).parents[2])},
    )


def unbroken(command, path, *flags):
    """The rows, and how long they took."""
    began = time.monotonic()
    with start(command, path, *flags) as process:
        _, complaints = process.communicate(timeout=300)
        assert process.returncode == 0, complaints
    return (path / store.ROWS).read_bytes(), time.monotonic() - began


def kill_often(command, tmp_path, kills, *flags):
    """Kills the same command again and again; each time that it ends before the kill, another folder is begun."""
    whole, seconds = unbroken(command, tmp_path / "whole", *flags)
    moments, folder, killed = random.Random(0), 0, 0
    while killed < kills:
        path = tmp_path / f"killed_{folder}"
        with start(command, path, *flags) as process:
            try:
                process.communicate(timeout=moments.uniform(0, seconds))
            except subprocess.TimeoutExpired:
                process.kill()
        if process.returncode == -signal.SIGKILL:
            killed += 1
            assert not (path / store.ROWS).exists() or (path / store.ROWS).read_bytes() == whole
        else:
            assert process.returncode == 0
            assert (path / store.ROWS).read_bytes() == whole
            folder += 1
    path = tmp_path / f"killed_{folder}"
    assert unbroken(command, path, *flags)[0] == whole
    assert not list((path / store.CHUNKS).glob("*.tmp*"))


def test_a_sweep_killed_at_two_random_moments(tmp_path):
    kill_often(SWEEP, tmp_path, 2)


@pytest.mark.slow
def test_a_sweep_killed_at_twenty_random_moments(tmp_path):
    kill_often(SWEEP, tmp_path, 20, "--rows", "24", "--steps", "8000")


@pytest.mark.slow
def test_a_long_single_run_killed_at_twenty_random_moments(tmp_path):
    kill_often(LOOP, tmp_path, 20, "--rows", "1", "--steps", "10000")


@pytest.mark.slow
@pytest.mark.parametrize("command", [SWEEP, LOOP])
def test_ctrl_c_ends_within_two_seconds_at_any_moment_and_the_same_command_goes_on(tmp_path, command):
    flags = ("--rows", "12", "--steps", "4000")
    whole, seconds = unbroken(command, tmp_path / "whole", *flags)
    moments, interrupted, folder = random.Random(1), 0, 0
    while interrupted < 5:
        path = tmp_path / f"stopped_{folder}"
        with start(command, path, *flags) as process:
            assert process.stdout.readline().startswith("advance")
            time.sleep(moments.uniform(0, seconds / 4))
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, complaints = process.communicate(timeout=60)
        if process.returncode in (0, -signal.SIGINT):  # it had ended, or Python was at its own end
            assert (path / store.ROWS).read_bytes() == whole
            folder += 1
            continue
        assert time.monotonic() - began < 2
        assert process.returncode == 130
        assert complaints.strip().endswith("the same command goes on from there.")
        interrupted += 1
        if (path / store.ROWS).exists():
            folder += 1
    path = tmp_path / f"stopped_{folder}"
    assert unbroken(command, path, *flags)[0] == whole

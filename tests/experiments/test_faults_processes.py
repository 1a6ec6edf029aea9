"""A sweep and a census over several processes of this machine, one of which may die, fail or never come."""

import functools
import operator
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.lab.run import processes, store
from jax_leaky import Census, census
from tests.experiments import toy_census, toy_experiment, toy_loop

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(toy_loop.__file__).parents[2]), "JAX_PLATFORMS": "cpu"}
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT}


def finish(started):
    """What each wrote to stderr; all must end well."""
    said = [process.communicate(timeout=200)[1] for process in started]
    assert [process.returncode for process in started] == [0] * len(started), said
    return said


def die_and_go_on(tmp_path, program, count, victim):
    command = [sys.executable, program, str(tmp_path / "run"), "--rows", "16", "--steps", "2500"]
    started = processes.start(count, command, **PIPES)
    assert any(line.startswith("advance") for line in started[victim].stdout)
    began = time.monotonic()
    started[victim].kill()
    said = [process.communicate(timeout=100)[1] for process in started]
    assert time.monotonic() - began < 60
    for index, (process, text) in enumerate(zip(started, said, strict=True)):
        if index != victim:
            assert process.returncode != 0
            # JAX's own sentence where its heartbeat was faster.
            assert "of this run has ended before its time. What is finished is kept" in text or (
                "another task died" in text
            )
    path = tmp_path / "run"
    assert list((path / store.CHUNKS).glob("*.jsonl"))
    assert not (path / store.ROWS).exists()
    return command, path


def test_a_process_that_dies_stops_the_other_with_a_sentence(tmp_path):
    die_and_go_on(tmp_path, toy_experiment.__file__, 2, victim=1)


LOADING = """
from experiments.lab.run import interrupt
from experiments.lab.run import processes
import jax, time
interrupt.enter(processes.join)
print("loads its data", flush=True)
time.sleep(60 if {sleeps} else 0)
raise TypeError("a mistake of the programmer")
"""


def loading(sleeps, count=2):
    """Processes that have joined, and are on the way to the run folder."""
    started = processes.start(count, [sys.executable, "-c", LOADING.format(sleeps=sleeps)], **PIPES)
    for process in started:
        assert process.stdout.readline() == "loads its data\n"
    return started


@pytest.mark.parametrize(
    ("count", "victim"), [(2, 1), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((2, 0), (3, 2)))]
)
def test_a_process_killed_while_it_loads_its_data_stops_the_others_at_once_with_a_sentence(count, victim):
    started, began = loading(True, count), time.monotonic()
    started[victim].kill()
    said = [process.communicate(timeout=60)[1] for process in started]
    assert time.monotonic() - began < 10  # JAX's heartbeats take 30
    sentence = f"Process {victim} of this run has ended before its time. What is finished is kept: start all"
    for index, text in enumerate(said):
        if index != victim:
            assert started[index].returncode != 0
            assert sentence in text
            assert text.count("ended before its time") == 1


@pytest.mark.slow
def test_a_process_with_a_mistake_shows_its_own_and_does_not_wait_for_the_others():
    started, began = loading("jax.process_index() == 0"), time.monotonic()
    said = [process.communicate(timeout=60)[1] for process in started]
    assert time.monotonic() - began < 20
    assert [process.returncode for process in started] == [2, 1]
    assert "Process 1 of this run has ended before its time" in said[0]
    assert said[1].strip().endswith("TypeError: a mistake of the programmer")


@pytest.mark.slow
@pytest.mark.parametrize("program", [toy_experiment.__file__, toy_loop.__file__], ids=["sweep", "loop"])
@pytest.mark.parametrize(("count", "victim"), [(2, 0), (4, 3)])
def test_after_a_death_the_same_command_goes_on_to_the_same_rows(tmp_path, program, count, victim):
    command, path = die_and_go_on(tmp_path, program, count, victim)
    finish(processes.start(count, command, **PIPES))
    command[2] = str(tmp_path / "alone")
    finish([subprocess.Popen(command, **PIPES)])
    assert (path / store.ROWS).read_bytes() == (tmp_path / "alone" / store.ROWS).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_a_census_of_shares_is_the_census_of_all(tmp_path, count):
    finish(processes.start(count, [sys.executable, toy_census.__file__, str(tmp_path)], **PIPES))
    shares = [Census.load(tmp_path / f"census_{index}.json") for index in range(count)]
    together = functools.reduce(operator.add, shares)
    alone = census(toy_census.network, list(toy_census.BATCHES))
    assert len(together) == len(alone) == 3
    for one, other in zip(together, alone, strict=True):
        assert one.n == other.n == toy_census.BATCHES.shape[0] * toy_census.BATCHES.shape[1]
        for name in ("n", "fired", "nonzero", "nonfinite", "last_fired", "z_min", "z_max"):
            ours, theirs = (getattr(site.counts, name) for site in (one, other))
            ours, theirs = (x.to_numpy() if hasattr(x, "to_numpy") else np.asarray(x) for x in (ours, theirs))
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
        np.testing.assert_allclose(one.counts.abs_sum.high, other.counts.abs_sum.high, rtol=1e-6)


@pytest.mark.slow
def test_a_folder_in_use_is_refused_by_all_processes(tmp_path):
    with store.open_run(tmp_path, {}):
        started = processes.start(2, [sys.executable, toy_experiment.__file__, str(tmp_path)], **PIPES)
        said = [process.communicate(timeout=100)[1] for process in started]
    assert started[0].returncode == 2
    assert "is in use by another run" in said[0]
    assert started[1].returncode != 0


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_the_documented_command_gives_the_rows_of_one_process(tmp_path, count):
    flags = ["signal_gain", "--smoke", "--out"]
    several = [
        sys.executable,
        "-m",
        "experiments.lab.run.processes",
        str(count),
        *flags,
        str(tmp_path / "several"),
    ]
    alone = [sys.executable, "-m", f"experiments.{flags[0]}", *flags[1:], str(tmp_path / "alone")]
    for command in (several, alone):
        finish([subprocess.Popen(command, **PIPES)])
    rows = [(tmp_path / name / store.ROWS).read_bytes() for name in ("several", "alone")]
    assert rows[0] == rows[1]
    assert (tmp_path / "several" / "report.html").exists()

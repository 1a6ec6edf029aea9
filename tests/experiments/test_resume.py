"""A run that is killed or interrupted at any moment, and the same command again: the same bytes."""

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

SWEEP = [sys.executable, toy_experiment.__file__, "--out"]
LOOP = [sys.executable, toy_loop.__file__, "--out"]
PART = "finished_0.jsonl"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(toy_loop.__file__).parents[2]), "JAX_PLATFORMS": "cpu"}
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT}


def start(command, path, *flags, **how):
    return subprocess.Popen([*command, str(path), *flags], **PIPES | how)


def unbroken(command, path, *flags):
    """The rows, and how long they took."""
    began, begun = time.monotonic(), path.exists()
    with start(command, path, *flags) as process:
        said, complaints = process.communicate(timeout=300)
    assert process.returncode == 0, complaints
    assert begun or "The same command goes on" in said  # a run whose rows are all there has nothing to say
    return (path / store.ROWS).read_bytes(), time.monotonic() - began


def lines(path):
    return (path / PART).read_bytes().count(b"\n") if (path / PART).exists() else 0


def kill(command, path, *flags, after=1, by=signal.SIGKILL):
    """Starts a run and ends it once so many of its rows are finished."""
    with start(command, path, *flags) as process:
        while lines(path) < after:
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        process.send_signal(by)
        _, complaints = process.communicate(timeout=60)  # at once; more on a busy machine
    assert process.returncode == -by
    assert not complaints
    assert not (path / store.ROWS).exists()


def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(tmp_path):
    whole, killed = (toy_experiment.Config(out=tmp_path / name, steps=2_000) for name in ("whole", "killed"))
    kill(SWEEP, killed.out, "--steps", "2000")
    assert 1 <= lines(killed.out) < 14
    for config in (whole, killed):
        toy_experiment.run(config)
    assert (killed.out / store.ROWS).read_bytes() == (whole.out / store.ROWS).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("command", [SWEEP, LOOP], ids=["sweep", "loop"])
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_at_once(tmp_path, command, by):
    kill(command, tmp_path / "run", "--rows", "2000", "--steps", "10000", by=by)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "flags"),
    [(SWEEP, ("--rows", "24", "--steps", "2000")), (LOOP, ("--rows", "1", "--steps", "2000"))],
    ids=["sweep", "one long row of a loop"],
)
def test_killed_at_ten_random_moments(tmp_path, command, flags):
    """Each time that the run ends before the kill, another folder is begun. The first quarter is imports."""
    whole, seconds = unbroken(command, tmp_path / "whole", *flags)
    moments, folder, killed = random.Random(0), 0, 0
    while killed < 10:
        path = tmp_path / f"killed_{folder}"
        with start(command, path, *flags) as process:
            try:
                process.communicate(timeout=moments.uniform(seconds / 4, seconds))
            except subprocess.TimeoutExpired:
                process.kill()
        if process.returncode == -signal.SIGKILL:
            killed += 1
            assert not (path / store.ROWS).exists() or (path / store.ROWS).read_bytes() == whole
        else:
            assert process.returncode == 0
            assert (path / store.ROWS).read_bytes() == whole
            folder += 1
    assert unbroken(command, tmp_path / f"killed_{folder}", *flags)[0] == whole
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.slow
def test_files_that_may_not_grow_lose_no_row(tmp_path):
    flags = ("--rows", "7", "--steps", "50")
    whole, _ = unbroken(SWEEP, tmp_path / "whole", *flags)
    limit = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); "
    limited = [sys.executable, "-c", f"{limit}os.execv(sys.argv[1], sys.argv[1:])", *SWEEP]
    with start(limited, tmp_path / "run", *flags) as process:
        _, complaints = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "finished_0.jsonl cannot be written (File too large)" in complaints
    assert complaints.endswith("the same command goes on from there.\n")
    assert "Traceback" not in complaints
    assert lines(tmp_path / "run") > 3
    assert unbroken(SWEEP, tmp_path / "run", *flags)[0] == whole


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_an_output_that_takes_no_more_is_a_sentence(tmp_path):
    with Path("/dev/full").open("w") as full, start(SWEEP, tmp_path / "run", stdout=full) as process:
        _, complaints = process.communicate(timeout=120)
    assert process.returncode == 2
    assert complaints.startswith("The output cannot be written (No space left on device)")


def test_an_output_that_nobody_reads_ends_a_command_without_a_word():
    command = f"{sys.executable} -m experiments | head -1"
    ended = subprocess.run(["bash", "-c", command], **PIPES, check=False)
    assert ended.stderr == ""
    assert ended.stdout.startswith("born_dead")

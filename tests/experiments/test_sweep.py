import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from experiments.lab.run import store
from tests.experiments import toy_experiment as toy

PROGRAM = Path(toy.__file__)


def rows(path):
    return (path / store.ROWS).read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    toy.run(path, devices=jax.devices()[:1])
    return rows(path)


def test_rows_are_all_there_in_order(undisturbed):
    found = [json.loads(line) for line in undisturbed.splitlines()]
    assert [(row["kind"], row["seed"]) for row in found] == [
        (kind, seed) for kind in ("matrix", "wave") for seed in range(7)
    ]
    assert len({row["mean"] for row in found}) == 14
    assert all(row["nothing"] is None for row in found)  # an infinity is no number


@pytest.mark.parametrize("devices", [2, 4])
def test_rows_do_not_depend_on_the_number_of_devices(tmp_path, undisturbed, devices):
    toy.run(tmp_path / "run", devices=jax.devices()[:devices])
    assert rows(tmp_path / "run") == undisturbed


def test_rows_of_longer_chunks_do_not_depend_on_the_number_of_devices(tmp_path):
    """Three at a time is another program than one at a time, whose last bits XLA is free to choose anew."""
    for devices in (1, 2):
        toy.run(tmp_path / f"on_{devices}", devices=jax.devices()[:devices], per_device=3)
    assert rows(tmp_path / "on_1") == rows(tmp_path / "on_2")


def test_rows_do_not_depend_on_which_were_there(tmp_path, undisturbed):
    path = tmp_path / "run"
    toy.run(path, devices=jax.devices()[:2])
    chunks = sorted((path / store.CHUNKS).iterdir())
    for chunk in random.Random(0).sample(chunks[:-1], 3):
        chunk.unlink()
    chunks[-1].write_bytes(chunks[-1].read_bytes() + b"more")
    (path / store.ROWS).write_text("damaged")
    assert toy.run(path, devices=jax.devices()[:4]) < 14
    assert rows(path) == undisturbed


def test_a_finished_run_is_not_computed_again(tmp_path, capsys):
    path = tmp_path / "run"
    assert toy.run(path) == 0
    before = rows(path)
    capsys.readouterr()
    assert toy.run(path) == 14
    assert "advance" not in capsys.readouterr().out
    assert rows(path) == before


def start(path, *flags):
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(path), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROGRAM.parents[2],
        env={**os.environ, "PYTHONPATH": str(PROGRAM.parents[2])},
    )


def test_two_processes_compute_the_same_rows(tmp_path, undisturbed):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, str(PROGRAM), str(tmp_path / "run"), "--rows", "7", "--steps", "50"]
    together = [
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ
            | {
                "PYTHONPATH": str(PROGRAM.parents[2]),
                "JAX_COORDINATOR_ADDRESS": address,
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(index),
            },
        )
        for index in range(2)
    ]
    for process in together:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    assert rows(tmp_path / "run") == undisturbed
    chunks = [path.stem for path in (tmp_path / "run" / store.CHUNKS).iterdir()]
    assert (
        len(chunks) > len(undisturbed.splitlines()) / 4
    )  # both have saved: four rows at a time, two by each


def test_killed_at_any_moment_it_goes_on_to_the_same_rows(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with start(whole) as process:
        _, complaints = process.communicate(timeout=120)
        assert process.returncode == 0, complaints
    moments = random.Random(0)
    for after in (0, 1, 3):  # chunks that are finished before the kill
        with start(killed) as process:
            for _ in range(after):
                assert process.stdout.readline().startswith("advance")
            time.sleep(moments.uniform(0, 0.05) if after else 1.0)
            process.kill()
        assert not (killed / store.ROWS).exists()
    with start(killed) as process:
        said, complaints = process.communicate(timeout=120)
        assert process.returncode == 0, complaints
    assert 0 < said.count("advance") < 12
    assert rows(killed) == rows(whole)


@pytest.mark.parametrize(("what", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_it_at_once_and_says_how_to_go_on(tmp_path, what, status):
    # Minutes of work, of which nothing is waited for; two seconds on a free machine, more on one that is busy.
    with start(tmp_path / "run", "--rows", "2000") as process:
        assert process.stdout.readline().startswith("advance")
        began = time.monotonic()
        process.send_signal(what)
        _, complaints = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert process.returncode == status
    assert "the same command goes on" in complaints
    assert "Traceback" not in complaints

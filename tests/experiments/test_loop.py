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
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from experiments.lab.run import store
from experiments.lab.run.errors import LabError
from experiments.lab.run.sweep import fingerprint
from tests.experiments import toy_loop as toy

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
    assert [(row["kind"], row["seed"], row["step"]) for row in found] == [
        (kind, seed, step) for kind in ("tanh", "sine") for seed in range(7) for step in (0, 1, 20)
    ]
    assert len({row["mean"] for row in found if row["step"] == 20}) == 14


def test_a_step_against_numpy(undisturbed):
    found = [json.loads(line) for line in undisturbed.splitlines()]
    for row in toy.groups()[0].rows:
        key = jax.random.fold_in(jax.random.key(row.seed), jnp.uint32(0))
        kernel = np.float64(jax.random.normal(key, (3, 3))) + np.float64(toy.DATA[:3, None])
        x = np.outer(toy.DATA[:32], toy.DATA[32:]) * row.scale
        expected = np.tanh(correlate2d(x, kernel, "same"))
        after = next(one for one in found if (one["kind"], one["seed"], one["step"]) == ("tanh", row.seed, 1))
        assert after["mean"] == pytest.approx(expected.mean(), abs=1e-6)
        np.testing.assert_allclose(after["corner"], expected[0, :3], rtol=1e-5)


@pytest.mark.parametrize("devices", [2, 4])
def test_rows_do_not_depend_on_the_number_of_devices(tmp_path, undisturbed, devices):
    toy.run(tmp_path / "run", devices=jax.devices()[:devices])
    assert rows(tmp_path / "run") == undisturbed


def test_rows_do_not_depend_on_which_were_there(tmp_path, undisturbed):
    path = tmp_path / "run"
    toy.run(path, devices=jax.devices()[:2])
    chunks = sorted((path / store.CHUNKS).iterdir())
    assert len(chunks) == 14
    for chunk in random.Random(0).sample(chunks[:-1], 3):
        chunk.unlink()
    chunks[-1].write_bytes(chunks[-1].read_bytes() + b"more")
    (path / store.ROWS).write_text("damaged")
    assert toy.run(path, devices=jax.devices()[2:]) == 10
    assert rows(path) == undisturbed


def test_each_function_and_the_looks_are_in_the_fingerprint():
    first, *others = toy.groups()
    before = fingerprint([first, *others], toy.DATA)
    assert before == fingerprint(toy.groups(), toy.DATA)

    def later(row, data):
        return toy.begin(row, data) | {"number": jnp.uint32(1)}

    changes = [
        {"begin": later},
        {"step": others[0].step},
        {"look": lambda row, state, data: toy.look(row, state, data) | {"mean": row.scale}},
        {"looks": (0, 2, 20)},
    ]
    found = {
        fingerprint([first._replace(**change), *others], toy.DATA)["program_sha256"] for change in changes
    }
    assert len(found | {before["program_sha256"]}) == 5


def test_a_failure_of_one_device_ends_all(tmp_path):
    def refuse(_row, _seen):
        raise LabError("no space")

    table = [group._replace(to_records=refuse, looks=(0, 1_000_000)) for group in toy.groups()]
    table[0] = table[0]._replace(looks=(0, 1), rows=table[0].rows[:1])
    began = time.monotonic()
    with store.open_run(tmp_path / "run", {}) as folder, pytest.raises(LabError, match="no space"):
        toy.loop(table, toy.DATA, folder, print)
    assert time.monotonic() - began < 20
    assert not folder.finished


def start(path, *flags, **variables):
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(path), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROGRAM.parents[2]), **variables},
    )


def test_two_processes_compute_the_same_rows(tmp_path, undisturbed):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    together = [
        start(
            tmp_path / "run",
            *("--rows", "7", "--steps", "20"),
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES="2",
            JAX_PROCESS_ID=str(index),
        )
        for index in range(2)
    ]
    for process in together:
        said, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
        assert said.count("advance") == 7
    assert rows(tmp_path / "run") == undisturbed


def test_killed_at_any_moment_it_goes_on_to_the_same_rows(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with start(whole) as process:
        _, complaints = process.communicate(timeout=120)
        assert process.returncode == 0, complaints
    moments = random.Random(0)
    for after in (1, 3):  # rows that are finished before the kill
        with start(killed) as process:
            for _ in range(after):
                assert process.stdout.readline().startswith("advance")
            time.sleep(moments.uniform(0, 0.05))
            process.kill()
        assert not (killed / store.ROWS).exists()
    with start(killed) as process:
        said, complaints = process.communicate(timeout=120)
        assert process.returncode == 0, complaints
    assert 0 < said.count("advance") < 24
    assert rows(killed) == rows(whole)


@pytest.mark.parametrize(("what", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_it_at_once_and_says_how_to_go_on(tmp_path, what, status):
    # Hours of work, of which nothing is waited for; two seconds on a free machine, more on one that is busy.
    with start(tmp_path / "run", "--rows", "2000", "--steps", "1000") as process:
        assert process.stdout.readline().startswith("advance")
        began = time.monotonic()
        process.send_signal(what)
        _, complaints = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert process.returncode == status
    assert "the same command goes on" in complaints
    assert "Traceback" not in complaints

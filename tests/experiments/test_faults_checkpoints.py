"""A row of a loop that is killed inside goes on from its last checkpoint, to the same bytes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from experiments.lab.run import checkpoint, store
from experiments.lab.run.checkpoint import Checkpoint
from tests.experiments import toy_loop

ROWS, STEPS, LAST = 1, 300, 20
PROGRAM = f"""
import os, signal, sys
from experiments.lab.run.checkpoint import Checkpoint
from tests.experiments import toy_loop

save = Checkpoint.save

def save_and_die(self, done, seen, state):
    save(self, done, seen, state)
    if done == {LAST}:
        os.kill(os.getpid(), signal.SIGKILL)

Checkpoint.save, Checkpoint.due = save_and_die, lambda self: True
toy_loop.run(sys.argv[1], {ROWS}, {STEPS})
"""


def states(path):
    return sorted((path / store.CHUNKS).glob("*.state"))


@pytest.fixture
def begun(monkeypatch):
    """At which step each row begins, in a run of this process."""
    found, load = [], Checkpoint.load

    def note(self, *given):
        kept = load(self, *given)
        found.append(kept[0] if kept else 0)
        return kept

    monkeypatch.setattr(Checkpoint, "load", note)
    return found


def compute(path):
    toy_loop.run(path, ROWS, STEPS, devices=jax.devices()[:1])
    return (path / store.ROWS).read_bytes()


def die_inside(path):
    """A run that is killed in its first row, right after a checkpoint."""
    places = [str(Path(toy_loop.__file__).parent), str(Path(toy_loop.__file__).parents[2])]
    around = os.environ | {"PYTHONPATH": os.pathsep.join([*places, os.environ.get("PYTHONPATH", "")])}
    ended = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], env=around, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not list((path / store.CHUNKS).glob("*.jsonl"))


def test_a_row_killed_inside_goes_on_from_its_checkpoint_to_the_same_bytes(tmp_path, begun):
    die_inside(tmp_path / "killed")
    rows = compute(tmp_path / "killed")
    assert begun[0] == LAST
    assert rows == compute(tmp_path / "whole")
    assert begun[1:] == [0, 0, 0]  # the row of the second group, and those of the whole run
    assert not states(tmp_path / "killed")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"done", b"dome")),
        lambda path: path.rename(path.with_name("0000001.state")),
        lambda path: path.write_bytes(b""),
    ],
    ids=["cut short", "changed", "another row's", "empty"],
)
def test_a_damaged_checkpoint_is_passed_over(tmp_path, begun, damage):
    with store.open_run(tmp_path, {}) as folder:
        kept = Checkpoint(folder, 0)
        state = {"x": jax.numpy.arange(5.0), "key": jax.random.key(3)}
        kept.save(7, [{"mean": jax.numpy.float32(2)}], state)
        look = {"mean": jax.ShapeDtypeStruct((), "float32")}
        done, seen, found = Checkpoint(folder, 0).load(state, look)
        assert (done, seen[0]["mean"], found["x"].tolist()) == (7, 2, [0, 1, 2, 3, 4])
        assert jax.random.bits(found["key"]) == jax.random.bits(state["key"])
        damage(states(tmp_path)[0])
        assert Checkpoint(folder, 0).load(state, look) is None
        assert Checkpoint(folder, 1).load(state, look) is None
    assert begun == [7, 0, 0]


def test_a_checkpoint_of_another_run_is_passed_over(tmp_path):
    state = {"x": jax.numpy.arange(5.0)}
    with store.open_run(tmp_path, {"steps": 1}) as folder:
        Checkpoint(folder, 0).save(7, [], state)
    with store.open_run(tmp_path, {"steps": 2}, fresh=True) as folder:
        assert Checkpoint(folder, 0).load(state, {}) is None


def test_what_a_kill_at_the_end_of_a_row_has_left_is_removed(tmp_path):
    compute(tmp_path)
    left = tmp_path / store.CHUNKS / "0000001.state"
    left.write_bytes(b"left")
    compute(tmp_path)
    assert not left.exists()


def test_there_is_one_a_minute(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now)
    with store.open_run(tmp_path, {}) as folder:
        kept = Checkpoint(folder, 0)
        now = 159.0
        assert not kept.due()
        now = 161.0
        assert kept.due()
        kept.save(1, [], {})
        assert not kept.due()

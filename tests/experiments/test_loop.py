import json
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from experiments.lab.run import checkpoint, store
from experiments.lab.run.checkpoint import Checkpoint
from experiments.lab.run.errors import LabError
from experiments.lab.run.sweep import fingerprint
from tests.experiments import toy_loop as toy
from tests.experiments.toy_experiment import Config


def compute(path, devices=slice(1), **settings):
    toy.run(Config(out=path, **{"steps": 20, **settings}), devices=jax.devices()[devices])
    return (path / store.ROWS).read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return compute(tmp_path_factory.mktemp("undisturbed") / "run")


def test_rows_are_all_there_in_order(undisturbed):
    found = [json.loads(line) for line in undisturbed.splitlines()]
    assert [(row["kind"], row["seed"], row["step"]) for row in found] == [
        (kind, seed, step) for kind in ("tanh", "sine") for seed in range(7) for step in (0, 1, 20)
    ]
    assert len({row["mean"] for row in found if row["step"] == 20}) == 14


def test_a_step_against_numpy(undisturbed):
    found = [json.loads(line) for line in undisturbed.splitlines()]
    for row in toy.groups()[0].runs:
        key = jax.random.fold_in(jax.random.key(row.seed), jnp.uint32(0))
        kernel = np.float64(jax.random.normal(key, (3, 3))) + np.float64(toy.DATA[:3, None])
        x = np.outer(toy.DATA[:32], toy.DATA[32:]) * row.scale
        expected = np.tanh(correlate2d(x, kernel, "same"))
        after = next(one for one in found if (one["kind"], one["seed"], one["step"]) == ("tanh", row.seed, 1))
        assert after["mean"] == pytest.approx(expected.mean(), abs=1e-6)
        np.testing.assert_allclose(after["corner"], expected[0, :3], rtol=1e-5)


@pytest.mark.parametrize("devices", [2, 4])
def test_rows_do_not_depend_on_the_number_of_devices(tmp_path, undisturbed, devices):
    assert compute(tmp_path / "run", slice(devices)) == undisturbed


def test_rows_do_not_depend_on_which_were_there(tmp_path, undisturbed):
    path = tmp_path / "run"
    compute(path, slice(2))
    part = path / "finished_0.jsonl"
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(random.Random(0).sample(lines, 10)) + lines[0][:40])
    (path / store.ROWS).write_text("damaged")
    assert compute(path, slice(2, 4)) == undisturbed


def test_each_function_and_the_evaluations_are_in_the_fingerprint():
    first, *others = toy.groups()
    before = fingerprint([first, *others], toy.DATA)
    assert before == fingerprint(toy.groups(), toy.DATA)

    def later(row, data):
        return toy.begin(row, data) | {"number": jnp.uint32(1)}

    changes = [
        {"begin": later},
        {"step": others[0].step},
        {"evaluate": lambda row, state, data: toy.evaluate(row, state, data) | {"mean": row.scale}},
        {"evaluations": (0, 2, 20)},
    ]
    found = {
        fingerprint([first._replace(**change), *others], toy.DATA)["program_sha256"] for change in changes
    }
    assert len(found | {before["program_sha256"]}) == 5


def test_a_failure_of_one_device_ends_all(tmp_path):
    def refuse(_row, _seen):
        raise LabError("no space")

    table = [group._replace(evaluations=(0, 1_000_000)) for group in toy.groups()]
    table[0] = table[0]._replace(to_records=refuse, evaluations=(0, 1), runs=table[0].runs[:1])
    with store.open_run(tmp_path / "run", {}) as folder, pytest.raises(LabError, match="no space"):
        toy.loop(table, toy.DATA, folder, print)
    assert not folder.finished  # the others were not waited for


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


class KilledError(Exception):
    """Comes right after a checkpoint, as a kill can."""


@pytest.mark.parametrize(
    ("damage", "begins"),
    [
        (lambda _path: None, 12),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), 0),
        (lambda path: path.write_bytes(flipped(path.read_bytes())), 0),
        (lambda path: path.write_bytes(b""), 0),
    ],
    ids=["whole", "cut short", "changed", "empty"],
)
def test_a_row_killed_inside_goes_on_from_its_checkpoint_to_the_same_bytes(
    tmp_path, monkeypatch, undisturbed, damage, begins
):
    save, load, begun = Checkpoint.save, Checkpoint.load, []

    def save_and_die(self, done, seen, state):
        save(self, done, seen, state)
        if done == 12:
            raise KilledError

    def note(self, *given):
        kept = load(self, *given)
        begun.append(kept[0] if kept else 0)
        return kept

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_die)
        patch.setattr(Checkpoint, "due", lambda _self: True)
        with pytest.raises(KilledError):
            compute(tmp_path)
    monkeypatch.setattr(Checkpoint, "load", note)
    damage(tmp_path / "unfinished_0.npz")
    assert compute(tmp_path) == undisturbed
    assert begun == [begins, *[0] * 13]
    assert not list(tmp_path.glob("unfinished*"))


def test_there_is_a_checkpoint_a_minute(tmp_path, monkeypatch):
    with store.open_run(tmp_path, {}) as folder:
        now = 100.0
        monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now)
        kept = Checkpoint(folder, 0)
        now = 159.0
        assert not kept.due()
        now = 161.0
        assert kept.due()
        kept.save(1, [], {})
        assert not kept.due()

import json
import random

import jax
import pytest

from experiments.lab.run import store
from tests.experiments import toy_experiment as toy


def compute(path, devices=slice(1), **how):
    """The bytes of rows.jsonl, and how many rows were there before."""
    toy.run(toy.Config(out=path), devices=jax.devices()[devices], **how)
    return (path / store.ROWS).read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return compute(tmp_path_factory.mktemp("undisturbed") / "run")


def test_rows_are_all_there_in_order(undisturbed):
    found = [json.loads(line) for line in undisturbed.splitlines()]
    assert [(row["kind"], row["seed"]) for row in found] == [
        (kind, seed) for kind in ("matrix", "wave") for seed in range(7)
    ]
    assert len({row["mean"] for row in found}) == 14
    assert all(row["nothing"] is None for row in found)  # an infinity is no number


@pytest.mark.parametrize("devices", [2, 4])
def test_rows_do_not_depend_on_the_number_of_devices(tmp_path, undisturbed, devices):
    assert compute(tmp_path / "run", slice(devices)) == undisturbed


@pytest.mark.slow
def test_rows_of_longer_chunks_do_not_depend_on_the_number_of_devices(tmp_path):
    """Three at a time is another program than one at a time, whose last bits XLA is free to choose anew."""
    one, two = (compute(tmp_path / str(count), slice(count), per_device=3) for count in (1, 2))
    assert one == two


def test_rows_do_not_depend_on_which_were_there(tmp_path, undisturbed, capsys):
    path = tmp_path / "run"
    compute(path, slice(2))
    part = path / "finished_0.jsonl"
    lines = part.read_bytes().splitlines(keepends=True)
    assert len(lines) == 14
    kept = random.Random(0).sample(lines, 11)
    part.write_bytes(b"".join(kept) + lines[0][:40])
    (path / store.ROWS).write_text("damaged")
    assert compute(path, slice(4)) == undisturbed
    assert f"\n{len(kept)}/14 walks" in capsys.readouterr().out
    assert compute(path) == undisturbed
    assert "walks" not in capsys.readouterr().out  # a finished run is not computed again

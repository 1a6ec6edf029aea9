"""What a run notes of itself: its time over kills, and the command that repeats it."""

import dataclasses
import json
import sys

import pytest

from experiments.lab.run import store
from experiments.signal_gain import experiment as signal_gain


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "signal_gain"
    return signal_gain.Config(out=out, seeds=12, width=16, layers=4, negative_slopes=(0.0, 0.2))


def noted(config, *flags):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["signal_gain", *flags])
        signal_gain.run(config)
    about = json.loads((config.out / "environment.json").read_text())
    assert f"Took {about['seconds']} s on" in (config.out / "summary.md").read_text()
    return about, (config.out / store.ROWS).read_bytes()


@pytest.mark.slow
def test_a_run_that_was_stopped_knows_what_all_its_processes_took(config, tmp_path):
    whole = noted(config)
    identity = json.loads((config.out / store.CONFIG).read_text())
    part = dataclasses.replace(config, out=tmp_path / "part")
    with store.open_run(config.out, identity) as folder, store.open_run(part.out, identity) as stopped:
        stopped.since -= 1000
        for run in range(5):
            stopped.save(run, folder.finished[run])
    about, rows = noted(part)
    assert 1000 <= about["seconds"] < 1100
    assert rows == whole[1]
    # Nothing is left to compute: the report alone is written again.
    assert noted(part)[0]["seconds"] == pytest.approx(about["seconds"], abs=1)
    assert noted(dataclasses.replace(part, so_far=True))[0]["seconds"] == about["seconds"]


def test_the_command_that_is_noted_removes_nothing(config):
    about, _ = noted(dataclasses.replace(config, fresh=True), "--fresh", "--out", "a folder/run")
    assert about["command"] == "python -m experiments.signal_gain --out 'a folder/run'"
    assert about["seconds"] >= 1
    assert "--fresh" not in (config.out / "summary.md").read_text()

"""What a run has finished can be reported with --so-far, wherever it was cut."""

import dataclasses
import importlib
import json
import re
from pathlib import Path

import pytest

from experiments.lab.run import experiment, sweep
from experiments.lab.show import plots

FAST = {
    "born_dead": {"networks": 500, "depths": (3, 4)},
    "collapse": {"seeds": 60, "steps": 20, "block": 20},
    "signal_gain": {"seeds": 3, "width": 16, "layers": 4},
    "learning_rate_map": {
        "negative_slopes": (0.0, 0.1, 0.2),
        "hidden": (8, 8),
        "steps": 8,
        "optimizers": ("sgd",),
    },
    "plasticity": {"seeds": 1, "tasks": 2, "every": 1, "hidden": (8,), "images": 50, "probe": 50},
}
SLOW = {
    "dead_neurons": {"steps": 16},
    "depth_profile": {"steps": 8, "hidden": (16, 16)},
    "gan_modes": {"seeds": 2, "steps": 20},
    "image_classification": {"steps": 4},
    "gan_images": {"steps": 4},
    "object_detection": {"steps": 4, "seeds": 2},
}
EXPERIMENTS = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


class Cut:
    """A finished smoke run, and reports from a part of its rows."""

    def __init__(self, name, out, monkeypatch):
        self.module = importlib.import_module(f"experiments.{name}.experiment")
        self.config = self.module.Config(
            out=out, **{**self.module.PRESETS["smoke"], **(FAST | SLOW)[name], "smoke": True}
        )
        # Every run asks for the same programs: traced once, and a figure is laid out but not written again.
        monkeypatch.setattr(experiment, "fingerprint", _once(sweep.fingerprint))
        self.module.run(self.config)
        monkeypatch.setattr(plots, "save", lambda figure, _: figure.draw_without_rendering())
        self.part = out / "finished_0.jsonl"
        self.rows = sorted(self.part.read_text().splitlines(), key=lambda line: json.loads(line)["run"])

    def report(self, rows):
        """The page of those rows alone."""
        self.part.write_text("".join(f"{line}\n" for line in rows))
        self.module.run(dataclasses.replace(self.config, so_far=True))
        summary = (self.config.out / "summary.md").read_text()
        missing = len(self.rows) - len(rows)
        assert (f"Cut short: {missing} runs of the sweep are missing." in summary) == bool(missing)
        return summary


def _once(function):
    kept = []

    def call(*arguments):
        if not kept:
            kept.append(function(*arguments))
        return kept[0]

    return call


@pytest.fixture(scope="module", params=EXPERIMENTS)
def cut(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Cut(request.param, tmp_path_factory.mktemp("cut") / request.param, monkeypatch)


def test_every_experiment_with_the_flag_is_here():
    scripts = Path(experiment.__file__).parents[2].glob("*/experiment.py")
    with_flags = {
        path.parent.name for path in scripts if re.search(r"class Config\(Flags\)", path.read_text())
    }
    assert with_flags - {"pretrained"} == {*FAST, *SLOW}  # that one has no sweep


@pytest.mark.parametrize("finished", [1, 2, 3, 0.5, -1])
def test_a_report_of_what_is_finished(cut, finished):
    count = round(len(cut.rows) * finished) if isinstance(finished, float) else finished
    cut.report(cut.rows[:count])


def test_a_report_of_what_damage_has_left(cut):
    """Without the first rows, which are ReLU's or the baseline's in most experiments."""
    cut.report(cut.rows[-1:])
    cut.report(cut.rows[1:])


@pytest.mark.slow
def test_a_report_of_every_prefix(cut):
    for count in range(1, len(cut.rows) + 1):
        cut.report(cut.rows[:count])

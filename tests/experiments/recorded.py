"""The committed runs, read once, and their reports written again from all of their rows or some."""

import dataclasses
import functools
import importlib
import json
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.lab.run import experiment
from experiments.lab.run.experiment import Outcome
from experiments.lab.show import plots

ROOT = Path(experiment.__file__).parents[3]
EXPERIMENTS = ROOT / "experiments"
NAMES = sorted(path.parents[1].name for path in EXPERIMENTS.glob("*/results/rows.jsonl"))


def summary_of(name):
    return (EXPERIMENTS / name / "results" / "summary.md").read_text(encoding="utf-8")


@functools.cache
def rows_of(name):
    lines = (EXPERIMENTS / name / "results" / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def arguments(name, config):
    """What a report is given beside the rows: of the data no more than what the summary says of it."""
    summary = summary_of(name)
    source = re.search(r"^Data: (.*)\.$", summary, re.MULTILINE)
    counts = re.search(r"([\d,]+) train and ([\d,]+) test images", summary)
    train, test = (int(count.replace(",", "")) for count in counts.groups()) if counts else (0, 0)
    if name == "gan_images":
        entropy, accuracy, floor = re.search(
            r"of the test images ([\d.]+)\).* classifies ([\d.]+) %.*images' own is (\d+\.\d+)\.", summary
        ).groups()
        judge = SimpleNamespace(entropy=float(entropy), accuracy=float(accuracy) / 100, floor=float(floor))
        return judge, source[1], np.zeros((1, config.side, config.side))
    canvases = SimpleNamespace(
        pixels=np.zeros((9, 64, 64)), boxes=np.zeros((9, 1, 4)), classes=np.full((9, 1), -1)
    )
    return {
        "dead_neurons": lambda: (source[1], test),
        "depth_profile": lambda: (source[1], train),
        "learning_rate_map": lambda: (source[1], test),
        "plasticity": lambda: (source[1],),
        "image_classification": lambda: (source[1],),
        "object_detection": lambda: (source[1], canvases),
        "pretrained": lambda: (None,),
        "remedies": lambda: (
            json.loads((EXPERIMENTS / name / "results" / "times.json").read_text()),
            source[1],
        ),
    }.get(name, tuple)()


def recorded_config(name, out):
    """The configuration that config.json tells; a setting that a run has worked out is left as the default."""
    module = importlib.import_module(f"experiments.{name}.experiment")
    noted = json.loads((EXPERIMENTS / name / "results" / "config.json").read_text())
    fields = {field.name for field in dataclasses.fields(module.Config)} & set(noted)
    values = {key: noted[key] for key in fields if not isinstance(noted[key], dict)}
    return module.Config(
        out=out,
        **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()},
    )


def picture_of(name, picture):
    """The committed picture, which stands for what would be drawn; a byte where there is none."""
    committed = EXPERIMENTS / name / "results" / picture
    return committed.read_bytes() if committed.exists() else b"-"


def write_summary(name, rows, out, *, missing=0, draw=False):
    """The summary of those rows; its figures are laid out if told, and none is written.

    Args:
        name: experiment.
        rows: records, in the order of the sweep.
        out: folder for what is written.
        missing: number of rows of the sweep that are not there.
        draw: whether the figures are laid out.
    """
    report = importlib.import_module(f"experiments.{name}.report")
    about = json.loads((EXPERIMENTS / name / "results" / "environment.json").read_text())

    def without_drawing(*given, figures, **named):
        if draw:
            for _, _, figure in figures:
                figure().draw_without_rendering()
        experiment.write_up(
            *given, figures=[(picture, caption, lambda: None) for picture, caption, _ in figures], **named
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "write_up", without_drawing)
        patch.setattr(plots, "save", lambda _, path: path.write_bytes(picture_of(name, path.name)))
        patch.setattr(sys, "argv", ["", *shlex.split(about["command"])[3:]])
        config = recorded_config(name, out)
        report.report(config, Outcome(rows, about["seconds"], missing), *arguments(name, config))
    return (out / "summary.md").read_text(encoding="utf-8")

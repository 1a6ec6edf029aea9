"""The committed results: each summary says what its rows say, and the tables of the READMEs what the summaries say."""

import dataclasses
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

pytest.importorskip("matplotlib")  # without it a summary says so in place of its figures

ROOT = Path(experiment.__file__).parents[3]
EXPERIMENTS = ROOT / "experiments"
NAMES = sorted(path.parents[1].name for path in EXPERIMENTS.glob("*/results/rows.jsonl"))
NUMBER = r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?"


def arguments(name, config, summary):
    """What a report is given beside the rows: of the data no more than what the summary says of it."""
    source = re.search(r"^Data: (.*)\.$", summary, re.MULTILINE)
    counts = re.search(r"([\d,]+) train and ([\d,]+) test images", summary)
    train, test = (int(count.replace(",", "")) for count in counts.groups()) if counts else (0, 0)
    if name == "gan_images":
        entropy, accuracy, floor = re.search(
            r"of the test images ([\d.]+)\).* classifies ([\d.]+) %.*images' own is (\d+\.\d+)\.", summary
        ).groups()
        judge = SimpleNamespace(entropy=float(entropy), accuracy=float(accuracy) / 100, floor=float(floor))
        return judge, source[1], np.zeros((1, config.side, config.side))
    return {
        "dead_neurons": lambda: (source[1], test),
        "depth_profile": lambda: (source[1], train),
        "learning_rate_map": lambda: (source[1], test),
        "plasticity": lambda: (source[1],),
        "image_classification": lambda: (source[1],),
        "object_detection": lambda: (source[1], None),
        "pretrained": lambda: (None,),
    }.get(name, tuple)()


def recorded_config(module, name, out):
    """The configuration that config.json tells; a setting that a run has worked out is left as the default."""
    noted = json.loads((EXPERIMENTS / name / "results" / "config.json").read_text())
    fields = {field.name for field in dataclasses.fields(module.Config)} & set(noted)
    values = {key: noted[key] for key in fields if not isinstance(noted[key], dict)}
    return module.Config(
        out=out,
        **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()},
    )


def without_what_it_took(summary):
    return [line for line in summary.splitlines() if not line.startswith(("Took ", "Made on "))]


@pytest.mark.parametrize("name", NAMES)
def test_a_summary_is_what_the_recorded_rows_give(name, tmp_path, monkeypatch):
    module = importlib.import_module(f"experiments.{name}.experiment")
    report = importlib.import_module(f"experiments.{name}.report")

    def without_drawing(*given, figures, **named):
        blank = [
            (picture, caption, lambda: plots.panels(1, 1, "", "", width=2, height=2)[0])
            for picture, caption, _ in figures
        ]
        experiment.write_up(*given, figures=blank, **named)

    monkeypatch.setattr(report, "write_up", without_drawing)
    committed = (EXPERIMENTS / name / "results" / "summary.md").read_text()
    about = json.loads((EXPERIMENTS / name / "results" / "environment.json").read_text())
    monkeypatch.setattr(sys, "argv", ["", *shlex.split(about["command"])[3:]])
    config = recorded_config(module, name, tmp_path)
    rows = [
        json.loads(line) for line in (EXPERIMENTS / name / "results" / "rows.jsonl").read_text().splitlines()
    ]
    report.report(config, Outcome(rows, about["seconds"], 0), *arguments(name, config, committed))
    again = (tmp_path / "summary.md").read_text()
    assert without_what_it_took(again) == without_what_it_took(committed)
    pictures = set(re.findall(r"\]\((\w+\.png)\)", committed))
    assert pictures == {path.name for path in (EXPERIMENTS / name / "results").glob("*.png")}


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_run_tells_how_long_it_took_and_how_to_repeat_it(name):
    about = json.loads((EXPERIMENTS / name / "results" / "environment.json").read_text())
    assert about["seconds"] > 0
    assert about["command"].startswith(f"python -m experiments.{name}")
    assert "--fresh" not in about["command"]
    assert f"Took {about['seconds']} s on " in (EXPERIMENTS / name / "results" / "summary.md").read_text()


def rows_of_the_tables():
    """(experiment, the cell of measured figures) of each row in a README that names a recorded experiment."""
    for path, column in ((ROOT / "experiments" / "README.md", 3), (ROOT / "README.md", 2)):
        for line in path.read_text(encoding="utf-8").splitlines():
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            named = re.search(r"(\w+)/results/summary\.md|`(\w+)`", cells[0]) if cells else None
            name = named and (named[1] or named[2])
            if name in NAMES:
                yield pytest.param(name, cells[column], id=f"{path.parent.name}-{name}")


def figures_of(text):
    return [float(number.replace(",", "")) for number in re.findall(NUMBER, text)]


@pytest.mark.parametrize(("name", "measured"), list(rows_of_the_tables()))
def test_a_figure_of_a_readme_is_in_the_summary(name, measured):
    """Figures with a decimal: rounded, the end of an interval, or a setting of the script; the sign is not compared.

    A figure can be there by chance: this finds rows that were not brought up to date, and proves none.
    """
    summary = (EXPERIMENTS / name / "results" / "summary.md").read_text()
    there = figures_of(summary) + figures_of((EXPERIMENTS / name / "experiment.py").read_text())
    ends = [
        mean + sign * half
        for mean, half in (figures_of(pair) for pair in re.findall(rf"{NUMBER} ± {NUMBER}", summary))
        for sign in (1, -1)
    ]
    for text in re.findall(NUMBER, measured):
        if "." in text:
            decimals, _, exponent = text.partition(".")[2].partition("e")
            unit = 10.0 ** (int(exponent or 0) - len(decimals))
            figure = abs(float(text.replace(",", "")))
            near = [abs(abs(one) - figure) <= 0.51 * unit for one in there]
            near += [abs(abs(one) - figure) <= 1.01 * unit for one in ends]  # both of its parts are rounded
            assert any(near), f"{text} is not in the summary of {name}"

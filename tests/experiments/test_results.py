"""The committed results: each summary says what its rows say, and the tables of the READMEs what the summaries say."""

import json
import re

import pytest

from tests.experiments.recorded import EXPERIMENTS, NAMES, ROOT, rows_of, summary_of, write_summary

pytest.importorskip("matplotlib")  # without it a summary says so in place of its figures

NUMBER = r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?"


def without_what_it_took(summary):
    return [line for line in summary.splitlines() if not line.startswith(("Took ", "Made on "))]


@pytest.mark.parametrize("name", NAMES)
def test_a_summary_is_what_the_recorded_rows_give(name, tmp_path):
    committed = summary_of(name)
    again = write_summary(name, rows_of(name), tmp_path)
    assert without_what_it_took(again) == without_what_it_took(committed)
    pictures = set(re.findall(r"\]\((\w+\.png)\)", committed))
    assert pictures == {path.name for path in (EXPERIMENTS / name / "results").glob("*.png")}


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_run_tells_how_long_it_took_and_how_to_repeat_it(name):
    about = json.loads((EXPERIMENTS / name / "results" / "environment.json").read_text())
    assert about["seconds"] > 0
    assert about["command"].startswith(f"python -m experiments.{name}")
    assert "--fresh" not in about["command"]
    assert f"Took {about['seconds']} s on " in summary_of(name)


def rows_of_the_tables():
    """(experiment, the cell of measured figures) of each row in a README that names a recorded experiment."""
    for page, column in (("experiments/README.md", 3), ("README.md", 1)):
        for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            named = re.search(r"(\w+)/results/summary\.md", line) if cells else None
            if named:
                yield pytest.param(named[1], cells[column], id=f"{page}-{named[1]}")


def figures_of(text):
    return [float(number.replace(",", "")) for number in re.findall(NUMBER, text)]


@pytest.mark.parametrize(("name", "measured"), list(rows_of_the_tables()))
def test_a_figure_of_a_readme_is_in_the_summary(name, measured):
    """Figures with a decimal: rounded, the end of an interval, or a setting of the script; the sign is not compared.

    A figure can be there by chance: this finds rows that were not brought up to date, and proves none.
    """
    summary = summary_of(name)
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

"""The benchmarks' recorded tables say what their recorded figures say, and README says what these say."""

import importlib
import json
import re
from pathlib import Path

import pytest

from experiments.benchmark.__main__ import MODULES

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "benchmark" / "results"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def recorded(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def cells_of(first):
    """The cells after the first one in the README's table row that begins with it."""
    rows = [line for line in README.splitlines() if line.startswith(f"| {first}")]
    assert len(rows) == 1, first
    return [cell.strip() for cell in rows[0].split("|")[2:-1]]


@pytest.mark.parametrize("name", ["ppo", "scaling", "sweep", "tracing", "widths"])
def test_a_table_is_what_the_figures_give(name):
    module = importlib.import_module(f"experiments.benchmark.{MODULES[name]}")
    committed = (RESULTS / f"{name}.md").read_text()
    assert module.to_markdown(recorded(name)) == committed


@pytest.mark.parametrize(
    ("name", "tables", "remarks"),
    [
        ("residuals", "residuals.tables", "residuals/tried"),
        ("networks", "networks.tables", "networks/found"),
    ],
)
def test_a_table_with_remarks_is_what_the_figures_give(name, tables, remarks):
    module = importlib.import_module(f"experiments.benchmark.{tables}")
    text = (ROOT / "experiments" / "benchmark" / f"{remarks}.md").read_text()
    assert module.to_markdown(recorded(name), text) == (RESULTS / f"{name}.md").read_text()


@pytest.mark.parametrize("name", sorted(path.stem for path in RESULTS.glob("*.md")))
def test_a_page_opens_with_its_answer_and_its_tables_bear_it_out(name):
    _, answer, rest = (RESULTS / f"{name}.md").read_text(encoding="utf-8").split("\n\n", 2)
    assert re.fullmatch(r"[A-Z][^\n]*\.", answer)
    said = re.findall(r"\d+\.\d+|\d+(?=%)", answer)
    assert said
    there = [float(figure) for figure in re.findall(r"\d+\.?\d*", rest.replace(",", ""))]
    overall = [value for value in recorded(name).values() if isinstance(value, float)]
    there += [scale * value for value in overall for scale in (1, 100)]
    for figure in said:
        unit = 10.0 ** -len(figure.partition(".")[2])
        rounded = any(abs(one - float(figure)) <= 0.51 * unit for one in there)
        assert rounded, f"{figure} is not on the page"


def measured(page):
    """What README's table says that stands on a page of the benchmarks."""
    rows = [line for line in README.splitlines() if line.endswith(f"({page}) |")]
    assert len(rows) == 1, page
    return rows[0].split("|")[2].strip()


def test_the_readme_says_what_networks_need():
    ratios = []
    for network in recorded("networks")["cpu"].values():
        theirs, ours = (
            next(one["temporary"] for one in network["figures"] if one["way"] == way and "temporary" in one)
            for way in ("jax.nn", "bits")
        )
        ratios.append(ours / theirs)
    assert len(ratios) == 5
    said = measured("experiments/benchmark/results/networks.md")
    assert said == f"{min(ratios):.2f} to {max(ratios):.2f} times"


def test_the_readme_says_in_how_many_blocks_bits_need_more():
    ratios = {}
    for platform, part in recorded("residuals").items():
        needs = {(row["block"], row["activation"]): row["temporary"] for row in part["figures"]}
        for block in {block for block, _ in needs}:
            ratios[platform, block] = needs[block, "bits"] / needs[block, "jax.nn"]
    more = {key[0]: ratio - 1 for key, ratio in ratios.items() if ratio > 1.001}
    assert set(more) == {"cpu", "tpu"}
    said = (
        f"In {len(ratios) - 2} of [{len(ratios)} compiled blocks]",
        f"one block on a TPU needs {more['tpu']:.0%} more",
        f"and one on a CPU {more['cpu']:.1%}",
    )
    text = " ".join(README.split()).replace(" %", "%")
    assert all(part in text for part in said)


def test_the_readme_says_what_counting_costs():
    ratios = sorted(case["step_ratio"]["median"] for case in recorded("tracing")["cases"])
    assert (
        measured("experiments/benchmark/results/tracing.md") == f"{ratios[0]:.2f} to {ratios[-1]:.2f} times"
    )

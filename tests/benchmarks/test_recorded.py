"""The benchmarks' recorded tables say what their recorded figures say, and README says what these say."""

import importlib
import json
import statistics
from pathlib import Path

import pytest

from experiments.benchmark.__main__ import MODULES
from experiments.benchmark.residuals.tables import by_block, ratio

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


@pytest.mark.parametrize("name", ["scaling", "sweep", "tracing", "widths"])
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


@pytest.mark.parametrize(("platform", "first"), [("cpu", "CPU, "), ("cuda", "H100, "), ("tpu", "TPU v5e, ")])
def test_the_readme_says_what_the_residuals_need(platform, first):
    figures = by_block(recorded("residuals")[platform])
    theirs, ours, worst, speed = cells_of(first)
    assert theirs == f"{ratio(figures, 'temporary', 'jax.nn', 'none')[0]:.2f}"
    assert ours == f"{ratio(figures, 'temporary', 'bits', 'none')[0]:.2f}"
    assert worst == f"{ratio(figures, 'temporary', 'bits', 'jax.nn')[1]:.2f}"
    took = ratio(figures, "megacycles" if platform == "tpu" else "time", "bits", "jax.nn")
    assert speed.startswith(f"{took[0]:.2f} ({took[1]:.2f})" if took else "not measured")


@pytest.mark.parametrize("network", recorded("networks")["cpu"])
def test_the_readme_says_what_the_networks_need(network):
    megabytes = []
    for platform in ("cpu", "cuda"):
        figures = recorded("networks")[platform][network]["figures"]
        bytes_of = {figure["way"]: figure["temporary"] for figure in figures if "temporary" in figure}
        megabytes += [bytes_of[way] / 1e6 for way in ("none", "jax.nn", "bits")]
    # Small ones with a decimal.
    assert cells_of(network) == [f"{value:,.{1 if value < 50 else 0}f}" for value in megabytes]


@pytest.mark.parametrize("case", recorded("widths")["cases"], ids=lambda case: case["width"])
def test_the_readme_says_how_fast_the_sweep_is(case):
    def median(first, second="one"):
        pairs = zip(case[first], case.get(second, [1] * len(case[first])), strict=True)
        return statistics.median(one / two for one, two in pairs)

    case["products"] = [rate * case["operations_per_network_step"] for rate in case["sweep"]]
    peers = ("eager, one process", "compiled, one process", "eager, one process a core")
    assert cells_of(f"{case['width']} |") == [
        f"{median('sweep'):,.0f}",
        *(f"{median('sweep', peer):.1f}" for peer in peers),
        *(f"{100 * median(*pair):.0f} %" for pair in (("products", "large"), ("bare", "large"))),
    ]


def test_the_readme_says_how_the_sweep_scales():
    rates = recorded("scaling")["rates"]
    one, two, eight = (
        f"{statistics.median(rates[name]):,.0f}" for name in ("1 device", "2 devices", "8 devices")
    )
    sentence = f"{one} network steps a second on one device, {two} on two, {eight} on eight"
    assert sentence in " ".join(README.split())


def test_the_readme_says_what_counting_costs():
    cases = recorded("tracing")["cases"]
    ratios = sorted(case["step_ratio"]["median"] for case in cases)
    extra = [case["temporary_bytes"]["counted"] - case["temporary_bytes"]["plain"] for case in cases]
    sentence = f"takes {ratios[0]:.2f} to {ratios[-1]:.2f} times as long as one that does not, and at most "
    _, _, rest = " ".join(README.split()).partition(sentence)
    assert 0 < max(extra) / 1e3 <= int(rest.split()[0])

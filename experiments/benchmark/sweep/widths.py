"""The sweep's rate by the width of the layers, against matrix products and PyTorch eager and compiled.

For each width, everything is measured in turns in one process, round by round: the sweep of experiments.dead_neurons
with Adam, two networks of a seed at a time, with its records and files; its matrix products alone, in XLA, on every
core at once, and the same with plain gradient descent; the best rate of large products; PyTorch without any records.
Compilation is never counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.benchmark.sweep import matrix_rate
from experiments.benchmark.sweep.benchmark import NO_TORCH, operations_per_network, torch_rate
from experiments.dead_neurons import experiment as dead_neurons
from experiments.lab.data import batches
from experiments.lab.data import datasets as data
from experiments.lab.run import devices, store
from experiments.lab.run.progress import progress
from experiments.lab.run.sweep import compile_groups, execute
from experiments.lab.show.table import markdown, show_markdown

RESULTS = Path(__file__).parents[1] / "results"
COMMAND = "python -m experiments.benchmark widths --record"
NETWORKS = 2
_PEERS = ("eager, one process", "compiled, one process", "eager, one process a core")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This benchmark's flags."""
    parser.set_defaults(prepare=devices.use_all_cores)
    parser.add_argument(
        "--widths",
        type=int,
        nargs="+",
        default=[32, 64, 128, 256, 512],
        help="widths of the four hidden layers; default: %(default)s",
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="measurements of each rate; default: %(default)s"
    )
    parser.add_argument(
        "--steps", type=int, default=256, help="training steps of a network; default: %(default)s"
    )
    parser.add_argument(
        "--record", action="store_true", help="write experiments/benchmark/results/widths.md and .json"
    )


def run(flags: argparse.Namespace) -> None:
    """Measures, prints, and writes the results where asked."""
    images = batches.images_of(data.load("embedded"))
    large = matrix_rate.candidates()
    with progress("rounds", len(flags.widths) * flags.rounds) as advance:
        cases = [measure(width, flags.rounds, flags.steps, images, large, advance) for width in flags.widths]
    results = {"command": COMMAND, "environment": devices.environment(), "cases": cases}
    text = to_markdown(results)
    show_markdown(text)
    if flags.record:
        store.write(RESULTS / "widths.json", store.dump(results, indent=2) + "\n")
        store.write(RESULTS / "widths.md", text)


def measure(
    width: int,
    rounds: int,
    steps: int,
    images: batches.Images,
    large: dict[str, Any],
    advance: Callable[[int], None],
) -> dict[str, Any]:
    """All rates of one width, a value per round: network steps a second, and operations a second of the products.

    Args:
        width: units of each hidden layer.
        rounds: number of rounds.
        steps: training steps of a network.
        images: data that the sweep trains on.
        large: functions that measure the rate of large products, by name.
        advance: function that is told of each round.
    """
    config = dataclasses.replace(
        dead_neurons.Config(), hidden=(width,) * 4, optimizers=("adam",), seeds=rounds, steps=steps
    )
    programs, placed = compile_groups(dead_neurons.groups_of(config), images)
    (program,) = programs
    layers = (images.train_images.shape[1], *config.hidden, 10)
    alone = matrix_rate.of_a_step(config.batch_size, layers)
    bare = matrix_rate.of_a_step(config.batch_size, layers, descent=True)
    torch = torch_rate(images, config)
    found: dict[str, list[float]] = {
        name: [] for name in ("sweep", "alone", "bare", "large", "large of XLA", *_PEERS)
    }
    with tempfile.TemporaryDirectory() as place, store.open_run(Path(place) / "run", {}) as folder:
        for seed in range(rounds):
            rates = {name: rate() for name, rate in large.items()}
            found["large"].append(max(rates.values()))
            found["large of XLA"].append(max(rate for name, rate in rates.items() if name.startswith("jax")))
            found["alone"].append(alone())
            found["bare"].append(bare())
            rows = [row for row, value in enumerate(program.group.runs) if value.seed == seed][:NETWORKS]
            began = time.perf_counter()
            execute(program, placed, folder, lambda _: None, 0, rows)
            found["sweep"].append(len(rows) * steps / (time.perf_counter() - began))
            if torch is not None:
                for name, compiled in zip(_PEERS, (False, True), strict=False):
                    found[name].append(torch.one_process(seed, (), compiled=compiled))
                found[_PEERS[2]].append(torch.one_per_core(seed, ()))
            advance(1)
    if torch is not None:
        torch.close()
    operations = operations_per_network(config, images.train_images.shape[1], len(images.test_labels)) / steps
    return {"width": width, "operations_per_network_step": operations, **found}


def to_markdown(results: dict[str, Any]) -> str:
    """The results for people."""
    about, cases = results["environment"], results["cases"]
    lines = [
        "# How fast the sweep trains, by width",
        "",
        _answer(cases),
        "",
        f"`{results['command']}`, {about['date'][:10]}, {about['cores']} cores of {about['processor']}, "
        f"jax {about['packages']['jax']}, Python {about['python']}; medians over {len(cases[0]['sweep'])} rounds, in "
        "brackets the least and the greatest. MLP 784 - 4 x width - 10, batches of 128, Adam. The ratios to PyTorch "
        "are of network steps a second, the sweep's with its records and PyTorch's without any. The shares are of "
        "the sweep's matrix products, its records' among them: of the best rate of large products in the same round, "
        "of the best that XLA reaches, and of the rate of the step's products in XLA with nothing between them. A bare "
        "step is these products and plain gradient descent, without activations, loss, images, records and Adam: a "
        "yardstick of what XLA leaves to gain.",
        "",
    ]
    header = [
        "width",
        "network steps/s",
        "share of large products",
        "share of XLA's large products",
        "share of its products alone",
        "a bare step's share of large products",
        *(f"/ PyTorch {name}" for name in _PEERS),
    ]
    rows = []
    for case in cases:
        rate = [value * case["operations_per_network_step"] for value in case["sweep"]]
        cells = [
            str(case["width"]),
            _of(case["sweep"], "{:,.0f}"),
            _of(_ratios(rate, case["large"]), "{:.0%}"),
            _of(_ratios(rate, case["large of XLA"]), "{:.0%}"),
            _of(_ratios(rate, case["alone"]), "{:.0%}"),
            _of(_ratios(case["bare"], case["large"]), "{:.0%}"),
            *(_of(_ratios(case["sweep"], case[name]), "{:.1f}") for name in _PEERS),
        ]
        rows.append(cells)
    lines += markdown(header, rows, 0)
    if not cases[0][_PEERS[0]]:
        lines += ["", NO_TORCH]
    return "\n".join(lines) + "\n"


def _answer(cases: list[dict[str, Any]]) -> str:
    ends = (cases[0], cases[-1])
    if not cases[0][_PEERS[0]]:
        rates = [f"{statistics.median(case['sweep']):,.0f} at width {case['width']}" for case in ends]
        return f"The sweep trains {' and '.join(rates)}, in network steps a second."
    first, last = (statistics.median(_ratios(case["sweep"], case[_PEERS[0]])) for case in ends)
    return (
        f"The sweep trains {first:.1f} times as many network steps a second as PyTorch eager in one process at width "
        f"{ends[0]['width']}, and {last:.1f} times as many at width {ends[1]['width']}."
    )


def _ratios(first: list[float], second: list[float]) -> list[float]:
    return [one / two for one, two in zip(first, second, strict=False)]


def _of(values: list[float], form: str) -> str:
    if not values:
        return "-"
    median, least, greatest = (
        form.format(value) for value in (statistics.median(values), min(values), max(values))
    )
    return f"{median} ({least} to {greatest})"

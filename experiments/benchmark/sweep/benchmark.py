"""The sweep's rate against the machine's matrix products and against PyTorch eager.

One process measures all three in turns, round by round, so that a neighbour on the machine disturbs them alike; a
round trains the networks of one seed, so that all rounds are the default grid of experiments.dead_neurons, with its
records and its files, without compilation. Reported are medians over the rounds, with the least and the greatest.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.benchmark.sweep import matrix_rate
from experiments.dead_neurons import experiment as dead_neurons
from experiments.lab.data import batches
from experiments.lab.data import datasets as data
from experiments.lab.run import devices, store
from experiments.lab.run.progress import progress
from experiments.lab.run.sweep import compile_groups, execute
from experiments.lab.show.table import markdown, show_markdown

if TYPE_CHECKING:
    from experiments.benchmark.sweep.torch_rate import TorchRate

_TORCH = "PyTorch eager, one process"
_TORCH_BARE = "PyTorch eager, one process, nothing recorded"
_TORCH_SPREAD = "PyTorch eager, one process a core"
_RATES = ("sweep", _TORCH, _TORCH_BARE, _TORCH_SPREAD)  # in network steps a second
NO_TORCH = "No comparison with PyTorch, which is not installed: pip install torch."
_TRIED = (
    "Tried and without gain beyond the noise, for this network: on an AMD EPYC the residuals `mask` and `output`, and "
    "`jax.nn.leaky_relu`; images kept as float32; a one-hot loss; unrolling two steps; oneDNN; XLA's optimisation "
    "levels 2 and 3, its fast math and its other schedulers; on an Intel Xeon again oneDNN, level 3, fast math and "
    "another scheduler, and vectors of 512 bits and fusions of several outputs. Slower: on the EPYC `optax.flatten`, "
    "XLA without XNNPACK or without its fusion emitters, YNN fusions of elementwise operations; on the Xeon the three "
    "slopes of a seed side by side (`vmap`), which makes one product of their first layers."
)
RESULTS = Path(__file__).parents[1] / "results"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This benchmark's flags."""
    parser.set_defaults(prepare=devices.use_all_cores)
    parser.add_argument(
        "--rounds", type=int, default=5, help="measurements of each rate; default: %(default)s"
    )
    parser.add_argument(
        "--record", action="store_true", help="write experiments/benchmark/results/sweep.md and .json"
    )


def operations_per_network(
    config: dead_neurons.Config, features: int, samples: int, classes: int = 10
) -> int:
    """Floating-point operations of all matrix products in one network's life, training steps and records.

    A training step takes forward, the weights' gradients and the inputs' gradients one product each per layer, but for
    the first layer's inputs, which need no gradient; a record needs no weights' gradients.

    Args:
        config: the experiment's configuration.
        features: number of pixels in an image.
        samples: number of test images on which a record evaluates the network.
        classes: number of units in the last layer.
    """
    widths = (features, *config.hidden, classes)
    products = [inputs * outputs for inputs, outputs in itertools.pairwise(widths)]
    step = 2 * config.batch_size * (3 * sum(products) - products[0])
    record = 2 * samples * (2 * sum(products) - products[0])
    return config.steps * step + len(dead_neurons.recorded_steps(config.steps)) * record


def run(flags: argparse.Namespace) -> None:
    """Measures, prints, and writes the results where asked."""
    config = dataclasses.replace(dead_neurons.Config(), seeds=flags.rounds)
    images = batches.images_of(data.load())
    groups = dead_neurons.groups_of(config)
    torch = torch_rate(images, config)
    with (
        tempfile.TemporaryDirectory() as place,
        store.open_run(Path(place) / "run", {}) as folder,
        progress("rounds", flags.rounds) as advance,
    ):
        programs, placed = compile_groups(groups, images)
        rates = matrix_rate.candidates()
        found: dict[str, list[float]] = {name: [] for name in (*rates, *_RATES)}
        for seed in range(flags.rounds):
            for name, measure in rates.items():
                found[name].append(measure())
            began, counted = time.perf_counter(), list[int]()
            for first, program in enumerate(programs):
                rows = [row for row, value in enumerate(program.group.runs) if value.seed == seed]
                execute(program, placed, folder, counted.append, first * len(program.group.runs), rows)
            found["sweep"].append(sum(counted) * config.steps / (time.perf_counter() - began))
            if torch is not None:
                records = dead_neurons.recorded_steps(config.steps)
                found[_TORCH].append(torch.one_process(seed, records))
                found[_TORCH_BARE].append(torch.one_process(seed, ()))
                found[_TORCH_SPREAD].append(torch.one_per_core(seed, records))
            advance(1)
    operations = operations_per_network(config, images.train_images.shape[1], len(images.test_labels))
    results = summarize(found, operations / config.steps)
    if torch is not None:
        torch.close()
        results["torch_way"] = torch.way
    results |= {
        "environment": devices.environment(),
        "command": "python -m experiments.benchmark sweep --record",
    }
    text = to_markdown(results)
    show_markdown(text)
    if flags.record:
        RESULTS.mkdir(exist_ok=True)
        store.write(RESULTS / "sweep.json", store.dump(results, indent=2) + "\n")
        store.write(RESULTS / "sweep.md", text)


def summarize(found: dict[str, list[float]], operations: float) -> dict[str, Any]:
    """Median, least and greatest of each measurement, and the two ratios that the sweep is judged by."""
    spread = {
        name: {"median": statistics.median(values), "least": min(values), "greatest": max(values)}
        for name, values in found.items()
        if values
    }
    products = {name: value for name, value in spread.items() if name not in _RATES}
    best = max(products, key=lambda name: products[name]["median"])
    # Of each round by itself, then the median: a slow round slows both sides of the ratio.
    shares = [sweep * operations / rate for sweep, rate in zip(found["sweep"], found[best], strict=True)]
    results: dict[str, Any] = {
        "operations_per_network_step": operations,
        "measurements": spread,
        "best_matrix_product": best,
        "share_of_best": statistics.median(shares),
        "rounds": len(shares),
    }
    for key, name in (
        ("times_torch", _TORCH),
        ("times_torch_without_records", _TORCH_BARE),
        ("times_torch_per_core", _TORCH_SPREAD),
    ):
        if found[name]:
            pairs = zip(found["sweep"], found[name], strict=True)
            results[key] = statistics.median(sweep / torch for sweep, torch in pairs)
    return results


def to_markdown(results: dict[str, Any]) -> str:
    """The results for people."""
    spread, operations = results["measurements"], results["operations_per_network_step"]

    def line(name: str, scale: float, unit: str) -> tuple[str, ...]:
        median, least, greatest = (spread[name][key] * scale for key in ("median", "least", "greatest"))
        return name, unit, f"{median:,.0f}", f"{least:,.0f} to {greatest:,.0f}"

    about = results["environment"]
    measured = [
        line("sweep", 1, "network steps/s"),
        line("sweep", operations / 1e9, "GFLOP/s of matrix products"),
        *(line(name, 1, "network steps/s") for name in _RATES[1:] if name in spread),
        *(line(name, 1e-9, "GFLOP/s") for name in spread if name not in _RATES),
    ]
    answer = (
        f"The sweep's matrix products run at {results['share_of_best']:.0%} of the best rate of large ones"
    )
    if "times_torch" in results:
        answer += f", and it trains {results['times_torch']:.1f} times as many network steps a second as PyTorch eager"
    lines = [
        "# How fast the sweep trains",
        "",
        f"{answer}.",
        "",
        f"`{results['command']}`, {about['date'][:10]}, {about['cores']} cores of {about['processor']}, "
        f"jax {about['packages']['jax']}, Python {about['python']}; medians over {results['rounds']} rounds.",
        "",
        f"* The sweep's matrix products run at {spread['sweep']['median'] * operations / 1e9:,.0f} GFLOP/s, in the "
        "time of all that it does, records and files included; the best rate of large ones is that of "
        f"{results['best_matrix_product']}.",
        "* PyTorch eager trains the same networks with the same records in one process, in its best way here "
        f"({results['torch_way']}). The sweep trains {results['times_torch_without_records']:.1f} times as many "
        "network steps a second as PyTorch without records, and "
        f"{results['times_torch_per_core']:.1f} times as many as one PyTorch process a core, side by side."
        if "times_torch" in results
        else f"* {NO_TORCH}",
        "",
        *markdown(("measured", "unit", "median", "least to greatest"), measured, 2),
        "",
        f"A network step is one batch of one network and takes {operations / 1e6:.1f} million operations in matrix "
        "products, its share of the network's records included.",
        "",
        _TRIED,
    ]
    return "\n".join(lines) + "\n"


def torch_rate(images: batches.Images, config: dead_neurons.Config) -> TorchRate | None:
    """PyTorch's measurements; None, said in a line, where it is not installed."""
    try:
        import torch  # noqa: F401  only to know whether it is there
    except ImportError:
        print(NO_TORCH)
        return None
    from experiments.benchmark.sweep.torch_rate import TorchRate

    return TorchRate(images, config, devices.cores())

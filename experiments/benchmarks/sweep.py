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
from typing import Any

from experiments import dead_neurons
from experiments.benchmarks import matrix_rate
from experiments.lab import batches, data, devices, store
from experiments.lab.sweep import compile_groups, execute

NO_TORCH = (
    "PyTorch is not installed: no comparison with it; pip install torch, and the same command makes it."
)
RESULTS = Path(__file__).parent.parent / "results"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This benchmark's flags."""
    parser.add_argument(
        "--rounds", type=int, default=5, help="how often each is measured; default: %(default)s"
    )
    parser.add_argument(
        "--record", action="store_true", help="write experiments/results/benchmark_sweep.md and .json"
    )


def operations_per_step(config: dead_neurons.Config, features: int, classes: int = 10) -> int:
    """Floating-point operations of the matrix products of one training step of one network.

    Forward, the weights' gradients and the inputs' gradients take one product each per layer; the first layer's
    inputs need no gradient.
    """
    widths = (features, *config.hidden, classes)
    products = [inputs * outputs for inputs, outputs in itertools.pairwise(widths)]
    return 2 * config.batch_size * (3 * sum(products) - products[0])


def run(flags: argparse.Namespace) -> None:
    """Measures, prints, and writes the results where asked."""
    devices.use_all_cores()
    config = dataclasses.replace(dead_neurons.Config(), seeds=flags.rounds)
    images = batches.images_of(data.load())
    groups = dead_neurons.groups_of(config)
    programs, placed = compile_groups(groups, images)
    rates = matrix_rate.candidates()
    torch_way = _fastest_torch(images, config)
    found: dict[str, list[float]] = {name: [] for name in (*rates, "sweep", "torch")}
    with tempfile.TemporaryDirectory() as place, store.open_run(Path(place) / "run", {}) as folder:
        for seed in range(flags.rounds):
            for name, measure in rates.items():
                found[name].append(measure())
            began, counted = time.perf_counter(), list[int]()
            for first, program in enumerate(programs):
                rows = [row for row, value in enumerate(program.group.rows) if value.seed == seed]
                execute(program, placed, folder, counted.append, first * len(program.group.rows), rows)
            found["sweep"].append(sum(counted) * config.steps / (time.perf_counter() - began))
            if torch_way is not None:
                found["torch"].append(_torch_rate(images, config, torch_way, seed))
            print(
                f"round {seed + 1} of {flags.rounds}: {found['sweep'][-1]:,.0f} network steps/s", flush=True
            )
    results = summarize(found, operations_per_step(config, images.train_images.shape[1]))
    if torch_way is not None:
        results["torch_way"] = torch_way
    results |= {
        "environment": devices.environment(),
        "command": "python -m experiments.benchmark sweep --record",
    }
    text = to_markdown(results)
    print(text)
    if flags.record:
        RESULTS.mkdir(exist_ok=True)
        store.write(RESULTS / "benchmark_sweep.json", store.dump(results, indent=2) + "\n")
        store.write(RESULTS / "benchmark_sweep.md", text)


def summarize(found: dict[str, list[float]], operations: int) -> dict[str, Any]:
    """Median, least and greatest of each measurement, and the two ratios that the sweep is judged by."""
    spread = {
        name: {"median": statistics.median(values), "least": min(values), "greatest": max(values)}
        for name, values in found.items()
        if values
    }
    products = {name: value for name, value in spread.items() if name not in ("sweep", "torch")}
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
    if found["torch"]:
        pairs = zip(found["sweep"], found["torch"], strict=True)
        results["times_torch"] = statistics.median(sweep / torch for sweep, torch in pairs)
    return results


def to_markdown(results: dict[str, Any]) -> str:
    """The results for people."""
    spread, operations = results["measurements"], results["operations_per_network_step"]

    def line(name: str, scale: float, unit: str) -> str:
        median, least, greatest = (spread[name][key] * scale for key in ("median", "least", "greatest"))
        return f"| {name} | {median:,.0f} | {least:,.0f} to {greatest:,.0f} | {unit} |"

    about = results["environment"]
    lines = [
        "# How fast the sweep trains",
        "",
        f"`{results['command']}`, {about['date'][:10]}, {about['cores']} cores of {about['processor']}, "
        f"jax {about['packages']['jax']}, Python {about['python']}; medians over {results['rounds']} rounds.",
        "",
        f"* The sweep's training matrix products run at **{results['share_of_best']:.0%}** of the best rate measured "
        f"for large ones ({results['best_matrix_product']}), records and files included.",
        f"* It trains **{results['times_torch']:.1f} times** as many network steps a second as PyTorch eager, which "
        f"records nothing (its best of several ways: {results['torch_way']})."
        if "times_torch" in results
        else f"* {NO_TORCH}",
        "",
        "| measured | median | least to greatest | unit |",
        "| :-- | --: | --: | :-- |",
        line("sweep", 1, "network steps/s"),
        line("sweep", operations / 1e9, "GFLOP/s of training matrix products"),
        *([line("torch", 1, "network steps/s")] if "torch" in spread else []),
        *(line(name, 1e-9, "GFLOP/s") for name in spread if name not in ("sweep", "torch")),
        "",
        f"A network step is one batch of one network and takes {operations / 1e6:.1f} million operations in its matrix "
        "products.",
    ]
    return "\n".join(lines) + "\n"


def _fastest_torch(images: batches.Images, config: dead_neurons.Config) -> dict[str, Any] | None:
    """The number of threads and, per optimiser, the implementation that train the fastest; None without torch."""
    try:
        import torch
    except ImportError:
        print(NO_TORCH)
        return None
    from experiments.benchmarks import torch_mlp

    best: dict[str, Any] = {}
    least = float("inf")
    for threads in range(1, devices.cores() + 1):
        torch.set_num_threads(threads)
        ways: dict[str, Any] = {}
        seconds = 0.0
        for optimizer in config.optimizers:
            timed = []
            for how in torch_mlp.IMPLEMENTATIONS:
                times = [_torch_life(images, config, optimizer, 0.01, 0, how, steps=60) for _ in range(3)]
                timed.append((min(times), how))
            fastest = min(timed, key=lambda pair: pair[0])
            ways[optimizer], seconds = fastest[1], seconds + fastest[0]
        if seconds < least:
            least, best = seconds, {"threads": threads, **ways}
    torch.set_num_threads(best["threads"])
    return best


def _torch_life(
    images: batches.Images,
    config: dead_neurons.Config,
    optimizer: str,
    slope: float,
    seed: int,
    how: dict[str, bool],
    steps: int,
) -> float:
    from experiments.benchmarks import torch_mlp

    rate = dead_neurons.LEARNING_RATES[optimizer][0]
    return torch_mlp.train(images, config.hidden, slope, optimizer, rate, seed, steps, config.batch_size, how)


def _torch_rate(images: batches.Images, config: dead_neurons.Config, way: dict[str, Any], seed: int) -> float:
    """Network steps a second, over one network of each optimiser and activation."""
    steps, seconds, count = 200, 0.0, 0
    for optimizer in config.optimizers:
        for slope in config.negative_slopes:
            seconds += _torch_life(images, config, optimizer, slope, seed, way[optimizer], steps)
            count += steps
    return count / seconds

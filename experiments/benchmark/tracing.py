"""What one line of counting costs a jitted training step: time, memory and trace.

The steps with and without `value_and_census` run in turns in one process, so that a neighbour on the machine disturbs
them alike, and each ratio is of one round; reported are medians over the rounds with their quartiles. The rounds are
many and short because the speed of a shared machine changes by a tenth within seconds.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

from experiments.lab.run import devices, store
from experiments.lab.show.table import markdown
from jax_leaky import value_and_census

RESULTS = Path(__file__).parent / "results"
COMMAND = "python -m experiments.benchmark tracing --record"
_WAYS = ("plain", "counted")


class MLP(nn.Module):
    """784-512-512-512-512-10."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """The logits."""
        for _ in range(4):
            x = nn.relu(nn.Dense(512)(x))
        return nn.Dense(10)(x)


class CNN(nn.Module):
    """Three 3x3 convolutions of 32, 64 and 128 channels, each with its half pooling."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """The logits."""
        for channels in (32, 64, 128):
            x = nn.max_pool(nn.relu(nn.Conv(channels, (3, 3))(x)), (2, 2), (2, 2))
        return nn.Dense(10)(x.mean((1, 2)))


class Transformer(nn.Module):
    """Four pre-norm blocks of width 256 with GELU."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """The logits."""
        for _ in range(4):
            x += nn.MultiHeadDotProductAttention(8)(nn.LayerNorm()(x))
            x += nn.Dense(256)(nn.gelu(nn.Dense(1024)(nn.LayerNorm()(x))))
        return nn.Dense(10)(nn.LayerNorm()(x).mean(1))


class Case(NamedTuple):
    """A model, the shape of its batch, and what README calls it."""

    name: str
    model: nn.Module
    shape: tuple[int, ...]


CASES = (
    Case("MLP 784-4x512, batch 256", MLP(), (256, 784)),
    Case("CNN 32-64-128 on 32x32, batch 64", CNN(), (64, 32, 32, 3)),
    Case("transformer of 4 x 256, 8 x 128 tokens", Transformer(), (8, 128, 256)),
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This benchmark's flags."""
    parser.add_argument(
        "--rounds", type=int, default=61, help="how often each step is timed; default: %(default)s"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.1,
        help="how long one timing lasts, at the least; default: %(default)s",
    )
    parser.add_argument(
        "--record", action="store_true", help="write experiments/benchmark/results/tracing.md and .json"
    )


def train_step(
    model: nn.Module, optimizer: optax.GradientTransformation, counted: bool
) -> Callable[..., Any]:
    """The step of a classifier; with or without the line that is measured."""
    apply = value_and_census(model.apply) if counted else lambda params, x: (model.apply(params, x), None)

    def step(params: Any, state: Any, x: Array, labels: Array) -> Any:
        def loss_of(params: Any) -> Any:
            logits, counts = apply(params, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), counts

        (loss, counts), gradient = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, loss, counts

    return step


def run(flags: argparse.Namespace) -> None:
    """Measures, prints, and writes the results where asked."""
    results = {
        "command": COMMAND,
        "rounds": flags.rounds,
        "environment": devices.environment(),
        "cases": [measure(case, flags.rounds, flags.seconds) for case in CASES],
    }
    text = to_markdown(results)
    print(text)
    if flags.record:
        RESULTS.mkdir(exist_ok=True)
        store.write(RESULTS / "tracing.json", store.dump(results, indent=2) + "\n")
        store.write(RESULTS / "tracing.md", text)


def measure(case: Case, rounds: int, seconds: float) -> dict[str, Any]:
    """The figures of one model."""
    optimizer = optax.adam(1e-3)
    x = jax.random.normal(jax.random.key(0), case.shape)
    labels = jnp.arange(len(x)) % 10
    params = case.model.init(jax.random.key(1), x)
    arguments = (params, optimizer.init(params), x, labels)

    def jitted(way: str) -> Any:
        return jax.jit(train_step(case.model, optimizer, way == "counted"), donate_argnums=(0, 1))

    steps = {way: jitted(way).lower(*arguments).compile() for way in _WAYS}
    lives = {way: _Life(step, jax.tree.map(jnp.copy, arguments)) for way, step in steps.items()}
    times: dict[str, list[float]] = {way: [] for way in _WAYS}
    traces: dict[str, list[float]] = {way: [] for way in _WAYS}
    repeats = max(1, math.ceil(seconds / min(lives["plain"].run(3) for _ in range(2))))
    for index in range(rounds):
        for way in _WAYS[:: 1 if index % 2 else -1]:  # neither always follows the other
            times[way].append(lives[way].run(repeats))
    for index in range(rounds // 4 + 1):
        for way in _WAYS[:: 1 if index % 2 else -1]:
            began = time.perf_counter()
            jitted(way).trace(*arguments)
            traces[way].append(time.perf_counter() - began)
    memory = {way: step.memory_analysis() for way, step in steps.items()}
    counts = lives["counted"].counts
    return {
        "name": case.name,
        "sites": len(counts),
        "units": sum(site.units for site in counts),
        "activations": sum(site.units * site.n for site in counts),
        "step_seconds": {way: spread(values) for way, values in times.items()},
        "step_ratio": spread(_ratios(times)),
        "trace_seconds": {way: spread(values) for way, values in traces.items()},
        "trace_ratio": spread(_ratios(traces)),
        "temporary_bytes": {way: found.temp_size_in_bytes for way, found in memory.items()},
        "counts_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(counts)),
    }


class _Life:
    """A training that goes on whenever it is timed."""

    def __init__(self, step: Any, arguments: Any) -> None:
        self._step = step
        self._params, self._state, *self._batch = arguments
        self.counts: Any = None

    def run(self, steps: int) -> float:
        """Seconds a step."""
        began = time.perf_counter()
        for _ in range(steps):
            self._params, self._state, loss, self.counts = self._step(self._params, self._state, *self._batch)
        jax.block_until_ready((self._params, loss, self.counts))
        return (time.perf_counter() - began) / steps


def _ratios(measured: dict[str, list[float]]) -> list[float]:
    return [counted / plain for plain, counted in zip(measured["plain"], measured["counted"], strict=True)]


def spread(values: list[float]) -> dict[str, float]:
    """The median and the quartiles."""
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return {"median": statistics.median(values), "low": low, "high": high}


def to_markdown(results: dict[str, Any]) -> str:
    """The results for people."""
    about = results["environment"]
    lines = [
        "# What counting costs a training step",
        "",
        f"`{results['command']}`, {about['date'][:10]}, {about['cores']} cores of {about['processor']}, "
        f"jax {about['packages']['jax']}, Python {about['python']}; medians over {results['rounds']} rounds (a quarter "
        "of them for the trace), in brackets the quartiles. The step is forward, backward and Adam, in float32; "
        "counted, it also returns the counts of every unit of every site.",
        "",
    ]
    header = (
        "model",
        "sites, units",
        "step",
        "counted / plain",
        "temporary memory",
        "more for counting",
        "trace",
    )
    rows = []
    for case in results["cases"]:
        plain, counted = (case["temporary_bytes"][way] for way in _WAYS)
        cells = (
            case["name"],
            f"{case['sites']}, {case['units']:,}",
            f"{case['step_seconds']['plain']['median'] * 1e3:.1f} ms",
            _with_quartiles(case["step_ratio"], 3),
            f"{plain / 1e6:.1f} MB",
            f"{(counted - plain) / 1e3:+.1f} kB ({(counted - plain) / case['units']:+.0f} bytes a unit)",
            f"{case['trace_seconds']['plain']['median'] * 1e3:.0f} ms",
            _with_quartiles(case["trace_ratio"], 2),
        )
        rows.append(cells)
    return "\n".join([*lines, *markdown((*header, "counted / plain"), rows)]) + "\n"


def _with_quartiles(value: dict[str, float], digits: int) -> str:
    return f"{value['median']:.{digits}f} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"

"""What one line of counting costs a jitted training step: time, memory and trace.

The steps with and without `value_and_census` run in turns in one process, so that a neighbour on the machine disturbs
them alike, and each ratio is of one round; reported are medians over the rounds with their quartiles. The rounds are
many and short because the speed of a shared machine changes by a tenth within seconds. On a CPU all run on one core:
threads that wait for each other would spread the ratios over a tenth and more.

Where in memory its arrays lie makes a step up to 2 % slower for as long as it lives, so that two plain steps differ by
as much. Each round therefore has new copies of the arrays, made in an order drawn by chance; and the plain step, which
runs as a second program too, shows how far from 1 a ratio of equals may be.

A step of `census_every` is timed where it does not count and where it does. At k = 100 it costs 99 of the one kind and
one of the other.
"""

from __future__ import annotations

import argparse
import math
import random
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

from experiments.benchmark import first_census
from experiments.lab.run import devices, store
from experiments.lab.run.progress import progress
from experiments.lab.show.table import markdown, show_markdown
from jax_leaky import census_every, value_and_census

RESULTS = Path(__file__).parent / "results"
COMMAND = "python -m experiments.benchmark tracing --record"
_EVERY = 100
_STEPS_APART = {"between": 2**30, "every": 1}  # the first step counts alone, or all do
_WAYS = ("plain", "again", "counted", *_STEPS_APART)


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
    parser.set_defaults(prepare=devices.use_one_core)
    parser.add_argument("--rounds", type=int, default=121, help="timings of each step; default: %(default)s")
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.1,
        help="least length of one timing; default: %(default)s",
    )
    parser.add_argument(
        "--first-rounds", type=int, default=3, help="timings of each first census; default: %(default)s"
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


def step_of_every(
    steps: int, model: nn.Module, optimizer: optax.GradientTransformation, *arguments: Any
) -> tuple[Callable[..., Any], Any]:
    """The step of a classifier that `census_every` counts after so many steps again; and its first state."""
    step = train_step(model, optimizer, counted=True)

    def counted(*arguments: Any) -> Any:
        *result, counts = step(*arguments)
        return result, counts

    every = census_every(steps, counted)

    def step_of(params: Any, states: Any, x: Array, labels: Array) -> Any:
        (params, state, loss), census_state = every(states[1], params, states[0], x, labels)
        return params, (state, census_state), loss, None

    return step_of, every.init(*arguments)


def run(flags: argparse.Namespace) -> None:
    """Measures, prints, and writes the results where asked."""
    total = len(CASES) * flags.rounds + len(first_census.MODELS) * flags.first_rounds
    with progress("rounds", total) as advance:
        results = {
            "command": COMMAND,
            "rounds": flags.rounds,
            "environment": devices.environment(),
            "cases": [measure(case, flags.rounds, flags.seconds, advance) for case in CASES],
            "first": [
                first_census.measure(name, model, shape, flags.first_rounds, advance)
                for name, model, shape in first_census.MODELS
            ],
        }
    text = to_markdown(results)
    show_markdown(text)
    if flags.record:
        RESULTS.mkdir(exist_ok=True)
        store.write(RESULTS / "tracing.json", store.dump(results, indent=2) + "\n")
        store.write(RESULTS / "tracing.md", text)


def measure(
    case: Case, rounds: int, seconds: float, advance: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """The figures of one model; `advance` is told of each round."""
    optimizer = optax.adam(1e-3)
    x = jax.random.normal(jax.random.key(0), case.shape)
    labels = jnp.arange(len(x)) % 10
    params = case.model.init(jax.random.key(1), x)
    given = (params, optimizer.init(params), x, labels)
    bodies = {way: train_step(case.model, optimizer, way == "counted") for way in _WAYS[:3]}
    arguments = dict.fromkeys(_WAYS, given)
    for way, apart in _STEPS_APART.items():
        bodies[way], census_state = step_of_every(apart, case.model, optimizer, *given)
        arguments[way] = (params, (given[1], census_state), x, labels)

    def jitted(way: str) -> Any:
        # A new function each time, of which JAX keeps no trace.
        return jax.jit(lambda *given: bodies[way](*given), donate_argnums=(0, 1))

    steps = {way: jitted(way).lower(*arguments[way]).compile() for way in _WAYS}
    times: dict[str, list[float]] = {way: [] for way in _WAYS}
    traces: dict[str, list[float]] = {way: [] for way in _WAYS}
    chance = random.Random(0)
    repeats = 3
    for index in range(rounds + 1):
        lives = {way: _Life(steps[way], arguments[way]) for way in chance.sample(_WAYS, len(_WAYS))}
        for way in chance.sample(_WAYS, len(_WAYS)):
            taken = lives[way].run(repeats)
            if index:
                times[way].append(taken)
            elif way == "plain":  # the first round only tells how many steps fill the time
                repeats = max(1, math.ceil(seconds / taken))
        advance(min(index, 1))
    counts = lives["counted"].counts
    for _ in range(rounds // 8 + 1):
        for way in chance.sample(_WAYS, len(_WAYS)):
            began = time.perf_counter()
            jitted(way).trace(*arguments[way])
            traces[way].append(time.perf_counter() - began)
    memory = {way: step.memory_analysis() for way, step in steps.items()}
    every = [
        ((_EVERY - 1) * between + counted) / _EVERY
        for between, counted in zip(*(_ratios(times, way) for way in _STEPS_APART), strict=True)
    ]
    return {
        "name": case.name,
        "sites": len(counts),
        "units": sum(site.units for site in counts),
        "activations": sum(site.units * site.n for site in counts),
        "step_seconds": {way: spread(values) for way, values in times.items()},
        "step_ratio": spread(_ratios(times, "counted")),
        "again_ratio": spread(_ratios(times, "again")),
        "every_ratio": spread(every),
        "trace_seconds": {way: spread(values) for way, values in traces.items()},
        "trace_ratio": spread(_ratios(traces, "counted")),
        "temporary_bytes": {way: found.temp_size_in_bytes for way, found in memory.items()},
        "counts_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(counts)),
    }


class _Life:
    """A training with arrays of its own, one step after its start: with `_STEPS_APART`, the one that counts alone."""

    def __init__(self, step: Any, arguments: Any) -> None:
        self._step = step
        self._params, self._state, *self._batch = jax.tree.map(jnp.copy, arguments)
        self.counts: Any = None
        self.run(1)

    def run(self, steps: int) -> float:
        """Seconds a step."""
        began = time.perf_counter()
        for _ in range(steps):
            self._params, self._state, loss, self.counts = self._step(self._params, self._state, *self._batch)
        jax.block_until_ready((self._params, loss, self.counts))
        return (time.perf_counter() - began) / steps


def _ratios(measured: dict[str, list[float]], way: str) -> list[float]:
    return [other / plain for plain, other in zip(measured["plain"], measured[way], strict=True)]


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
        _answer(results),
        "",
        f"`{results['command']}`, {about['date'][:10]}, {about['cores']} core{'s' * (about['cores'] > 1)} of "
        f"{about['processor']}, "
        f"jax {about['packages']['jax']}, Python {about['python']}; medians over {results['rounds']} rounds (an "
        "eighth of them for the trace), in brackets the quartiles. The step is forward, backward and Adam, in float32; "
        "counted, it also returns the counts of every unit of every site.",
        "",
    ]
    header = (
        "model",
        "sites, units",
        "step",
        "plain / plain",
        "counted / plain",
        "temporary memory",
        "more for counting",
        "trace",
        "counted / plain",
    )
    rows = []
    for case in results["cases"]:
        plain, counted = (case["temporary_bytes"][way] for way in ("plain", "counted"))
        cells = [
            case["name"],
            f"{case['sites']}, {case['units']:,}",
            f"{case['step_seconds']['plain']['median'] * 1e3:.1f} ms",
            *(_with_quartiles(case[ratio], 3) for ratio in ("again_ratio", "step_ratio")),
            f"{plain / 1e6:.1f} MB",
            f"{(counted - plain) / 1e3:+.1f} kB ({(counted - plain) / case['units']:+.0f} bytes a unit)",
            f"{case['trace_seconds']['plain']['median'] * 1e3:.0f} ms",
            _with_quartiles(case["trace_ratio"], 2),
        ]
        if "first" in results:
            cells.append(_with_quartiles(case["every_ratio"], 3))
        rows.append(cells)
    if "first" not in results:  # recorded before these were measured
        return "\n".join([*lines, *markdown(header, rows)]) + "\n"
    lines += markdown((*header, f"counted every {_EVERY}th step / plain"), rows)
    lines += [
        "",
        "A first census beside jit of the same function; in brackets the quartiles of the rounds.",
        "",
    ]
    lines += first_census.to_markdown(results["first"], lambda ratios: _with_quartiles(spread(ratios), 2))
    return "\n".join(lines) + "\n"


def _answer(results: dict[str, Any]) -> str:
    def told(ratios: list[float]) -> str:
        return " to ".join(dict.fromkeys(f"{ratio:.2f}" for ratio in (min(ratios), max(ratios))))

    counted = told([case["step_ratio"]["median"] for case in results["cases"]])
    answer = f"A training step that counts its units takes {counted} times as long as one that does not"
    if "first" not in results:
        return f"{answer}."
    every = told([case["every_ratio"]["median"] for case in results["cases"]])
    first = told([first_census.times_jit(case) for case in results["first"]])
    return (
        f"{answer}, and {every} times where only every {_EVERY}th step counts; a first census takes {first} times as "
        "long as jit of the same function."
    )


def _with_quartiles(value: dict[str, float], digits: int) -> str:
    return f"{value['median']:.{digits}f} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"

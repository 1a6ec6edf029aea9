"""Seconds on the device at hand, in ten minutes: the op and its peers, a counted step, the sweep.

Gradients of the blocks and training steps of the networks with each activation, training steps with and without
`value_and_census`, and the networks of experiments.dead_neurons. The ways of one case run in turns, so that a neighbour
on the machine disturbs them alike. No case is begun once --minutes are over; the page says which were not.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmark import tracing
from experiments.benchmark.networks.cases import NETWORKS
from experiments.benchmark.networks.figures import Run, training
from experiments.benchmark.residuals.blocks import ACTIVATIONS, BLOCKS, Block
from experiments.benchmark.residuals.figures import ROWS
from experiments.dead_neurons import experiment as dead_neurons
from experiments.lab.data import batches
from experiments.lab.data import datasets as data
from experiments.lab.run import devices, store
from experiments.lab.run.progress import progress
from experiments.lab.run.sweep import compile_groups, execute
from experiments.lab.show.table import markdown, show_markdown

RESULTS = Path(__file__).parent / "results"
PARTS = ("blocks", "networks", "steps", "sweep")
_OF_BLOCKS = ("none", "relu", "jax.nn", "bits", "mask", "output")
_OF_NETWORKS = ("none", "jax.nn", "bits", "output")
_PEER = "jax.nn"  # what the others' times are told in


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This benchmark's flags."""
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=PARTS,
        metavar="PART",
        help=f"what is timed, of {', '.join(PARTS)}; default: all",
    )
    parser.add_argument("--rounds", type=int, default=7, help="timings of each case; default: %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=0.1, help="least length of one timing; default: %(default)s"
    )
    parser.add_argument(
        "--minutes", type=float, default=8, help="time after which no case is begun; default: %(default)s"
    )
    parser.add_argument(
        "--rows", type=int, help="rows of a block's input; default: those of the platform in `residuals`"
    )
    parser.add_argument(
        "--batch", type=int, help="examples in a network's batch; default: published, and on a CPU fewer"
    )
    parser.add_argument(
        "--training-steps",
        type=int,
        default=256,
        help="length of the sweep's trainings; default: %(default)s",
    )
    parser.add_argument(
        "--record", action="store_true", help="write experiments/benchmark/results/device_NAME.md and .json"
    )


def run(flags: argparse.Namespace) -> None:
    """Measures, prints, and writes the results where asked."""
    device = jax.devices()[0]
    # Products in float32 are not what an accelerator is bought for.
    dtype = jnp.float32 if device.platform == "cpu" else jnp.bfloat16
    ends = time.monotonic() + 60 * flags.minutes
    found: dict[str, dict[str, Any]] = {part: {} for part in PARTS if part in flags.parts}
    left: list[str] = []
    cases = [*_cases(flags, device.platform, dtype)]
    with progress("cases", len(cases)) as advance:
        for part, name, measure in cases:
            if time.monotonic() > ends:
                left.append(name)
            else:
                found[part][name] = measure()
            advance(1)
    results = {
        "command": f"python -m experiments.benchmark device --rounds {flags.rounds} --record",
        "device": device.device_kind,
        "dtype": jnp.dtype(dtype).name,
        "rounds": flags.rounds,
        "environment": devices.environment(),
        "left_out": left,
        **found,
    }
    text = to_markdown(results)
    show_markdown(text)
    if flags.record:
        name = re.sub(r"\W+", "_", device.device_kind.lower()).strip("_")
        store.write(RESULTS / f"device_{name}.json", store.dump(results, indent=2) + "\n")
        store.write(RESULTS / f"device_{name}.md", text)


def _cases(
    flags: argparse.Namespace, platform: str, dtype: Any
) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Each part, the name of one of its cases, and the function that measures it."""
    on_cpu = platform == "cpu"
    if "blocks" in flags.parts:
        rows = flags.rows or ROWS.get({"gpu": "cuda"}.get(platform, platform), ROWS["cuda"])
        for block in BLOCKS:
            yield "blocks", block.name, functools.partial(_block, block, rows, dtype, flags)
    if "networks" in flags.parts:
        for name, network in NETWORKS.items():
            batch = flags.batch or (network.timed_batch if on_cpu else network.batch)
            yield "networks", name, functools.partial(_network, name, batch, dtype, flags)
    if "steps" in flags.parts:
        for case in tracing.CASES:
            measure = functools.partial(tracing.measure, case, flags.rounds, flags.seconds)
            yield "steps", case.name, measure
    if "sweep" in flags.parts:
        yield "sweep", "dead_neurons", functools.partial(_sweep, flags.training_steps)


def _block(block: Block, rows: int, dtype: Any, flags: argparse.Namespace) -> dict[str, Any]:
    x, weights = block.arguments(rows, dtype)
    keys = iter(jax.random.split(jax.random.key(0), 9))
    values = jax.tree.map(lambda a: 0.02 * jax.random.normal(next(keys), a.shape, a.dtype), (x, weights))

    def way(name: str) -> Run:
        program = jax.jit(block.gradient(ACTIVATIONS[name])).lower(x, weights).compile()

        def run(calls: int) -> float:
            began = time.perf_counter()
            for _ in range(calls):
                out = program(*values)
            jax.block_until_ready(out)
            return (time.perf_counter() - began) / calls

        return run

    return {"rows": rows, "seconds": in_turns({name: way(name) for name in _OF_BLOCKS}, flags)}


def _network(name: str, batch: int, dtype: Any, flags: argparse.Namespace) -> dict[str, Any]:
    network = NETWORKS[name]
    programs = {way: network.compile(way, batch, dtype) for way in _OF_NETWORKS}
    ways = {way: training(network, program, batch, dtype) for way, program in programs.items()}
    return {"batch": batch, "seconds": in_turns(ways, flags)}


def in_turns(ways: dict[str, Run], flags: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each way, a value per round; the order turns with the rounds.

    Args:
        ways: functions from a number of calls to the seconds of one.
        flags: rounds, and the least seconds of one timing.
    """
    for run in ways.values():  # the first call of a program is longer than the others
        run(1)
    calls = max(1, math.ceil(flags.seconds / min(run(3) for run in ways.values())))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for turn in range(flags.rounds):
        first = turn % len(names)
        for name in [*names[first:], *names[:first]]:
            seconds[name].append(ways[name](calls))
    return seconds


def _sweep(steps: int) -> dict[str, Any]:
    """The rate of the default networks of dead_neurons, compiling left out."""
    config = dataclasses.replace(dead_neurons.Config(), steps=steps)
    groups = dead_neurons.groups_of(config)
    programs, placed = compile_groups(groups, batches.images_of(data.load("embedded")))
    done: list[int] = []
    with tempfile.TemporaryDirectory() as place, store.open_run(Path(place) / "run", {}) as folder:
        began = time.perf_counter()
        for index, program in enumerate(programs):
            runs = range(len(program.group.runs))
            execute(program, placed, folder, done.append, index * len(runs), runs)
        seconds = time.perf_counter() - began
    return {"networks": sum(done), "steps_a_second": sum(done) * steps / seconds}


def to_markdown(results: dict[str, Any]) -> str:
    """The results for people."""
    about = results["environment"]
    lines = [
        f"# Measured on {results['device']}",
        "",
        _answer(results),
        "",
        f"`{results['command']}`, {about['date'][:10]}, {about['cores']} cores of {about['processor']}, "
        f"jax {about['packages']['jax']}, Python {about['python']}; {results['dtype']}, medians over "
        f"{results['rounds']} rounds in turns, in brackets the quartiles.",
        "",
    ]
    for part, size, title, names in (
        ("blocks", "rows", "Gradient of a block: time of jax.nn's, and the others' over it.", _OF_BLOCKS),
        ("networks", "batch", "Training step of a network: likewise.", _OF_NETWORKS),
    ):
        if results.get(part):
            others = [name for name in names if name != _PEER]
            rows = [_line(name, case, size, others) for name, case in results[part].items()]
            lines += [title, "", *markdown(("", size, _PEER, *others), rows), ""]
    if results.get("steps"):
        rows = [
            [
                name,
                f"{case['step_seconds']['plain']['median'] * 1e3:.2f} ms",
                *(_spread(case[ratio]) for ratio in ("again_ratio", "step_ratio", "every_ratio")),
            ]
            for name, case in results["steps"].items()
        ]
        header = ("", "plain step", "plain / plain", "counted / plain", "every 100th counted / plain")
        lines += ["Training step that counts its units (float32).", "", *markdown(header, rows), ""]
    for case in results.get("sweep", {}).values():
        lines += [
            f"Sweep, {case['networks']} networks of dead_neurons: {case['steps_a_second']:,.0f} network steps/s.",
            "",
        ]
    if results["left_out"]:
        lines += [f"Left out, as the time was over: {'; '.join(results['left_out'])}.", ""]
    return "\n".join(lines)


def _answer(results: dict[str, Any]) -> str:
    told = []
    for part, what in (("blocks", "a block's gradient"), ("networks", "a network's training step")):
        if cases := results.get(part, {}).values():
            ratios = [_ratios(case["seconds"], "bits")["median"] for case in cases]
            told.append(
                f"with bits {what} takes {min(ratios):.2f} to {max(ratios):.2f} times as long as with jax.nn"
            )
    if cases := results.get("steps", {}).values():
        ratios = [case["step_ratio"]["median"] for case in cases]
        told.append(f"counting takes {min(ratios):.2f} to {max(ratios):.2f} times a plain training step")
    text = "; ".join(told) or "only the sweep was timed"
    return f"{text[0].upper()}{text[1:]}."


def _ratios(seconds: dict[str, list[float]], way: str) -> dict[str, float]:
    return tracing.spread([a / b for a, b in zip(seconds[way], seconds[_PEER], strict=True)])


def _line(name: str, case: dict[str, Any], size: str, others: Sequence[str]) -> list[str]:
    seconds = case["seconds"]
    cells = [_spread(_ratios(seconds, way)) for way in others]
    return [name, f"{case[size]:,}", f"{tracing.spread(seconds[_PEER])['median'] * 1e3:.2f} ms", *cells]


def _spread(value: dict[str, float]) -> str:
    return f"{value['median']:.2f} ({value['low']:.2f} to {value['high']:.2f})"

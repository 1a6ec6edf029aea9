"""Figures of compiled blocks, one JSON line each: what `python -m experiments.benchmark residuals` runs per platform.

A process of its own per platform, because a compiler for a device that is not there wants JAX to itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks import deviceless, hlo
from experiments.benchmarks.blocks import ACTIVATIONS, BLOCKS, REMAT_BLOCKS, UNITS, Block

# At 4096 rows a TPU v5e keeps every array in its 128 MiB of VMEM, and no choice needs any memory.
ROWS = {"cpu": 4096, "cuda": 4096, "tpu": 65536}
TIMED_ROWS = 1024
TIMED_ROWS_OF_CONVOLUTIONS = 128  # XLA's CPU backend takes seconds for a larger one inside a scan
LEAST_SECONDS = 0.25  # of a measurement: one call of 30 ms came out at 0.9 to 1.3 of another's time
DTYPES = {"cpu": jnp.float32, "cuda": jnp.bfloat16, "tpu": jnp.bfloat16}


def blocks_of(platform: str) -> tuple[Block, ...]:
    """The blocks that are measured there.

    For the TPU without those under remat, and unrolled with two layers: its compiler takes up to minutes for each.
    """
    if platform != "tpu":
        return BLOCKS + REMAT_BLOCKS
    return tuple(block if block.scanned else dataclasses.replace(block, layers=2) for block in BLOCKS)


def compile_block(platform: str, block: Block, activation: str, rows: int | None = None) -> Any:
    """The compiled gradient of a block."""
    sharding = deviceless.sharding(platform)
    arguments = block.arguments(rows or ROWS[platform], DTYPES[platform], sharding)
    return jax.jit(block.gradient(ACTIVATIONS[activation])).lower(*arguments).compile()


def figures(platform: str, block: Block, activation: str) -> dict[str, Any]:
    """What the compiler says about a block.

    `temporary` and `moved` are bytes per activation element and layer.
    """
    compiled = compile_block(platform, block, activation)
    cost = hlo.cost(compiled.as_text(), block.layers)
    elements = ROWS[platform] * UNITS * block.layers
    return {
        "platform": platform,
        "block": block.name,
        "layers": block.layers,
        "activation": activation,
        "temporary": compiled.memory_analysis().temp_size_in_bytes / elements,
        "moved": cost.bytes_moved / elements,
        "kernels": cost.kernels,
        "megacycles": cost.cycles / 1e6,
    }


def times(block: Block, activations: Sequence[str], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of each activation on the CPU, and its ratio to jax.nn in the same round: median, least, greatest.

    They run in turns, so that a neighbour on the machine disturbs them alike; the order turns with the rounds. A
    measurement is the mean of as many calls as take `LEAST_SECONDS`, of every activation the same number.
    """
    rows = TIMED_ROWS_OF_CONVOLUTIONS if block.body == "conv + bias" else TIMED_ROWS
    x, weights = block.arguments(rows, jnp.float32)
    keys = iter(jax.random.split(jax.random.key(0), 9))
    scale = x.shape[-1] ** -0.5 / 3 ** (block.body == "conv + bias")
    values = jax.tree.map(lambda a: scale * jax.random.normal(next(keys), a.shape, a.dtype), (x, weights))
    programs = {name: compile_block("cpu", block, name, rows) for name in activations}

    def seconds_of(name: str, calls: int = 1) -> float:
        began = time.perf_counter()
        for _ in range(calls):
            jax.block_until_ready(programs[name](*values))
        return (time.perf_counter() - began) / calls

    for name in programs:  # the first call of a program is longer than the others
        seconds_of(name)
    calls = math.ceil(LEAST_SECONDS / seconds_of("jax.nn"))
    seconds: dict[str, list[float]] = {name: [] for name in activations}
    for turn in range(rounds):
        first = turn % len(activations)
        for name in [*activations[first:], *activations[:first]]:
            seconds[name].append(seconds_of(name, calls))

    def spread(values: list[float]) -> list[float]:
        return [statistics.median(values), min(values), max(values)]

    return {
        name: {
            "seconds": spread(found),
            "times_jax_nn": spread([a / b for a, b in zip(found, seconds["jax.nn"], strict=True)]),
        }
        for name, found in seconds.items()
    }


def main() -> None:
    """The command line of one platform's process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("platform", choices=deviceless.DEVICES)
    parser.add_argument("--blocks", nargs="*", help="names of blocks; default: all")
    parser.add_argument("--activations", nargs="*", default=list(ACTIVATIONS))
    parser.add_argument("--rounds", type=int, default=0, help="how often each is timed (cpu only)")
    flags = parser.parse_args()
    for block in blocks_of(flags.platform):
        if flags.blocks and block.name not in flags.blocks:
            continue
        timed = times(block, flags.activations, flags.rounds) if flags.rounds and not block.remat else {}
        for activation in flags.activations:
            found = figures(flags.platform, block, activation)
            print(json.dumps(found | timed.get(activation, {})), flush=True)


if __name__ == "__main__":
    main()

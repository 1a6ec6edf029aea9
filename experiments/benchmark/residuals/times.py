"""Seconds of the blocks' gradients on the CPU, one JSON line each: what `residuals` runs several times.

A process of its own each time: where its arrays lie in memory makes one program up to a tenth faster than another, in
every round of a process alike.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from experiments.benchmark.residuals.blocks import ACTIVATIONS, BLOCKS, Block
from experiments.benchmark.residuals.figures import compile_block

ROWS = 1024
ROWS_OF_SCANNED_CONVOLUTIONS = 128  # for more XLA's CPU backend takes seconds
LEAST_SECONDS = 0.25  # of a measurement: single calls of 30 ms came out at 0.9 to 1.3 of one another's time


def times(block: Block, activations: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Seconds of each activation, a value per round.

    They run in turns, so that a neighbour on the machine disturbs them alike; the order turns with the rounds. A
    measurement is the mean of so many calls, of every activation the same number, that the fastest takes
    `LEAST_SECONDS`.
    """
    convolution = block.body == "conv + bias"
    rows = ROWS_OF_SCANNED_CONVOLUTIONS if convolution and block.scanned else ROWS
    x, weights = block.arguments(rows, jnp.float32)
    keys = iter(jax.random.split(jax.random.key(0), 9))
    scale = x.shape[-1] ** -0.5 / 3**convolution
    values = jax.tree.map(lambda a: scale * jax.random.normal(next(keys), a.shape, a.dtype), (x, weights))
    programs = {name: compile_block("cpu", block, name, rows) for name in activations}

    def seconds_of(name: str, calls: int = 1) -> float:
        began = time.perf_counter()
        for _ in range(calls):
            jax.block_until_ready(programs[name](*values))
        return (time.perf_counter() - began) / calls

    for name in programs:  # the first call of a program is longer than the others
        seconds_of(name)
    calls = math.ceil(LEAST_SECONDS / min(seconds_of(name, 3) for name in programs))
    seconds: dict[str, list[float]] = {name: [] for name in activations}
    for turn in range(rounds):
        first = turn % len(activations)
        for name in [*activations[first:], *activations[:first]]:
            seconds[name].append(seconds_of(name, calls))
    return seconds


def main() -> None:
    """The command line of one process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", nargs="*", help="names of blocks; default: all")
    parser.add_argument("--activations", nargs="*", default=list(ACTIVATIONS))
    parser.add_argument("--rounds", type=int, default=5, help="how often each is timed")
    flags = parser.parse_args()
    for block in BLOCKS:
        if not flags.blocks or block.name in flags.blocks:
            for activation, seconds in times(block, flags.activations, flags.rounds).items():
                line = {"block": block.name, "activation": activation, "seconds": seconds}
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

"""Figures of the networks' training steps, one JSON line each: what the benchmark "networks" runs per platform.

A process of its own per platform, because a compiler for a device that is not there wants JAX to itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark import deviceless
from experiments.benchmark.networks.cases import ACTIVATIONS, NETWORKS, Network

if TYPE_CHECKING:
    from experiments.benchmark.networks.torch_training import Trainer

DTYPES = {"cpu": jnp.float32, "cuda": jnp.bfloat16}
EAGER, COMPILED = "PyTorch eager", "torch.compile"
_SECONDS = 0.3  # that one timing lasts at the least

Run = Callable[[int], float]


def memory(platform: str, network: Network, activation: str, batch: int) -> int:
    """Temporary bytes of the compiled step."""
    compiled = network.compile(activation, batch, DTYPES[platform], deviceless.sharding(platform))
    return compiled.memory_analysis().temp_size_in_bytes


def measured(name: str, rounds: int) -> Iterator[dict[str, Any]]:
    """Memory and seconds a step at the timed batch: of JAX with each activation, and of PyTorch where it is there.

    All run in turns, so that a neighbour on the machine disturbs them alike; the order turns with the rounds.
    """
    network = NETWORKS[name]
    runs: dict[str, Run] = {}
    bytes_of: dict[str, int] = {}
    for activation in ACTIVATIONS:
        program = network.compile(activation, network.timed_batch)
        bytes_of[activation] = program.memory_analysis().temp_size_in_bytes
        runs[activation] = training(network, program, network.timed_batch)
    failed: dict[str, str] = {}
    if importlib.util.find_spec("torch"):
        for way in (EAGER, COMPILED):
            try:
                trainer = _torch(name, compiled=way == COMPILED)
                bytes_of[way] = trainer.peak()  # which also compiles
            except Exception as error:  # whatever a compiler raises is a result here, not an end
                failed[way] = f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
            else:
                runs[way] = trainer.run
    repeats = {way: max(1, math.ceil(_SECONDS / min(run(1) for _ in range(2)))) for way, run in runs.items()}
    seconds: dict[str, list[float]] = {way: [] for way in runs}
    for turn in range(rounds):
        first = turn % len(runs)
        for way in [*list(runs)[first:], *list(runs)[:first]]:
            seconds[way].append(runs[way](repeats[way]))
    for way, found in seconds.items():
        yield {
            "way": way,
            "batch": network.timed_batch,
            "peak": bytes_of[way],
            "seconds": _quartiles(found),
            "times_jax_nn": _quartiles([a / b for a, b in zip(found, seconds["jax.nn"], strict=True)]),
        }
    for way, reason in failed.items():
        yield {"way": way, "batch": network.timed_batch, "failed": reason}


def training(network: Network, program: Any, batch: int, dtype: Any = jnp.float32) -> Run:
    """A training that goes on whenever it is timed; `run(steps)` gives seconds a step.

    Args:
        network: network that is trained.
        program: compiled step of the network, from `network.compile`.
        batch: number of examples that the step is compiled for.
        dtype: data type that the step is compiled for.
    """

    def cast(tree: Any) -> Any:
        return jax.tree.map(
            lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
        )

    variables, inputs = network.variables(batch), cast(network.arguments(batch))
    variables = {**variables, "params": cast(variables["params"])}

    def run(steps: int) -> float:
        nonlocal variables
        began = perf_counter()
        for _ in range(steps):
            variables = program(variables, *inputs)
        jax.block_until_ready(variables)
        return (perf_counter() - began) / steps

    return run


def _torch(name: str, compiled: bool) -> Trainer:
    from experiments.benchmark.networks.torch_training import Trainer  # here, because PyTorch may be absent

    network = NETWORKS[name]
    inputs = [np.asarray(value) for value in network.arguments(network.timed_batch)]
    trainer = Trainer(name, inputs, compiled)
    trainer.run(1)
    return trainer


def _quartiles(values: list[float]) -> list[float]:
    """Median and quartiles."""
    low, middle, high = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    )
    return [middle, low, high]


def main() -> None:
    """The command line of one platform's process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("platform", choices=DTYPES)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=0, help="how often each is timed (cpu only)")
    flags = parser.parse_args()
    for name in flags.networks:
        for activation in ACTIVATIONS:
            found = memory(flags.platform, NETWORKS[name], activation, NETWORKS[name].batch)
            _say({"network": name, "way": activation, "batch": NETWORKS[name].batch, "temporary": found})
        if flags.rounds and flags.platform == "cpu":
            for line in measured(name, flags.rounds):
                _say({"network": name} | line)


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

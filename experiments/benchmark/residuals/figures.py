"""Figures of compiled blocks, one JSON line each: what `python -m experiments.benchmark residuals` runs per platform.

A process of its own per platform, because a compiler for a device that is not there wants JAX to itself.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmark import deviceless
from experiments.benchmark.residuals import hlo
from experiments.benchmark.residuals.blocks import ACTIVATIONS, BLOCKS, LAYERS, REMAT_BLOCKS, UNITS, Block

# At 4096 rows a TPU v5e keeps every array in its 128 MiB of VMEM, and no choice needs any memory.
ROWS = {"cpu": 4096, "cuda": 4096, "tpu": 65536}
DTYPES = {"cpu": jnp.float32, "cuda": jnp.bfloat16, "tpu": jnp.bfloat16}


def compile_block(platform: str, block: Block, activation: str, rows: int | None = None) -> Any:
    """The compiled gradient of a block."""
    sharding = deviceless.sharding(platform)
    arguments = block.arguments(rows or ROWS[platform], DTYPES[platform], sharding)
    return jax.jit(block.gradient(ACTIVATIONS[activation])).lower(*arguments).compile()


def figures(platform: str, block: Block, activation: str, rows: int | None = None) -> dict[str, Any]:
    """Memory, traffic, kernels and cycles of a block, from its compiled program.

    `temporary` and `moved` are bytes per activation element and layer.
    """
    rows = rows or ROWS[platform]
    compiled = compile_block(platform, block, activation, rows)
    cost = hlo.cost(compiled.as_text(), LAYERS)
    elements = rows * UNITS * LAYERS
    return {
        "platform": platform,
        "block": block.name,
        "activation": activation,
        "temporary": compiled.memory_analysis().temp_size_in_bytes / elements,
        "moved": cost.bytes_moved / elements,
        "kernels": cost.kernels,
        "megacycles": cost.cycles / 1e6,
    }


def main() -> None:
    """The command line of one platform's process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("platform", choices=deviceless.DEVICES)
    parser.add_argument("--blocks", nargs="*", help="names of blocks; default: all")
    parser.add_argument("--activations", nargs="*", default=list(ACTIVATIONS))
    parser.add_argument("--rows", type=int, help="that are compiled for; default: those of the platform")
    flags = parser.parse_args()
    for block in BLOCKS + REMAT_BLOCKS:
        if flags.blocks and block.name not in flags.blocks:
            continue
        for activation in flags.activations:
            print(json.dumps(figures(flags.platform, block, activation, flags.rows)), flush=True)


if __name__ == "__main__":
    main()

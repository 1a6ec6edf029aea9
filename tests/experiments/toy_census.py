"""A census of eight batches, of which each process counts its share. Run by the tests as a program."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lab.run import processes
from jax_leaky import census

BATCHES = np.random.default_rng(0).normal(size=(8, 16, 5)).astype(np.float32)
KERNEL = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)


def network(x):
    return jax.nn.leaky_relu(jnp.tanh(jax.nn.relu(x @ KERNEL) - 0.3), 0.1)


if __name__ == "__main__":
    processes.join()
    folder, count = Path(sys.argv[1]), jax.process_count()
    share = len(BATCHES) // count
    first = jax.process_index() * share
    census(network, list(BATCHES[first : first + share])).save(folder / f"census_{jax.process_index()}.json")
    processes.meet("all have counted")

"""A sweep small enough to be killed often: rows are random walks, in two groups. Run by the tests as a program."""

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from pydantic.dataclasses import dataclass

from experiments.lab.run import cli, store
from experiments.lab.run.experiment import carry_out
from experiments.lab.run.settings import Count, Flags
from experiments.lab.run.sweep import Group, sweep

DATA = np.linspace(-1, 1, 64, dtype=np.float32)


@dataclass(frozen=True)
class Config(Flags):
    """How many walks, and how long."""

    out: Path = Path("runs/toy")
    rows: Count = 7
    steps: Count = 50


class Run(NamedTuple):
    scale: np.float32
    seed: np.uint32


def walk(row, data, *, kind, steps):
    key = jax.random.key(row.seed)

    def step(number, x):
        noise = jax.random.normal(jax.random.fold_in(key, number), x.shape)
        return jnp.tanh(x @ x.T / 8 + noise) if kind == "matrix" else jnp.sin(x + row.scale * noise)

    end = jax.lax.fori_loop(0, steps, step, jnp.outer(data[:32], data[32:]) * row.scale)
    return {"mean": end.mean(), "corner": end[:3, 0], "nothing": row.scale / 0}


def to_records(kind, row, result):
    figures = {name: store.number(result[name]) for name in ("mean", "nothing")}
    return [{"kind": kind, "seed": int(row.seed), **figures, "corner": store.numbers(result["corner"])}]


def groups(rows=7, steps=50):
    table = [Run(np.float32(0.1 * (1 + seed % 3)), np.uint32(seed)) for seed in range(rows)]
    return [
        Group(
            kind, functools.partial(walk, kind=kind, steps=steps), table, functools.partial(to_records, kind)
        )
        for kind in ("matrix", "wave")
    ]


def run(config, **how):
    table = groups(config.rows, config.steps)
    return carry_out("toy", config, table, DATA, "walks", functools.partial(sweep, **how))


if __name__ == "__main__":
    cli.start("toy", run, Config, {}, __doc__)

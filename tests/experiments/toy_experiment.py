"""A sweep small enough to be killed often: rows are random walks, in two groups. Run by the tests as a program."""

import argparse
import functools
import signal
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lab.run import interrupt, processes, store
from experiments.lab.run.sweep import Group, fingerprint, sweep

DATA = np.linspace(-1, 1, 64, dtype=np.float32)


class Row(NamedTuple):
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
    table = [Row(np.float32(0.1 * (1 + seed % 3)), np.uint32(seed)) for seed in range(rows)]
    return [
        Group(
            kind, functools.partial(walk, kind=kind, steps=steps), table, functools.partial(to_records, kind)
        )
        for kind in ("matrix", "wave")
    ]


def run(out, rows=7, steps=50, fresh=False, **how):
    table = groups(rows, steps)
    identity = {"rows": rows, "steps": steps} | fingerprint(table, DATA)
    with processes.open_run(Path(out), identity, fresh=fresh) as folder:
        already = len(folder.finished)
        sweep(table, DATA, folder, lambda count: print("advance", count, flush=True), **how)
    return already


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--steps", type=int, default=3000)
    flags = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 2)
    processes.join()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background would ignore it
    interrupt.enter(lambda: interrupt.interruptible(lambda: run(flags.out, flags.rows, flags.steps)))

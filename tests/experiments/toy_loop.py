"""A loop small enough to be killed often: random walks through a convolution. Run by the tests as a program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lab.run import cli, store
from experiments.lab.run.experiment import carry_out
from experiments.lab.run.loop import Loop, loop
from tests.experiments.toy_experiment import DATA, Config, Run


def begin(row, data):
    x = jnp.outer(data[:32], data[32:]) * row.scale
    return {"x": x[None, :, :, None], "key": jax.random.key(row.seed), "number": jnp.uint32(0)}


def step(row, state, data, *, kind):
    x, key = state["x"], jax.random.fold_in(state["key"], state["number"])
    kernel = jax.random.normal(key, (3, 3, 1, 1)) + data[:3, None, None, None]
    x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    x = jnp.tanh(x) if kind == "tanh" else jnp.sin(row.scale * x)
    return {"x": x, "key": state["key"], "number": state["number"] + 1}


def evaluate(_row, state, _data):
    # In two steps: how far one float32 sum of all 1,024 numbers is off depends on the processor.
    return {"mean": state["x"].mean(1).mean(), "corner": state["x"][0, 0, :3, 0], "number": state["number"]}


def to_records(kind, row, seen):
    return [
        {
            "kind": kind,
            "seed": int(row.seed),
            "step": int(at["number"]),
            "mean": store.number(at["mean"]),
            "corner": store.numbers(at["corner"]),
        }
        for at in seen
    ]


def groups(rows=7, steps=20):
    table = [Run(np.float32(0.5 * (1 + seed % 3)), np.uint32(seed)) for seed in range(rows)]
    return [
        Loop(
            kind,
            begin,
            functools.partial(step, kind=kind),
            evaluate,
            (0, 1, steps),
            table,
            functools.partial(to_records, kind),
        )
        for kind in ("tanh", "sine")
    ]


def run(config, **how):
    table = groups(config.rows, config.steps)
    return carry_out("toy", config, table, DATA, "walks", functools.partial(loop, **how))


if __name__ == "__main__":
    cli.start("toy", run, Config, {}, __doc__)

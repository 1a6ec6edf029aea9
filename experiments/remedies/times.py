"""What an update with each remedy costs, measured after the training, one program at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.lab.data import batches
from experiments.lab.run import store
from experiments.lab.run.sweep import CPU_OPTIONS
from experiments.remedies.training import Life, Run

_UPDATES, _ROUNDS = 100, 9
Times = dict[str, dict[str, float]]


def times(lives: Mapping[Any, Life], images: batches.Images, folder: Path, *, measure: bool = True) -> Times:
    """Microseconds of processor time that an update takes, by problem and arm; kept in times.json of the run.

    Args:
        lives: the lives, by problem and the arms that share the program.
        images: data of the run.
        folder: folder of the run.
        measure: whether they are measured where the folder has none; otherwise there are none.
    """
    path = folder / "times.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    if not measure:
        return {}
    run = Run(np.float32(0), np.uint32(0))
    options: Any = CPU_OPTIONS if jax.default_backend() == "cpu" else {}

    def program(life: Life) -> Any:
        x = images.standardize(images.train_images[: life.problem.batch_size])
        x, y = x.reshape(-1, life.side, life.side, 1), jnp.asarray(images.train_labels[: len(x)])

        def updates(params: Any, state: Any) -> Any:
            def one(carry: Any, _: None) -> tuple[Any, None]:
                params, state, _correct = life.update(run, carry[0], carry[1], x, y)
                return (params, state), None

            return lax.scan(one, (params, state), length=_UPDATES)[0]

        begun = jax.jit(life.begin)(run, images)
        compiled = jax.jit(updates, compiler_options=options).lower(begun.params, begun.optimizer).compile()
        return lambda: jax.block_until_ready(compiled(begun.params, begun.optimizer))

    with ThreadPoolExecutor(len(jax.local_devices())) as pool:
        programs = dict(zip(lives, pool.map(program, lives.values()), strict=True))
    least = dict.fromkeys(programs, float("inf"))
    # In turns, so that whatever else the machine does falls on all of them; the least is what it takes undisturbed.
    for _ in range(_ROUNDS):
        for name, updates in programs.items():
            began = time.process_time()
            updates()
            least[name] = min(least[name], 1e6 * (time.process_time() - began) / _UPDATES)
    found: Times = {}
    for (problem, arms), microseconds in least.items():
        found.setdefault(problem, {}).update(dict.fromkeys(arms, round(microseconds, 1)))
    store.write(path, store.dump(found, indent=2) + "\n")
    return found

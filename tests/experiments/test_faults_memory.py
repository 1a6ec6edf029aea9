"""What does not fit into memory is refused before it starts, with a sentence that says what to lower."""

import dataclasses
import importlib
import json
import re
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.__main__ import experiments
from experiments.collapse import experiment as collapse
from experiments.dead_neurons import experiment as dead_neurons
from experiments.lab.run import memory, store
from experiments.lab.run.errors import LabError
from experiments.lab.run.sweep import Group, compile_groups
from tests.experiments import toy_experiment, toy_loop


def wide(row, data):
    """A row that holds a square matrix of 4 x 10^12 bytes and cannot do without it."""
    matrix = jax.random.normal(jax.random.key(row.seed), (1_000_000, 1_000_000))
    return jnp.linalg.norm(jnp.sin(matrix @ matrix)) + data.sum()


def test_a_row_too_wide_is_refused_before_it_runs():
    row = toy_experiment.Row(np.float32(1), np.uint32(0))
    group = Group("width 1000000", wide, [row], lambda _row, _result: [])
    with pytest.raises(
        LabError, match=r"width 1000000 would take [\d,.]+ GB on 2 CPU.*free: lower the networks'"
    ):
        compile_groups([group], toy_experiment.DATA, devices=jax.devices()[:2])


def test_what_the_compiler_reports_is_what_is_compared(monkeypatch):
    def program():
        row = toy_experiment.Row(np.float32(1), np.uint32(0))
        return compile_groups(
            [
                Group(
                    "small", lambda row, data: jnp.sin(jnp.outer(data, data) @ wider(row)).sum(), [row], list
                )
            ],
            np.zeros(1000, np.float32),
            devices=jax.devices()[:1],
        )

    def wider(row):
        return jax.random.normal(jax.random.key(row.seed), (1000, 1000))

    monkeypatch.setattr(memory, "machine", lambda: 4 * 1000 * 1000)  # one of the matrices
    with pytest.raises(LabError, match=r"small would take 0\.0 GB"):
        program()
    monkeypatch.setattr(memory, "machine", lambda: 100 * 1000 * 1000)
    program()
    monkeypatch.setattr(memory, "machine", lambda: None)  # not known
    program()


def test_a_loop_whose_state_does_not_fit_is_refused_before_it_begins(tmp_path):
    def begin(row, _data):
        return {"x": jnp.full((1_000_000, 1_000_000), row.scale)}

    group = toy_loop.groups()[0]._replace(begin=begin)
    with store.open_run(tmp_path, {}) as folder, pytest.raises(LabError, match=r"tanh would take .*: lower"):
        toy_loop.loop([group], toy_loop.DATA, folder, print)
    assert not list((tmp_path / store.CHUNKS).iterdir())


def test_a_loop_whose_step_does_not_fit_is_refused_before_the_step(tmp_path, monkeypatch):
    def step(row, state, data):
        matrix = jax.random.normal(jax.random.key(row.seed), (1000, 1000))  # 4 MB, of a state of 4 kB
        return state | {"x": state["x"] + jnp.sin(jnp.outer(data, data)[0, 0] * matrix @ matrix).sum()}

    group = toy_loop.groups(rows=1)[0]._replace(step=step)

    def compute(path):
        with store.open_run(path, {}) as folder:
            return toy_loop.loop(
                [group], toy_loop.DATA, folder, lambda _rows: None, devices=jax.devices()[:1]
            )

    monkeypatch.setattr(memory, "machine", lambda: 1000 * 1000)
    with pytest.raises(LabError, match=r"tanh would take 0\.0 GB on 1 CPU.*: lower"):
        compute(tmp_path / "refused")
    assert not list((tmp_path / "refused" / store.CHUNKS).iterdir())
    monkeypatch.setattr(memory, "machine", lambda: 100 * 1000 * 1000)
    compute(tmp_path / "computed")
    assert list((tmp_path / "computed" / store.CHUNKS).iterdir())


def test_a_grid_too_large_is_refused_before_its_rows_are_made():
    config = dataclasses.replace(collapse.Config(), seeds=10**12)
    with pytest.raises(LabError, match=r"a grid of 18,000,000,000,000 networks.*lower --seeds"):
        collapse.check(config)
    collapse.check(dataclasses.replace(config, seeds=10_000))


@pytest.mark.parametrize(
    "seeds", [7_477_689, 747_768], ids=["by the settings", "by what is kept of a network"]
)
def test_a_grid_of_the_default_learning_rates_is_counted_and_weighed(tmp_path, monkeypatch, seeds):
    monkeypatch.setattr(memory, "machine", lambda: 64 * 10**9)
    monkeypatch.setattr(dead_neurons, "carry_out", None)  # not reached
    config = dataclasses.replace(
        dead_neurons.Config(tmp_path), **dead_neurons.PRESETS["smoke"] | {"seeds": seeds}
    )
    with pytest.raises(LabError, match=rf"a grid of {24 * seeds:,} networks would take [\d,.]+ GB.*--seeds"):
        dead_neurons.run(config)


class KeptError(Exception):
    """What a smoke run has kept is known, and its report is not wanted."""


# `pretrained` has a handful of rows, whatever its settings.
NAMES = [
    name if name in ("dead_neurons", "signal_gain") else pytest.param(name, marks=pytest.mark.slow)
    for name in experiments()
    if name != "pretrained"
]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_of_a_smoke_run_is_no_more_than_the_estimate(tmp_path, monkeypatch, name):
    module, weighed = importlib.import_module(f"experiments.{name}.experiment"), []
    carry_out, check_records = module.carry_out, memory.check_records

    def weigh(todo, data):
        weighed.append([(rows, memory.held(group.rows[-1], group.sample(data))) for group, rows in todo])
        check_records(todo, data)

    def stop(*arguments, **named):
        raise KeptError(carry_out(*arguments, **named).records)

    monkeypatch.setattr(memory, "check_records", weigh)
    monkeypatch.setattr(module, "carry_out", stop)
    config = dataclasses.replace(module.Config(), **module.PRESETS["smoke"], out=tmp_path)
    with pytest.raises(KeptError) as caught:
        module.run(config)
    (records,) = caught.value.args
    seeds = {record.get("seed", 0) for record in records}
    if len(seeds) > 1:  # of seed 0 alone, some experiments keep pictures
        records = [record for record in records if record.get("seed") != 0]
    text = [store.dump(record) for record in records]
    tracemalloc.start()
    kept = [json.loads(line) for line in text]
    real = tracemalloc.get_traced_memory()[0] + 3 * sum(map(len, text))
    tracemalloc.stop()
    assert len(kept) == len(records)
    rows, estimate = (sum(many) for many in zip(*((n, n * each) for n, each in weighed[-1]), strict=True))
    if len(seeds) > 1:
        estimate *= 1 - 1 / len(seeds)
    assert real <= estimate
    if len(seeds) > 1:  # else the pictures of seed 0 are in it, as large as they can be
        assert estimate < 3 * real
    assert estimate / rows >= memory._LEAST  # the bound before there are data


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="only Linux tells its free memory here")
def test_free_memory_is_that_of_the_machine_or_of_its_container(tmp_path, monkeypatch):
    told = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    monkeypatch.setattr(memory, "_CONTROL_GROUP", tmp_path)
    assert 0 < memory.machine() <= int(told[1]) * 1024
    (tmp_path / "memory.max").write_text("7000\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 2500\ninactive_file 500\n")
    assert memory.machine() == 4500
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.machine() > 4500

"""What does not fit into memory is refused before it starts, with a sentence that says what to lower."""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_experiment
import toy_loop

from experiments import collapse
from experiments.lab import memory, store
from experiments.lab.errors import LabError
from experiments.lab.sweep import Group, compile_groups


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

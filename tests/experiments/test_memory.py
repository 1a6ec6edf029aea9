"""What does not fit into memory is refused before it runs, with a sentence that says what to lower."""

import jax
import jax.numpy as jnp
import numpy as np
import psutil
import pytest

from experiments.lab.run import memory, store
from experiments.lab.run.errors import LabError
from experiments.lab.run.sweep import Group, compile_groups
from tests.experiments import toy_loop
from tests.experiments.toy_experiment import DATA, Run

ONE = [Run(np.float32(1), np.uint32(0))]


def square(row, side):
    """A matrix that a program holds and cannot do without."""
    matrix = jax.random.normal(jax.random.key(row.seed), (side, side))
    return jnp.sin(matrix @ matrix)


def test_a_network_too_wide_is_refused_before_it_runs():
    group = Group("width 1000000", lambda row, data: square(row, 1_000_000).sum() + data.sum(), ONE, list)
    with pytest.raises(
        LabError, match=r"width 1000000 would take [\d,.]+ GB on 2 CPU.*free: lower the networks'"
    ):
        compile_groups([group], DATA, devices=jax.devices()[:2])


def test_what_the_compiler_reports_is_what_is_compared(monkeypatch):
    group = Group("small", lambda row, data: square(row, 1000).sum() + data.sum(), ONE, list)
    monkeypatch.setattr(memory, "machine", lambda: 4 * 1000 * 1000 - 1)  # one of the matrices
    with pytest.raises(LabError, match=r"small would take 0\.0 GB"):
        compile_groups([group], DATA, devices=jax.devices()[:1])
    monkeypatch.setattr(memory, "machine", lambda: 100 * 1000 * 1000)
    compile_groups([group], DATA, devices=jax.devices()[:1])


def begin_large(row, _data):
    return {"x": jnp.full((1_000_000, 1_000_000), row.scale)}


def step_large(row, state, data):
    return state | {"x": state["x"] + jnp.outer(data, data)[0, 0] * square(row, 1000).sum()}


@pytest.mark.parametrize("change", [{"begin": begin_large}, {"step": step_large}], ids=["state", "step"])
def test_a_loop_that_does_not_fit_is_refused_before_it_begins(tmp_path, monkeypatch, change):
    group = toy_loop.groups(rows=1)[0]._replace(**change)
    monkeypatch.setattr(memory, "machine", lambda: 1000 * 1000)
    with store.open_run(tmp_path, {}) as folder, pytest.raises(LabError, match=r"tanh would take .*: lower"):
        toy_loop.loop([group], DATA, folder, print, devices=jax.devices()[:1])
    assert not folder.finished


def test_free_memory_is_that_of_the_machine_or_of_its_container(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CONTROL_GROUP", tmp_path)
    assert 0 < memory.machine() <= psutil.virtual_memory().total
    (tmp_path / "memory.max").write_text("7000\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 2500\ninactive_file 500\n")
    assert memory.machine() == 4500
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.machine() > 4500

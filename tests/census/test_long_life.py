"""Thousands of calls: no memory that grows, no tracer that leaks, no thread or file left open."""

import functools
import gc
import mmap
import os
import threading
import tracemalloc
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.lab.run import store
from experiments.lab.run.sweep import Group, sweep
from jax_leaky import census, leaky_relu, observe, units, value_and_census

X = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
pytestmark = pytest.mark.slow
CALLS = 1_000
TRACES = 100  # calls that trace anew each time, some 50 ms
PARTS = 4  # of the calls, between which the process is looked at
FILES = Path(
    "/proc/self/fd"
)  # what this process has open, and the pages that it holds, where the system tells
PAGES = Path("/proc/self/statm")
MODEL = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(3)])
OBSERVERS = {
    "observe": lambda predict: observe(predict, lambda _, z: (z > 0).sum(0)),
    "value_and_census": value_and_census,
}


@pytest.fixture(scope="module")
def predict():
    return functools.partial(MODEL.apply, MODEL.init(jax.random.key(0), X))


def warm_up(calls):
    """How many calls go before: enough for every cache to fill."""
    return max(calls // 10, 50)


class Watch:
    """What the process holds: bytes of Python's, of all; arrays of JAX's, threads, open files."""

    def __enter__(self):
        self.seen = []
        tracemalloc.start()
        return self

    def __exit__(self, *_):
        tracemalloc.stop()

    def look(self):
        gc.collect()
        files = len(list(FILES.iterdir())) if FILES.is_dir() else 0
        resident = int(PAGES.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if PAGES.is_file() else 0
        python = tracemalloc.get_traced_memory()[0]
        self.seen.append((python, resident, len(jax.live_arrays()), threading.active_count(), files))

    def check(self, calls):
        """Fails if later calls have left anything behind, of the number that lies between the looks.

        Caches and tables grow by steps, and less and less; a leak is the same in every part of the calls. So the
        first part is for the last caches, and one step among the others says nothing: their median does.
        """
        python, resident, arrays, threads, files = np.array(self.seen).T
        each = calls // PARTS
        assert np.median(np.diff(python)[1:]) < 4096 + 2 * each, python
        if calls >= 1_000:  # fewer are lost in what the allocators hold ready
            if not PAGES.is_file():
                pytest.skip(
                    "/proc/self/statm, the resident memory, is Linux's; what Python holds has not grown"
                )
            assert np.median(np.diff(resident)[1:]) < 2**18 + 50 * each, resident
        for held in (arrays, threads, files):
            assert held[-1] <= held[0], held


def check(work, calls):
    """Fails if the process grows with the calls of `work`."""
    with Watch() as watch:
        for _ in range(warm_up(calls)):
            work()
        watch.look()
        for _ in range(PARTS):
            for _ in range(calls // PARTS):
                work()
            watch.look()
    watch.check(calls)


@pytest.mark.parametrize("how", ["eager", "jit", "grad", "slope as an array"])
def test_the_op(how):
    work = {
        "eager": lambda: leaky_relu(X),
        "jit": functools.partial(jax.jit(leaky_relu), X),
        "grad": functools.partial(jax.jit(jax.grad(lambda x: leaky_relu(x).sum())), X),
        "slope as an array": lambda: leaky_relu(X, jnp.float32(0.1)),
    }[how]
    check(lambda: jax.block_until_ready(work()), CALLS)


@pytest.mark.parametrize("how", ["observe", "value_and_census"])
def test_a_compiled_observer(how, predict):
    observed = jax.jit(OBSERVERS[how](predict))
    check(lambda: jax.block_until_ready(observed(X)), CALLS)


@pytest.mark.parametrize("how", ["observe", "value_and_census"])
def test_an_observer_that_is_not_compiled(how, predict):
    """Made anew for each call too, as in a notebook."""
    check(lambda: jax.block_until_ready(OBSERVERS[how](predict)(X)), TRACES)


def test_a_counts_update():
    counts = units.init(8)
    update = jax.jit(units.update)

    def work():
        nonlocal counts
        counts = jax.block_until_ready(update(counts, X))

    check(work, CALLS)
    assert int(counts.n) == (warm_up(CALLS) + CALLS) * len(X)


def test_a_census_of_many_batches(predict):
    def batches(watch):
        for _ in range(warm_up(CALLS)):
            yield X
        watch.look()
        for _ in range(PARTS):
            for _ in range(CALLS // PARTS):
                yield X
            watch.look()

    with Watch() as watch:
        found = census(predict, batches(watch))
    watch.check(CALLS)
    assert next(iter(found)).n == (warm_up(CALLS) + CALLS) * len(X)


def test_the_watch_sees_a_leak_of_50_bytes_a_call():
    leak = []
    with pytest.raises(AssertionError):
        check(lambda: leak.append(bytes(17)), 500)  # bytes of 50 bytes


@pytest.mark.skipif(not PAGES.is_file(), reason="/proc/self/statm, the resident memory, is Linux's")
def test_the_watch_sees_a_leak_beside_python():
    class Blind(Watch):
        """One who does not see what Python holds."""

        def check(self, calls):
            self.seen = [(0, *others) for _, *others in self.seen]
            super().check(calls)

    leak = []
    with Blind() as watch:
        for _ in range(PARTS + 1):
            watch.look()
            leak.append(mmap.mmap(-1, 2**20))  # 400 bytes a call, which no allocator has at hand
            leak[-1].write(b"x" * 2**20)
    with pytest.raises(AssertionError):
        watch.check(10_000)


ROWS = 3
IDENTITY = {"experiment": "long life"}


def train(row, data):
    return jnp.sin(row * data).sum()


def swept(path, advance=lambda _: None):
    group = Group("sines", train, [np.float32(row) for row in range(ROWS)], lambda _, y: [{"y": float(y)}])
    with store.open_run(path, IDENTITY) as folder:
        sweep([group], np.ones(4, np.float32), folder, advance)
        return folder.records()


class StopError(Exception):
    """From within a sweep, as Ctrl-C comes."""


def stop(_):
    raise StopError


def test_sweeps_leave_no_thread_or_file_open_whether_they_end_or_are_stopped(tmp_path):
    def run(name):
        with pytest.raises(StopError):
            swept(tmp_path / name, stop)
        return swept(tmp_path / name)  # which a lock that is still held would refuse

    expected = run("first")
    assert len(expected) == ROWS
    with Watch() as watch:
        watch.look()
        for number in range(20):
            assert run(f"{number}") == expected
        watch.look()
    *_, arrays, threads, files = np.array(watch.seen).T
    for held in (arrays, threads, files):
        assert held[-1] <= held[0], held


def test_a_run_folder_that_is_opened_again_and_again(tmp_path):
    def work():
        with store.open_run(tmp_path / "run", IDENTITY) as folder:
            folder.finished or folder.save(0, [{"y": 1.0}])
            assert folder.records() == [{"y": 1.0}]

    check(work, CALLS)


def test_no_tracer_leaks(predict):
    with jax.checking_leaks():
        jax.jit(jax.grad(lambda x: leaky_relu(x, 0.2).sum()))(X)
        jax.jit(jax.vmap(leaky_relu))(X)
        jax.jit(observe(predict, lambda _, z: (z > 0).sum(0)))(X)
        jax.jit(jax.grad(lambda x: observe(predict, lambda _, z: z.sum())(x)[0].sum()))(X)
        census(predict, [X, X])

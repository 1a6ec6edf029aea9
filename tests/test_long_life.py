"""Thousands of calls: no memory that grows, no tracer that leaks, no thread or file left open."""

import functools
import gc
import threading
import tracemalloc
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import census, leaky_relu, observe, units

X = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
CALLS = [pytest.param(500), pytest.param(10_000, marks=pytest.mark.slow)]
WARM_UP = 200
FILES = Path("/proc/self/fd")  # what this process has open, where the system tells
MODEL = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(3)])


@pytest.fixture(scope="module")
def predict():
    return functools.partial(MODEL.apply, MODEL.init(jax.random.key(0), X))


class Watch:
    """What the process holds: bytes of Python's, arrays of JAX's, threads, open files."""

    def __enter__(self):
        tracemalloc.start()
        return self

    def __exit__(self, *_):
        tracemalloc.stop()

    def look(self):
        gc.collect()
        files = len(list(FILES.iterdir())) if FILES.is_dir() else 0
        return np.array(
            [tracemalloc.get_traced_memory()[0], len(jax.live_arrays()), threading.active_count(), files]
        )


def grown(work, calls):
    """By how much the process has grown over so many calls, after some to warm up."""
    with Watch() as watch:
        for _ in range(WARM_UP):
            work()
        before = watch.look()
        for _ in range(calls):
            work()
        return watch.look() - before


def check(growth, calls):
    memory, arrays, threads, files = growth
    # Caches and tables grow by steps and stay: 29 kB for the op, and once 400 kB in a census of 12,000 batches.
    assert memory < max(2**16, 50 * calls)
    assert arrays <= 0
    assert threads <= 0
    assert files <= 0


@pytest.mark.parametrize("calls", CALLS)
@pytest.mark.parametrize("how", ["eager", "jit", "grad", "slope as an array"])
def test_the_op(how, calls):
    work = {
        "eager": lambda: leaky_relu(X),
        "jit": functools.partial(jax.jit(leaky_relu), X),
        "grad": functools.partial(jax.jit(jax.grad(lambda x: leaky_relu(x).sum())), X),
        "slope as an array": lambda: leaky_relu(X, jnp.float32(0.1)),
    }[how]
    check(grown(lambda: jax.block_until_ready(work()), calls), calls)


@pytest.mark.parametrize("calls", CALLS)
def test_a_compiled_observer(calls, predict):
    observed = jax.jit(observe(predict, lambda _, z: (z > 0).sum(0)))
    check(grown(lambda: jax.block_until_ready(observed(X)), calls), calls)


@pytest.mark.parametrize("calls", CALLS)
def test_a_counts_update(calls):
    counts = units.init(8)
    update = jax.jit(units.update)

    def work():
        nonlocal counts
        counts = jax.block_until_ready(update(counts, X))

    check(grown(work, calls), calls)
    assert int(counts.n) == (WARM_UP + calls) * len(X)


@pytest.mark.parametrize("calls", CALLS)
def test_a_census_of_many_batches(calls, predict):
    seen = []

    def batches(watch):
        for number in range(WARM_UP + calls):
            if number in (WARM_UP, WARM_UP + calls - 1):
                seen.append(watch.look())
            yield X

    with Watch() as watch:
        found = census(predict, batches(watch))
    check(seen[1] - seen[0], calls)
    assert next(iter(found)).n == (WARM_UP + calls) * len(X)


def test_no_tracer_leaks(predict):
    with jax.checking_leaks():
        jax.jit(jax.grad(lambda x: leaky_relu(x, 0.2).sum()))(X)
        jax.jit(jax.vmap(leaky_relu))(X)
        jax.jit(observe(predict, lambda _, z: (z > 0).sum(0)))(X)
        jax.jit(jax.grad(lambda x: observe(predict, lambda _, z: z.sum())(x)[0].sum()))(X)
        census(predict, [X, X])

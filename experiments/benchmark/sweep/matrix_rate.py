"""The machine's best measured rate of float32 matrix products: what a sweep is held against."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from experiments.lab.run.sweep import CPU_OPTIONS

SIZES = (512, 1024, 2048)
_OPERATIONS = 1.5e10  # per measurement: long beside the clock, short beside the neighbours' whims


def candidates() -> dict[str, Callable[[], float]]:
    """Measurements by name, each a function that runs once and returns operations per second.

    Square matrices of several sizes, with all cores in one product and with one product per core.
    """
    found: dict[str, Callable[[], float]] = {}
    for size in SIZES:
        repeats = max(1, round(_OPERATIONS / (2 * size**3)))
        found[f"jax, {size}, all cores in one"] = _jax_shared(size, repeats)
        found[f"jax, {size}, one per core"] = _jax_per_core(size, repeats)
        torch_rate = _torch(size, repeats)
        if torch_rate is not None:
            found[f"torch, {size}, all cores in one"] = torch_rate
    return found


def of_a_step(batch: int, widths: Sequence[int], *, descent: bool = False) -> Callable[[], float]:
    """The rate of the products of an MLP's training step, one step per core at once.

    Args:
        batch: number of rows in the batch.
        widths: numbers of features, of units in each hidden layer, and of outputs.
        descent: whether the weights also move against their gradients; without, nothing stands between the products.
    """
    generator = np.random.default_rng(batch)
    pairs = list(itertools.pairwise(widths))
    weights = [generator.standard_normal(pair, np.float32) / np.float32(pair[0] ** 0.5) for pair in pairs]
    x = generator.standard_normal((batch, widths[0]), np.float32)
    operations = 2 * batch * (3 * sum(a * b for a, b in pairs) - pairs[0][0] * pairs[0][1])
    repeats = max(1, round(_OPERATIONS / operations))

    def step(_: Any, carry: tuple[Any, list[Any]]) -> tuple[Any, list[Any]]:
        x, weights = carry
        kept = [x]
        for weight in weights:
            kept.append(kept[-1] @ weight)
        gradient = kept.pop()
        of_weights: list[Any] = []
        for index in reversed(range(len(weights))):
            of_weights.insert(0, kept[index].T @ gradient)
            gradient = gradient @ weights[index].T if index else gradient
        if descent:
            return x, [weight - 1e-9 * change for weight, change in zip(weights, of_weights, strict=True)]
        # Every gradient is touched and every step needs the one before, so that no product is left out.
        return x + 0 * sum(change[0, 0] for change in of_weights), weights

    def loop(x: Any, weights: Any) -> Any:
        x, weights = jax.lax.fori_loop(0, repeats, step, (x, weights))
        return x + sum(weight[0, 0] for weight in weights)  # whatever the steps have changed is needed

    count = len(jax.devices())
    return _rate(_on_every_core(loop, (x, weights)), count * repeats * operations)


def _on_every_core(function: Callable[..., Any], arguments: Any) -> Callable[[], Any]:
    """The function compiled for all devices, each with the same arguments, its products unshared."""
    count = len(jax.devices())
    mesh, spread = Mesh(np.array(jax.devices()), ("rows",)), PartitionSpec("rows")

    def one(arguments: Any) -> Any:
        return function(*jax.tree.map(lambda array: array[0], arguments))[None]

    sharding = jax.sharding.NamedSharding(mesh, spread)
    placed = jax.tree.map(lambda array: jax.device_put(np.stack([array] * count), sharding), arguments)
    spread_out = jax.shard_map(one, mesh=mesh, in_specs=(spread,), out_specs=spread, check_vma=False)
    compiled = jax.jit(spread_out).lower(placed).compile(compiler_options=CPU_OPTIONS)
    return lambda: compiled(placed).block_until_ready()


def _operands(size: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(size)
    first, second = (generator.standard_normal((size, size), np.float32) for _ in range(2))
    return first, second / np.float32(size**0.5)  # the product of products neither grows nor shrinks


def _rate(run: Callable[[], Any], operations: float) -> Callable[[], float]:
    run()  # compile, and warm the caches

    def measure() -> float:
        began = time.perf_counter()
        run()
        return operations / (time.perf_counter() - began)

    return measure


def _chain(x: Any, y: Any, repeats: int) -> Any:
    return jax.lax.fori_loop(0, repeats, lambda _, x: x @ y, x)


def _jax_shared(size: int, repeats: int) -> Callable[[], float]:
    x, y = jax.device_put(_operands(size), jax.devices()[0])
    compiled = jax.jit(lambda x, y: _chain(x, y, repeats))
    return _rate(lambda: compiled(x, y).block_until_ready(), repeats * 2 * size**3)


def _jax_per_core(size: int, repeats: int) -> Callable[[], float]:
    count = len(jax.devices())
    repeats = max(1, repeats // count)
    run = _on_every_core(lambda x, y: _chain(x, y, repeats), _operands(size))
    return _rate(run, count * repeats * 2 * size**3)


def _torch(size: int, repeats: int) -> Callable[[], float] | None:
    try:
        import torch
    except ImportError:
        return None
    x, y = (torch.from_numpy(operand) for operand in _operands(size))

    def run() -> None:
        product = x
        for _ in range(repeats):
            product = product @ y

    return _rate(run, repeats * 2 * size**3)

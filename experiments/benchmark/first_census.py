"""What a first census takes beside jit of the same function, and what reading it takes; a part of `tracing`."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.lab.show.table import markdown
from jax_leaky import Census, census

_READINGS: dict[str, Callable[[Census], Any]] = {
    "print": str,
    "scalars": Census.scalars,
    "html": Census.html,
}


class Widths(nn.Module):
    """24 layers of 24 widths, 100 to 284: a count of each has to be compiled by itself."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """The last layer's output."""
        for width in range(100, 292, 8):
            x = nn.relu(nn.Dense(width)(x))
        return x


class DenseNet121(nn.Module):
    """DenseNet-121 in evaluation; Huang et al., "Densely connected convolutional networks", CVPR 2017."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """The logits."""

        def convolved(x: Array, channels: int, size: int) -> Array:
            x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
            return nn.Conv(channels, (size, size), use_bias=False)(x)

        x = nn.Conv(64, (7, 7), (2, 2), use_bias=False)(x)
        x = nn.max_pool(nn.relu(nn.BatchNorm(use_running_average=True)(x)), (3, 3), (2, 2), "SAME")
        for block, layers in enumerate((6, 12, 24, 16)):
            if block:
                x = nn.avg_pool(convolved(x, x.shape[-1] // 2, 1), (2, 2), (2, 2))
            for _ in range(layers):
                x = jnp.concatenate([x, convolved(convolved(x, 128, 1), 32, 3)], axis=-1)
        x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
        return nn.Dense(1000)(x.mean((1, 2)))


MODELS: tuple[tuple[str, nn.Module, tuple[int, ...]], ...] = (
    ("MLP of 24 widths, batch 256", Widths(), (256, 64)),
    ("DenseNet-121 on 224x224, batch 2", DenseNet121(), (2, 224, 224, 3)),
)


def measure(
    name: str,
    model: nn.Module,
    shape: tuple[int, ...],
    rounds: int,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Seconds of each round, of which `advance` is told; JAX forgets what it has traced and compiled before each."""
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=shape), jnp.float32)

    def some(leaf: jax.ShapeDtypeStruct) -> Array:
        weights = random.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
        return jnp.asarray(weights if len(leaf.shape) > 1 else np.ones(leaf.shape), jnp.float32)

    fn = functools.partial(model.apply, jax.tree.map(some, jax.eval_shape(model.init, jax.random.key(0), x)))
    seconds: dict[str, list[float]] = {"jit": [], "census": [], **{reading: [] for reading in _READINGS}}
    for _ in range(rounds):
        jax.clear_caches()
        _timed(seconds["jit"], lambda: jax.jit(fn).lower(x).compile())
        jax.clear_caches()
        found = _timed(seconds["census"], lambda: census(fn, [x]))
        for reading, read in _READINGS.items():
            fresh = jax.tree.map(np.asarray, found)  # a census keeps the measures that it has told
            _timed(seconds[reading], functools.partial(read, fresh))
        advance(1)
    return {"name": name, "sites": len(found), "seconds": seconds}


def _timed(seconds: list[float], do: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    result = do()
    seconds.append(time.perf_counter() - began)
    return result


def times_jit(case: dict[str, Any]) -> float:
    """A first census over jit of the same function: the median of the rounds."""
    return float(np.median(_ratios(case)))


def _ratios(case: dict[str, Any]) -> list[float]:
    seconds = case["seconds"]
    return [ours / theirs for ours, theirs in zip(seconds["census"], seconds["jit"], strict=True)]


def to_markdown(cases: list[dict[str, Any]], spread: Callable[[list[float]], str]) -> list[str]:
    """The table, with the quotients of the rounds told by `spread`."""
    rows = []
    for case in cases:
        median = {name: float(np.median(values)) for name, values in case["seconds"].items()}
        readings = [f"{median[reading] * 1e3:.0f} ms" for reading in _READINGS]
        rows.append(
            (
                *(case["name"], str(case["sites"]), f"{median['jit']:.1f} s", f"{median['census']:.1f} s"),
                *(spread(_ratios(case)), *readings),
            )
        )
    head = ("model", "sites", "jit lowers and compiles", "first census", "census / jit")
    return markdown((*head, "print", "`.scalars()`", "`.html()`"), rows)

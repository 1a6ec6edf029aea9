"""A census traces its function anew, unless that is jitted: then its program serves every later census."""

import functools
import logging

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax import nnx

from jax_leaky import Census, census

X = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)


def activity(found: Census) -> np.ndarray:
    (site,) = found
    return site.per_unit("act_freq")


def true(z: np.ndarray) -> np.ndarray:
    return (z > 0).mean(0).astype(np.float32)


def test_a_global_that_changes_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def layer(x: jax.Array) -> jax.Array:
        return jax.nn.relu(x @ W)

    for weights in (W, -W, 2 * W - 1):
        monkeypatch.setitem(globals(), "W", weights)
        np.testing.assert_allclose(activity(census(layer, [X])), true(X @ weights), rtol=1e-6)


SHIFT = 0.0


class Shifted(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.relu(x + SHIFT)


class ShiftedNNX(nnx.Module):
    def __call__(self, x: jax.Array) -> jax.Array:
        return nnx.relu(x + SHIFT)


@pytest.mark.parametrize("fn", [functools.partial(Shifted().apply, {}), ShiftedNNX()], ids=["Linen", "NNX"])
def test_a_module_that_reads_a_global_is_traced_anew(fn: object, monkeypatch: pytest.MonkeyPatch) -> None:
    for shift in (0.0, 0.5, -0.5):
        monkeypatch.setitem(globals(), "SHIFT", shift)
        np.testing.assert_allclose(activity(census(fn, [X])), true(X + np.float32(shift)), rtol=1e-6)  # type: ignore[arg-type] # one of the two above


def test_one_and_true_and_one_point_zero_are_three_arguments() -> None:
    @functools.partial(jax.jit, static_argnums=0)
    def layer(kind: object, x: jax.Array) -> jax.Array:
        return jax.nn.relu(x if kind is True else -x if isinstance(kind, float) else x * 0 - 1)

    for kind, z in ((1, X * 0 - 1), (True, X), (1.0, -X)):
        np.testing.assert_allclose(activity(census(functools.partial(layer, kind), [X])), true(z), rtol=1e-6)


class Compilations(logging.Handler):
    """The names of the functions that JAX compiles, by the log that it writes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        words = record.getMessage().split()
        if words[:3] == ["Finished", "XLA", "compilation"]:
            self.names.append(words[4])

    def __enter__(self) -> list[str]:
        self._logger = logging.getLogger("jax")
        self._logger.addHandler(self)
        return self.names

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)


@pytest.mark.parametrize("gradients", [False, True])
def test_new_weights_of_a_jitted_function_are_counted_without_another_compilation(gradients: bool) -> None:
    model = nn.Sequential([nn.Dense(7), nn.relu, nn.Dense(1)])
    params = model.init(jax.random.key(0), X)
    apply = jax.jit(model.apply)
    census(functools.partial(apply, params), [X], gradients=gradients)
    moved = jax.device_put(jax.tree.map(lambda leaf: np.asarray(leaf) - 0.1, params))
    with jax.log_compiles(), Compilations() as names:
        found = census(functools.partial(apply, moved), [X], gradients=gradients)
    assert names == []
    layer = moved["params"]["layers_0"]
    z = X @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    np.testing.assert_allclose(activity(found), true(z), rtol=1e-6)

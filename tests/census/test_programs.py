"""A program that an earlier census compiled is used again, and only where the function still computes the same."""

import functools
import logging

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

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


def test_a_helper_that_is_defined_anew_is_called() -> None:
    notebook = {"jax": jax}  # what a cell defines is looked up when it is called
    exec("def layer(x): return jax.nn.relu(helper(x))", notebook)
    for sign in (1, -1):
        exec(f"def helper(x): return {sign} * x", notebook)
        np.testing.assert_allclose(activity(census(notebook["layer"], [X])), true(sign * X), rtol=1e-6)


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
    def layer(kind: object, x: jax.Array) -> jax.Array:
        return jax.nn.relu(x if kind is True else -x if isinstance(kind, float) else x * 0 - 1)

    for kind, z in ((1, X * 0 - 1), (True, X), (1.0, -X)):
        np.testing.assert_allclose(activity(census(functools.partial(layer, kind), [X])), true(z), rtol=1e-6)


def test_programs_that_differ_in_what_they_do_with_unused_arguments_are_two() -> None:
    def second(first: jax.Array, x: jax.Array) -> jax.Array:
        del first
        return jax.nn.relu(x)

    def first(x: jax.Array, second: jax.Array) -> jax.Array:
        del second
        return jax.nn.relu(x)

    for fn, z in ((first, X), (second, -X)):
        np.testing.assert_allclose(activity(census(fn, [(X, -X)])), true(z), rtol=1e-6)


def test_a_callback_runs_the_function_of_now() -> None:
    def negated(x: np.ndarray) -> np.ndarray:
        return -x

    for callback, z in ((np.asarray, X), (negated, -X)):

        def layer(x: jax.Array, callback: object = callback) -> jax.Array:
            return jax.nn.relu(jax.pure_callback(callback, jax.ShapeDtypeStruct(x.shape, x.dtype), x))

        np.testing.assert_allclose(activity(census(layer, [X])), true(z), rtol=1e-6)


def test_sites_keep_the_names_of_their_own_function() -> None:
    def named(name: str) -> Census:
        def layer(x: jax.Array) -> jax.Array:
            with jax.named_scope(name):
                return jax.nn.relu(x)

        return census(layer, [X])

    assert [list(named(name).sites) for name in ("encoder", "decoder")] == [
        ["encoder/relu"],
        ["decoder/relu"],
    ]


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


@pytest.mark.parametrize("how", ["partial", "lambda", "gradients"])
def test_new_weights_are_counted_without_another_compilation(how: str) -> None:
    width = {"partial": 7, "lambda": 8, "gradients": 9}[how]  # a program that no other case has compiled
    model = nn.Sequential([nn.Dense(width), nn.relu, nn.Dense(1)])
    params = model.init(jax.random.key(0), X)

    def look(params: object) -> Census:
        # A lambda that is made anew each time, as in a loop over epochs, and a method.
        fn = (lambda params, x: model.apply(params, x)) if how == "lambda" else model.apply
        fn = functools.partial(fn, params)
        return census(fn, [X], gradients=how == "gradients")

    with jax.log_compiles(), Compilations() as names:
        look(params)
    assert names.count("jit(count)") == 1
    with jax.log_compiles(), Compilations() as names:
        moved = jax.device_put(jax.tree.map(lambda leaf: np.asarray(leaf) - 0.1, params))
        found = look(moved)
    assert names == []
    z = X @ np.asarray(moved["params"]["layers_0"]["kernel"]) + np.asarray(
        moved["params"]["layers_0"]["bias"]
    )
    np.testing.assert_allclose(activity(found), true(z), rtol=1e-6)


@pytest.mark.parametrize("committed", [False, True])
def test_programs_of_other_devices_are_others(committed: bool) -> None:
    for first in (0, 2, 0):
        mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,), devices=jax.devices()[first : first + 2])
        spread = NamedSharding(mesh, PartitionSpec("data"))

        def layer(x: jax.Array, spread: NamedSharding = spread) -> jax.Array:
            return jax.nn.relu(jax.lax.with_sharding_constraint(x, spread))

        batches = [jax.device_put(X, spread) if committed else X] * 2
        np.testing.assert_allclose(activity(census(layer, batches)), true(X), rtol=1e-6)

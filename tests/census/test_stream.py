"""What `batches` may be, how it is read, and the one sentence for what it may not be."""

import functools
import gc
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import census

X = np.random.default_rng(1).normal(size=(24, 6)).astype(np.float32)


def layer(x: jax.Array) -> jax.Array:
    with jax.named_scope("layer"):
        return jax.nn.relu(x)


def fired(found: object) -> list[int]:
    return found["layer/relu"].counts.fired.to_numpy().tolist()  # type: ignore[index] # any census


def count(x: np.ndarray) -> list[int]:
    return (x > 0).sum(0).tolist()


class Loader:
    """A loader as grain and PyTorch have them: an iterable with a length."""

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(np.split(X, 3))


@pytest.mark.parametrize(
    "batches",
    [X, jnp.asarray(X), (X,), [X], [X[:10], X[10:]], Loader(), [[X]], [(X[:8],), (X[8:],)]],
    ids=["array", "jax", "tuple", "list", "ragged", "loader", "spread list", "spread tuples"],
)
def test_any_form_of_the_same_samples_gives_the_same_counts(batches: object) -> None:
    assert fired(census(layer, batches)) == count(X)


def test_a_generator_is_read_once() -> None:
    drawn = []

    def batches() -> Iterator[np.ndarray]:
        for place in range(12):
            drawn.append(place)
            yield X[2 * place : 2 * place + 2]

    found = census(layer, batches())
    assert drawn == list(range(12))
    assert fired(found) == count(X)


def test_a_tuple_is_spread_and_a_dict_or_named_tuple_is_one_argument() -> None:
    class Batch(NamedTuple):
        image: np.ndarray
        label: np.ndarray

    label = np.ones(24)
    assert fired(census(lambda x, y: layer(x) * y[:, None], [(X, label)])) == count(X)
    assert fired(census(lambda batch: layer(batch["image"]), [{"image": X, "label": label}])) == count(X)
    assert fired(census(lambda batch: layer(batch.image), [Batch(X, label)])) == count(X)


@pytest.mark.peer
def test_tensors_of_torch_are_arrays() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency of the tests")
    assert fired(census(layer, [torch.from_numpy(X)])) == count(X)


def test_each_shape_is_traced_once() -> None:
    shapes = []

    def fn(x: jax.Array) -> jax.Array:
        shapes.append(x.shape[0])
        return layer(x)

    found = census(fn, [X[:5], X[5:10], X[10:12], X[12:17], X[17:19], X[19:24]])
    assert sorted(shapes) == [2, 5]
    assert fired(found) == count(X)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_batches() -> None:
    alive = []

    def batches(number: int) -> Iterator[jax.Array]:
        for place in range(number):
            gc.collect()
            alive.append(sum(array.size for array in jax.live_arrays()))
            yield jnp.full((1000, 6), float(place))

    census(layer, batches(30))
    assert max(alive[5:]) <= alive[4]


def test_weights_of_a_partial_are_no_constants_of_the_program() -> None:
    # Found out by their tracing: an argument is a tracer while the function runs, a constant is not.
    seen = []

    def fn(weights: jax.Array, x: jax.Array) -> jax.Array:
        seen.append(isinstance(weights, jax.core.Tracer))
        return layer(x @ weights)

    assert fired(census(functools.partial(fn, jnp.eye(6)), X)) == count(X)
    assert seen == [True]


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"fn": 3}, TypeError, "fn must be callable, got int"),
        ({"batches": []}, ValueError, "batches gave no batch"),
        ({"batches": 3}, TypeError, "batches is of type int: give an array, or an iterable of batches"),
        ({"sites": "decoder/*"}, ValueError, "no site is named 'decoder/\\*'; the sites are layer/relu"),
        ({"batches": [{"x": "cat.png"}]}, TypeError, "a batch holds a str, which is no number"),
        ({"fn": lambda x: x + 1}, ValueError, "the function has no activation site"),
        ({"fn": lambda x: layer(x) if x.sum() > 0 else x}, TypeError, "census could not trace .*lambda"),
        ({"fn": lambda x: layer(x.sum())}, ValueError, "layer/relu is a single number, which has no units"),
        ({"rare_below": 2}, ValueError, "rare_below=2 is not a share"),
        ({"progress": "yes"}, TypeError, "progress='yes' is neither None, True nor False"),
    ],
)
def test_bad_input_gets_one_sentence(arguments: dict, error: type[Exception], sentence: str) -> None:
    given = {"fn": layer, "batches": [X], **arguments}
    with pytest.raises(error, match=sentence):
        census(**given)


def test_a_site_without_units_is_left_out_and_listed() -> None:
    def fn(x: jax.Array) -> jax.Array:
        return layer(x) * jax.nn.softplus(x[0, 0])

    found = census(fn, X)
    assert list(found.sites) == ["layer/relu"]
    assert [part.why for part in found.opaque] == ["its input is a single number"]
    assert "1 site, 1 opaque" in str(found)
    with pytest.raises(ValueError, match="single number"):
        census(fn, X, sites=found.opaque[0].what)


def test_a_bar_is_shown_on_stderr_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    census(layer, Loader(), progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "3/3 batches" in err
    census(layer, Loader(), progress=False)
    census(layer, Loader())  # no terminal, and quick
    assert capsys.readouterr() == ("", "")

"""What `batches` may be, how it is read, and the one sentence for what it may not be."""

import functools
import gc
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import census, value_and_census

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


def test_text_beside_the_numbers_is_free_to_be_there() -> None:
    traces = []

    @jax.jit
    def fn(batch: dict) -> jax.Array:
        traces.append(sorted(batch))
        return layer(batch["image"])

    halves = [X[:12], X[12:]]
    texts = [np.array(["a", "b"]), np.array([None, "x", "longer"])]
    batches = [
        {"image": x, "caption": t, "path": f"{i}.png"}
        for i, (x, t) in enumerate(zip(halves, texts, strict=False))
    ]
    assert fired(census(fn, batches)) == count(X)
    assert len(traces) == 1
    assert fired(census(lambda x, _: layer(x), [(x, ["a", "b"]) for x in halves])) == count(X)


@pytest.mark.parametrize(
    "use",
    [
        lambda x, text: x + text,
        lambda x, text: x if text == "train" else -x,
        lambda x, text: x * len(text),
        lambda x, text: x * jnp.asarray(text),
        lambda x, text: x if text else -x,
    ],
)
def test_text_that_fn_uses_is_refused(use: object) -> None:
    with pytest.raises(
        TypeError, match="fn uses what is no number or array in the batch, a str: make numbers of it"
    ):
        census(lambda x, text: layer(use(x, text)), [(X, "train")])  # type: ignore[operator] # text is what is refused


MASK = np.arange(24) % 5 > 1


@pytest.mark.parametrize(
    ("how", "form"),
    [
        ("census", "examples"),
        ("census", "tokens as one axis"),
        ("value_and_census", "tokens"),
        pytest.param("value_and_census", "a scan over layers", marks=pytest.mark.slow),
        pytest.param("census", "a scan over layers", marks=pytest.mark.slow),
    ],
)
def test_padding_is_left_out(how: str, form: str) -> None:
    def fn(x: jax.Array, _: jax.Array) -> jax.Array:
        h = x
        if form == "tokens as one axis":
            h = x.reshape(-1, 6)
        if form == "a scan over layers":
            h = jax.lax.scan(lambda h, w: (jax.nn.relu(h @ w), None), h, jnp.eye(6)[None])[0]
            return jnp.sum(h)
        return jnp.sum(layer(h) * jnp.arange(6))

    x, mask = (X, MASK) if form == "examples" else (X.reshape(6, 4, 6), MASK.reshape(6, 4))
    x = np.where(mask[..., None], x, np.nan if form == "examples" else np.float32(7))
    keep = {"where": lambda _, mask: mask, "gradients": True}
    if how == "census":
        half = len(x) // 2
        found = census(fn, [(x[:half], mask[:half]), (x[half:], mask[half:])], **keep)
    else:
        found = jax.jit(value_and_census(fn, **keep))(x, mask)[1]
    (site,) = found
    assert site.n == MASK.sum()
    np.testing.assert_allclose(site.per_unit("act_freq"), (X[MASK] > 0).mean(0), rtol=1e-6)
    weights = np.ones(6) if form == "a scan over layers" else np.arange(6)
    g = (X[MASK] > 0) * weights
    np.testing.assert_array_equal(site.counts.grad_nonzero.to_numpy(), (g != 0).sum(0))
    np.testing.assert_allclose(site.counts.grad_sum.high, g.sum(0), rtol=1e-6)


@pytest.mark.parametrize(
    ("where", "error", "sentence"),
    [
        (MASK, TypeError, "where is of type ndarray: give a function from the arguments of fn to the mask"),
        (lambda x: x[:, 0], TypeError, "where gives the dtype float32: give bool, False for padding"),
        (
            lambda x: x[:5, 0] > 0,
            ValueError,
            r"the shape \(5,\), but the samples of layer/relu have the shape \(24,\)",
        ),
        (lambda x: x > 0, ValueError, r"where gives the shape \(24, 6\), but the samples of layer/relu"),
    ],
)
def test_a_mask_that_does_not_fit_gets_one_sentence(
    where: object, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        census(layer, X, where=where)  # type: ignore[arg-type] # some are refused


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"fn": 3}, TypeError, "fn must be callable, got int"),
        ({"batches": []}, ValueError, "batches gave no batch"),
        ({"batches": 3}, TypeError, "batches is of type int: give an array, or an iterable of batches"),
        ({"sites": "decoder/*"}, ValueError, "no site is named 'decoder/\\*'; the sites are layer/relu"),
        ({"batches": [{"x": "cat.png"}]}, TypeError, "a batch holds a str, which JAX does not take for num"),
        (
            {"batches": [np.ma.masked_less(X, 0)]},
            TypeError,
            "a batch holds a MaskedArray of float32, which JAX",
        ),
        (
            {"batches": [(X, X[:, 0])]},
            TypeError,
            r"is spread, fn\(\*batch\), and this one gives 2 arguments: take",
        ),
        ({"fn": lambda x: x + 1}, ValueError, "the function has no activation site"),
        ({"fn": lambda x: layer(x) if x.sum() > 0 else x}, TypeError, "census could not trace .*lambda"),
        ({"fn": lambda x: layer(x.sum())}, ValueError, "layer/relu is a single number, which has no units"),
        ({"rare_below": 2}, ValueError, "rare_below=2 is not a share"),
        ({"rare_below": "a"}, TypeError, "rare_below='a' is not a share: give a number from 0 to 1"),
        ({"sites": 3}, TypeError, "sites must be a name, a pattern or several of these, got 3"),
        ({"scan_rows": "a"}, TypeError, "scan_rows='a' is neither None, True nor False"),
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

"""scan, while and fori_loop: entered, with the records that a loop in Python would give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from tracing_oracle import (
    W,
    X,
    count,
    layer,
    looped,
    merge,
    numpy_count,
    numpy_merge,
    steps,
    unchanged,
)

from jax_leaky.tracing import Reached, list_sites, observe


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_stacks_records_per_step(reverse):
    def fn(x, ws):
        with jax.named_scope("net"):
            return lax.scan(lambda c, w: (layer(c, w), c.sum()), x, ws, reverse=reverse)

    ws = jnp.stack([W, W.T, -W])
    seen = unchanged(fn, X, ws)["net/scan/relu"]
    x, expected = X, []
    for w in ws[::-1] if reverse else ws:
        expected.append(numpy_count(x @ w))
        x = layer(x, w)
    expected = expected[::-1] if reverse else expected
    assert seen["fired"].tolist() == [step["fired"] for step in expected]
    np.testing.assert_allclose(seen["top"], [step["top"] for step in expected], rtol=1e-6)
    assert list_sites(fn, X, ws)[0].stacked == (3,)


@pytest.mark.parametrize("unroll", [1, 2])
def test_a_scan_merges_records(unroll):
    def fn(x, w):
        return lax.scan(lambda c, _: (layer(c, w), None), x, None, length=5, unroll=unroll)[0]

    (seen,) = unchanged(fn, X, W, merge=merge).values()
    expected = numpy_merge([numpy_count(z) for z in steps(X, W, 5)])
    assert seen["fired"].tolist() == expected["fired"]
    assert seen["n"] == 20
    np.testing.assert_allclose(seen["top"], expected["top"], rtol=1e-6)


def test_a_scan_without_steps_holds_no_site():
    def fn(x):
        return lax.scan(lambda c, _: (jax.nn.relu(c), None), x, None, length=0)[0]

    assert unchanged(fn, X) == {}


def test_a_scan_in_a_scan():
    def fn(x, w):
        def outer(c, _):
            return lax.scan(lambda d, _: (layer(d, w), None), c, None, length=2)[0], None

        return lax.scan(outer, x, None, length=3)[0]

    (stacked,) = unchanged(fn, X, W).values()
    (merged,) = unchanged(fn, X, W, merge=merge).values()
    expected = [numpy_count(z)["fired"] for z in steps(X, W, 6)]
    assert stacked["fired"].reshape(6, -1).tolist() == expected
    assert merged["fired"].tolist() == np.sum(expected, 0).tolist()
    assert list_sites(fn, X, W)[0].stacked == (3, 2)


def test_a_fori_loop_of_known_length_is_a_scan():
    def fn(x, w):
        return lax.fori_loop(0, 3, lambda i, c: layer(c, w) + i, x)

    (seen,) = unchanged(fn, X, W).values()
    assert seen["fired"].shape == (3, 6)


@pytest.mark.parametrize("n", [0, 1, 4])
@pytest.mark.parametrize("compile_it", [False, True])
def test_a_while_loop_merges_records_and_counts_its_steps(n, compile_it):
    observed = observe(looped, count, merge=merge)
    out, seen = (jax.jit(observed) if compile_it else observed)(X, W, jnp.int32(n))
    assert out.tobytes() == (jax.jit(looped) if compile_it else looped)(X, W, jnp.int32(n)).tobytes()
    ((name, reached),) = seen.items()
    assert name.startswith("while/")
    assert isinstance(reached, Reached)
    assert reached.times == n
    expected = (
        numpy_merge([numpy_count(z) for z in steps(X, W, n)]) if n else {"n": 0, "fired": [0] * 6, "top": 0.0}
    )
    assert reached.record["fired"].tolist() == expected["fired"]
    assert reached.record["n"] == expected["n"]
    np.testing.assert_allclose(reached.record["top"], expected["top"], rtol=1e-5)


def test_a_while_loop_without_merge_is_left_out_with_a_warning():
    with pytest.warns(UserWarning, match="observe does not record while/.* relu: .* give merge="):
        out, seen = observe(looped, count)(X, W, jnp.int32(2))
    assert seen == {}
    assert out.tobytes() == looped(X, W, jnp.int32(2)).tobytes()
    (site,) = list_sites(looped, X, W, jnp.int32(2))
    assert (site.conditional, bool(site.needs_merge)) == (True, True)
    assert observe(lambda x: jax.nn.relu(looped(x, W, jnp.int32(2))), count, sites="test_*")(X)[1].keys()


def test_the_condition_of_a_while_loop_is_opaque():
    def fn(x):
        return lax.while_loop(lambda c: jax.nn.relu(c).sum() > 9, lambda c: jnp.tanh(c), x)

    sites = list_sites(fn, X)
    assert [site.kind for site in sites] == ["tanh"]
    assert [part.why for part in sites.opaque] == ["the condition of a while loop, 1 activation inside"]
    assert observe(fn, count, merge=merge)(X)[0].tobytes() == fn(X).tobytes()


def test_a_while_loop_differentiates_forward():
    def fn(x):
        return looped(x, W, jnp.int32(3))

    out = jax.jvp(fn, (X,), (X,))
    observed = jax.jvp(jax.jit(lambda x: observe(fn, count, merge=merge)(x)[0]), (X,), (X,))
    np.testing.assert_allclose(out[1], observed[1], rtol=1e-6)


def test_a_merge_of_another_type_is_refused():
    with pytest.raises(
        ValueError, match=r"merge must give a record of the same structure, shapes and dtypes"
    ):
        observe(looped, lambda _, z: (z > 0).sum(), merge=lambda a, b: (a + b) / 2)(X, W, jnp.int32(2))

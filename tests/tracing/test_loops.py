"""scan, while and fori_loop: entered, with the records that a loop in Python would give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax_leaky._tracing import Reached, Traced, Visitor, list_sites, observe
from tests.tracing.oracle import (
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


LAYERS = jnp.stack([-jnp.eye(6), jnp.eye(6)])
STEPS = {
    "scan": lambda x: lax.scan(lambda c, w: (jax.nn.relu(c @ w), None), x, LAYERS)[0],
    "fori_loop": lambda x: lax.fori_loop(0, 2, lambda i, c: jax.nn.relu(c @ LAYERS[i]), x),
    "fori_loop from 1": lambda x: lax.fori_loop(1, 3, lambda i, c: jax.nn.relu(c @ LAYERS[i - 1]), x),
    "dynamic_index": lambda x: lax.fori_loop(
        0, 2, lambda i, c: jax.nn.relu(c @ lax.dynamic_index_in_dim(LAYERS, i, keepdims=False)), x
    ),
    "jit": lambda x: lax.fori_loop(0, 2, jax.jit(lambda i, c: jax.nn.relu(c @ LAYERS[i])), x),
    "carried": lambda x: lax.scan(
        lambda c, _: ((c[0] + 1, jax.nn.relu(c[1] @ jnp.take(LAYERS, c[0], axis=0))), None), (0, x), length=2
    )[0][1],
}


@pytest.mark.parametrize("how", sorted(STEPS))
def test_layers_that_a_loop_takes_by_number_are_layers(how):
    """The first is dead on a positive batch, the second is not: merged, neither would be."""
    x = jnp.abs(X) + 0.25
    (site,) = list_sites(STEPS[how], x)
    assert [(loop.length, loop.over_layers) for loop in site.loops] == [(2, True)]
    visitor = Visitor(
        record=lambda _, visit: (visit.z > 0).sum(0),
        merge=lambda older, newer: older + newer,
        stacks=lambda loop: loop.over_layers,
    )
    (fired,) = Traced("test", STEPS[how], (x,), {}).run(visitor)[1].values()
    first = np.asarray(x) @ -np.eye(6)
    expected = [(first > 0).sum(0), (np.maximum(first, 0) > 0).sum(0)]
    np.testing.assert_array_equal(fired, expected)


@pytest.mark.parametrize(
    "step", [lambda i, c: jax.nn.relu(c @ W + i), lambda i, c: jax.nn.relu(c @ W + X[i] @ W)]
)
def test_a_loop_that_only_counts_or_reads_its_input_by_number_is_over_time(step):
    (site,) = list_sites(lambda x: lax.fori_loop(0, 3, step, x), X)
    assert [loop.over_layers for loop in site.loops] == [False]


def sgd(product):
    """An epoch of stochastic gradient descent, a step for each minibatch."""

    def epoch(w, batches):
        def step(w, x):
            return w - 0.1 * jax.grad(lambda w: (jax.nn.relu(product(w, x)) ** 2).mean())(w), None

        return lax.scan(step, w, batches)[0]

    return epoch


def environment(w, x):
    """Acting and learning in one loop: steps of an environment, then an epoch over what was seen."""

    def update(state, _):
        w, x = state
        x, seen = lax.scan(lambda x, _: (jax.nn.relu(x @ w), x), x, None, length=2)
        return (sgd(lambda w, x: x @ w)(w, seen), x), None

    return lax.scan(update, (w, x), None, length=3)[0]


def fast_weights(w, xs):
    """Weights that each step adds to, without a gradient."""
    return lax.scan(lambda w, x: (w + x.T @ jax.nn.relu(x @ w), None), w, xs)[0]


def vmapped(w, x):
    return jax.vmap(lambda row: w @ row)(x)


def convolved(w, x):
    return lax.conv_general_dilated(
        x[..., None], w[:3, None, None, 0], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )


XS, WS = jnp.stack([X] * 3), jnp.stack([W] * 3)
# name: the function, its arguments, and for each site whether the loops around it are over layers
ROWS = {
    "layers": (lambda x, ws: lax.scan(lambda c, w: (jax.nn.relu(c @ w), None), x, ws)[0], (X, WS), [[True]]),
    "layers of w @ x": (
        lambda x, ws: lax.scan(lambda c, w: (jax.nn.relu(vmapped(w, c)), None), x, ws)[0], (X, WS), [[True]],
    ),
    "layers of an einsum": (
        lambda x, ws: lax.scan(lambda c, w: (jax.nn.relu(jnp.einsum("bi,oi->bo", c, w)), None), x, ws)[0],
        (X, WS),
        [[True]],
    ),
    "minibatches of an evaluation of w @ x": (
        lambda w, xs: lax.scan(lambda w, x: (w, jax.nn.relu(vmapped(w, x)).sum()), w, xs)[1], (W, XS), [[False]],
    ),
    "layers with a residual, differentiated": (
        lambda x, ws: jax.grad(lambda ws: lax.scan(lambda c, w: (c + jax.nn.relu(c @ w), None), x, ws)[0].sum())(ws),
        (X, WS),
        [[True]],
    ),
    "minibatches": (sgd(lambda w, x: x @ w), (W, XS), [[False]]),
    "minibatches of w @ x": (sgd(vmapped), (W, XS), [[False]]),
    "minibatches of a convolution": (sgd(convolved), (W, XS), [[False]]),
    "minibatches of an evaluation": (
        lambda w, xs: lax.scan(lambda w, x: (w, jax.nn.relu(x @ w).sum()), w, xs)[1], (W, XS), [[False]],
    ),
    "minibatches by number": (
        lambda w, xs: lax.fori_loop(0, 3, lambda i, w: sgd(lambda w, x: x @ w)(w, xs[i][None]), w),
        (W, XS),
        [[False, False]],
    ),
    "time": (lambda w, xs: lax.scan(lambda c, x: (jax.nn.relu(c @ w + x @ w), None), X, xs)[0], (W, XS), [[False]]),
    "an environment": (environment, (W, X), [[False, False], [False, False]]),
    "fast weights": (fast_weights, (W, XS), [[False]]),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_layers_have_rows_and_time_and_minibatches_do_not(name):
    fn, args, expected = ROWS[name]
    sites = list_sites(fn, *args)
    assert [site.kind for site in sites] == ["relu"] * len(expected)
    assert [[loop.over_layers for loop in site.loops] for site in sites] == expected


@pytest.mark.parametrize("name", ["layers", "time"])
@pytest.mark.parametrize("scan_rows", [True, False])
def test_the_user_decides_whether_a_scan_has_rows(name, scan_rows):
    fn, args, _ = ROWS[name]
    (site,) = Traced("test", fn, args, {}, scan_rows=scan_rows).sites
    assert [loop.over_layers for loop in site.loops] == [scan_rows]


def test_a_while_loop_says_that_it_sums_over_steps():
    (site,) = list_sites(looped, X, W, jnp.int32(2))
    assert site.loops == ()
    assert "over whose steps it is summed" in str(list_sites(looped, X, W, jnp.int32(2)))


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
    with pytest.warns(UserWarning, match="observe does not record while/layer/relu: .* give merge="):
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

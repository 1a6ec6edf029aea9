"""shard_map over weights: units that are spread over shards are counted as those of the whole layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jax_leaky._tracing import Traced, Visitor, list_sites, observe, swap

RANDOM = np.random.default_rng(3)
X = jnp.asarray(RANDOM.integers(-8, 9, (8, 6)) / 4, jnp.float32)
W = jnp.asarray(RANDOM.integers(-2, 3, (6, 4)) / 4, jnp.float32)
V = jnp.asarray(RANDOM.integers(-2, 3, (4, 6)) / 4, jnp.float32)
BIAS = jnp.array([0.0, -100.0, 100.0, 0.5])
IMAGES = jnp.asarray(RANDOM.integers(-8, 9, (4, 5, 5, 6)) / 4, jnp.float32)
FILTERS = jnp.asarray(np.stack([np.stack([W, -W, W])] * 3))
IMAGES_OF_EACH = jnp.stack([IMAGES[:, :4, :4], -IMAGES[:, 1:, 1:]] * 4)
FILTERS_OF_EACH = jnp.stack([FILTERS, -FILTERS] * 4)


def conv(x, w):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def biased(x, w, bias):
    z = x @ w + bias
    return jnp.where(z > 0, z, 0)


def sharded(body, in_specs, out_specs):
    mesh = jax.make_mesh((2, 2), ("d", "m"), axis_types=(AxisType.Auto,) * 2)
    return jax.shard_map(body, mesh=mesh, in_specs=in_specs, out_specs=out_specs)


def counted(_, z):
    leading = tuple(range(z.ndim - 1))
    return {"n": jnp.int32(np.prod([z.shape[i] for i in leading])), "fired": (z > 0).sum(leading)}


def merge(older, newer):
    return jax.tree.map(jnp.add, older, newer)


def numpy_counted(z):
    rows = np.asarray(z).reshape(-1, z.shape[-1])
    return {"n": len(rows), "fired": (rows > 0).sum(0).tolist()}


H = jax.nn.relu(X @ W)
ROWS, COLUMNS = P("d", None), P(None, "m")
# name: body, in_specs, out_specs, arguments, the z of each site
SPREAD = {
    "columns": (lambda x, w: jax.nn.relu(x @ w), (ROWS, COLUMNS), P("d", "m"), (X, W), [X @ W]),
    "weights alone": (lambda x, w: jax.nn.relu(x @ w), (P(), COLUMNS), COLUMNS, (X, W), [X @ W]),
    "bias and where": (biased, (ROWS, COLUMNS, P("m")), P("d", "m"), (X, W, BIAS), [X @ W + BIAS]),
    "columns, then rows": (
        lambda x, w, v: jax.nn.relu(lax.psum(jax.nn.relu(x @ w) @ v, "m")),
        (ROWS, COLUMNS, P("m", None)),
        P("d"),
        (X, W, V),
        [X @ W, H @ V],
    ),
    "transposed": (lambda x, w: jax.nn.relu(x @ w.T), (ROWS, P("m", None)), P("d", "m"), (X, W.T), [X @ W]),
    "channels": (
        lambda x, w: jax.nn.relu(conv(x, w)),
        (P("d"), P(None, None, None, "m")),
        P("d", None, None, "m"),
        (IMAGES, FILTERS),
        [conv(IMAGES, FILTERS)],
    ),
    "an ensemble of convolutions": (  # vmap puts reshapes that transpose around them
        lambda x, w: jax.nn.relu(jax.vmap(conv)(jax.vmap(conv)(x, w), jnp.swapaxes(w, 3, 4))),
        (P("d"), P("d")),
        P("d"),
        (IMAGES_OF_EACH, FILTERS_OF_EACH),
        [
            jax.vmap(conv)(
                jax.vmap(conv)(IMAGES_OF_EACH, FILTERS_OF_EACH), jnp.swapaxes(FILTERS_OF_EACH, 3, 4)
            )
        ],
    ),
    "flattened": (
        lambda x, w: jax.nn.relu((x[:, None] * w.T).reshape(len(x), -1)),
        (ROWS, COLUMNS),
        P("d", "m"),
        (X, W),
        [(X[:, None] * W.T).reshape(8, -1)],
    ),
    "gathered before": (
        lambda x, w: jax.nn.relu(lax.all_gather(x @ w, "m", axis=1, tiled=True)),
        (ROWS, COLUMNS),
        P("d", "m"),
        (X, W),
        [X @ W],
    ),
    "jit and remat": (
        jax.jit(lambda x, w: jax.checkpoint(lambda h: jax.nn.relu(h))(x @ w)),
        (ROWS, COLUMNS),
        P("d", "m"),
        (X, W),
        [X @ W],
    ),
    "both axes are samples": (lambda x: jax.nn.relu(x), P(("d", "m")), P(("d", "m")), (X,), [X]),
    "an embedding": (
        lambda i, w: jax.nn.relu(w[i]),
        (P("d"), P()),
        P("d"),
        (jnp.arange(8) % 6, W),
        [W[jnp.arange(8) % 6]],
    ),
}


@pytest.mark.parametrize("name", sorted(SPREAD))
def test_units_spread_over_shards_are_those_of_the_whole_layer(name):
    body, in_specs, out_specs, args, expected = SPREAD[name]
    fn = sharded(body, in_specs, out_specs)
    # Outside jit a shard_map runs each of its operations as a program of its own: that is tried once.
    for wrap in (jax.jit, lambda f: f) if name == "columns" else (jax.jit,):
        out, seen = wrap(observe(fn, counted, merge=merge))(*args)
        assert out.tobytes() == wrap(fn)(*args).tobytes()
        assert [jax.tree.map(lambda leaf: leaf.tolist(), record) for record in seen.values()] == [
            numpy_counted(z) for z in expected
        ]
    assert list_sites(fn, *args).opaque == ()
    assert [site.shape[-1] for site in list_sites(fn, *args)] == [z.shape[-1] for z in expected]


def test_records_are_stacked_over_the_samples_alone():
    fn = sharded(*SPREAD["columns"][:3])
    (site,) = list_sites(fn, X, W)
    assert (site.shape, site.stacked) == ((4, 4), (2,))
    ((fired),) = (record["fired"] for record in jax.jit(observe(fn, counted))(X, W)[1].values())
    np.testing.assert_array_equal(fired, (np.asarray(X @ W) > 0).reshape(2, 4, 4).sum(1))


def test_the_layers_of_a_scan():
    weights = jnp.stack([W @ V, -jnp.eye(6), jnp.eye(6)])

    def body(x, ws):
        def step(c, w):
            h = jax.checkpoint(lambda w: jax.nn.relu(c @ w))(w)
            return lax.all_gather(h, "m", axis=1, tiled=True), None

        return lax.scan(step, lax.pcast(x, "m", to="varying"), ws)[0]

    fn = sharded(body, (ROWS, P(None, None, "m")), P("d", "m"))
    (merged,) = jax.jit(observe(fn, counted, merge=merge))(X, weights)[1].values()
    (stacked,) = jax.jit(observe(fn, counted))(X, weights)[1].values()
    fired, x = [], np.asarray(X)
    for w in np.asarray(weights):
        fired.append((x @ w > 0).reshape(2, 4, 6).sum(1))
        x = np.maximum(x @ w, 0)
    np.testing.assert_array_equal(stacked["fired"], np.stack(fired, 1))
    np.testing.assert_array_equal(merged["fired"], np.sum(fired, (0, 1)))
    assert merged["n"] == 24


def test_a_branch_that_all_shards_of_a_layer_take():
    def body(x, w):
        return lax.cond(x.sum() > 0, lambda z: jax.nn.relu(z), jnp.tanh, x @ w)

    _, seen = jax.jit(observe(sharded(body, (ROWS, COLUMNS), P("d", "m")), counted, merge=merge))(X, W)
    taken = np.asarray(X).reshape(2, -1).sum(1) > 0
    for kind, rows in (("tanh", ~taken), ("relu", taken)):
        (reached,) = (record for name, record in seen.items() if kind in name)
        z = np.asarray(X @ W).reshape(2, 4, 4)[rows]
        assert int(reached.times) == rows.sum()
        np.testing.assert_array_equal(reached.record["fired"], (z > 0).sum((0, 1)))


UNCLEAR = (
    "a relu whose shards along the mesh axis AXIS hold other samples or other units; if samples, say so by "
    "sample_axes=['AXIS']"
)


def turned(x):
    return lax.cond(lax.axis_index("d") == 0, lambda v: v, lambda v: -v, x)


def turned_in_a_loop(x):
    return lax.while_loop(lambda c: c[0] > 0, lambda c: (c[0] - 1, -c[1]), (lax.axis_index("d"), x))[1]


@pytest.mark.parametrize("turn", [turned, turned_in_a_loop])
def test_what_shards_make_of_the_same_array_are_other_samples_if_the_user_says_so(turn):
    fn = sharded(lambda x: jax.nn.relu(turn(lax.pcast(x, "d", to="varying"))), P(), P("d"))
    assert [part.why for part in list_sites(fn, X).opaque] == [UNCLEAR.replace("AXIS", "d")]
    ((record),) = jax.jit(observe(fn, counted, merge=merge, sample_axes="d"))(X)[1].values()
    assert jax.tree.map(lambda leaf: leaf.tolist(), record) == numpy_counted(np.concatenate([X, -X]))


DOUBTFUL = {
    "its own weights by number": (
        lambda x, w: jax.nn.relu(x @ w[lax.axis_index("m")]),
        (ROWS, P()),
        P("d", "m"),
        (X, jnp.stack([W, -W])),
    ),
    "sums in parts": (lambda x, w: jax.nn.relu(x @ w), (P("d", "m"), P("m", None)), P(("d", "m")), (X, W)),
    "its own part of the weights": (
        lambda x, w: jax.nn.relu(x @ lax.dynamic_slice_in_dim(w, 2 * lax.axis_index("m"), 2, 1)),
        (ROWS, P()),
        P("d", "m"),
        (X, W),
    ),
    "flattened in another order": (
        lambda x, w: jax.nn.relu((x[:, :, None] * w).reshape(len(x), -1)),
        (ROWS, COLUMNS),
        P("d", "m"),
        (X, W),
    ),
    "a branch of one shard": (
        lambda x, w: lax.cond(w.sum() > 0, lambda z: jax.nn.relu(z), lambda z: z, x @ w),
        (ROWS, COLUMNS),
        P("d", "m"),
        (X, W),
    ),
}


@pytest.mark.parametrize("name", sorted(DOUBTFUL))
def test_units_that_may_be_spread_in_an_unknown_way_are_opaque(name):
    body, in_specs, out_specs, args = DOUBTFUL[name]
    fn = sharded(body, in_specs, out_specs)
    sites = list_sites(fn, *args)
    assert len(sites) == 0
    assert [part.why for part in sites.opaque] == [UNCLEAR.replace("AXIS", "m")]
    with pytest.warns(
        UserWarning, match="observe records nothing: the function has no activation site, 1 opaque;"
    ):
        out, seen = jax.jit(observe(fn, counted, merge=merge))(*args)
    assert out.tobytes() == jax.jit(fn)(*args).tobytes()
    assert seen == {}


@pytest.mark.slow
def test_a_tap_sees_all_units_and_gives_each_its_gradient():
    fn = sharded(*SPREAD["columns"][:3])

    def tapped(bias):
        visitor = Visitor(tap=lambda _, z, steps: z + bias)  # noqa: ARG005 the signature of a tap
        return (Traced("test", fn, (X, W), {}).run(visitor)[0] ** 2).sum()

    expected = jax.grad(lambda bias: (jax.nn.relu(X @ W + bias) ** 2).sum())(BIAS)
    for wrap in (jax.jit, lambda f: f):
        np.testing.assert_allclose(wrap(jax.grad(tapped))(BIAS), expected, rtol=1e-6)


def test_swap_replaces_each_shards_own_units():
    fn = sharded(*SPREAD["columns"][:3])
    assert (
        swap(fn, {"relu": jnp.tanh})(X, W).tobytes()
        == sharded(lambda x, w: jnp.tanh(x @ w), (ROWS, COLUMNS), P("d", "m"))(X, W).tobytes()
    )


def test_a_batch_norm_of_each_shard_and_weights_that_are_cast_to_differ_leave_the_samples_samples():
    def body(x, w):
        z = x @ lax.pcast(w, "d", to="varying")
        gate, z = jnp.split((z - z.mean(0)) / 8, 2, axis=1)
        return jax.nn.relu(z) * gate

    fn = sharded(body, (P("d"), P()), P("d"))
    ((record),) = jax.jit(observe(fn, counted, merge=merge))(X, W)[1].values()
    z = np.asarray(X @ W).reshape(2, 4, 4)
    z = (z - z.mean(1, keepdims=True))[:, :, 2:].reshape(8, 2)
    assert jax.tree.map(lambda leaf: leaf.tolist(), record) == numpy_counted(z)


@pytest.mark.parametrize("across", ["the same samples", "other samples"])
def test_experts_of_their_own_weights_are_other_units(across):
    specs = {"the same samples": P(), "other samples": P("m")}
    fn = sharded(lambda x, w: jax.nn.relu(x @ w[0]), (specs[across], P("m")), P("m"))
    assert [part.why for part in list_sites(fn, X, jnp.stack([W, -W])).opaque] == [
        UNCLEAR.replace("AXIS", "m")
    ]


def test_sample_axes_that_are_none_are_refused():
    fn = sharded(*SPREAD["columns"][:3])
    with pytest.raises(
        ValueError, match=r"observe: sample_axes names 'data', but .* has shard_maps over d, m"
    ):
        observe(fn, counted, sample_axes=["d", "data"])(X, W)

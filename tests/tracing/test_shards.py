"""shard_map and sharded arrays: every sample is recorded once, however it is spread."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_leaky import census
from jax_leaky._tracing import list_sites, observe, swap
from tests.tracing.oracle import (
    W,
    X,
    by_kind,
    count,
    layer,
    merge,
    numpy_count,
    numpy_merge,
    plain,
    unchanged,
)


def test_a_jit_with_shardings():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
    rows, all_of_it = NamedSharding(mesh, P("d")), NamedSharding(mesh, P())
    block = jax.jit(layer, in_shardings=(rows, all_of_it), out_shardings=rows)
    out, seen = jax.jit(observe(lambda x, w: block(x, w), count))(X, W)
    assert out.tobytes() == jax.jit(block)(X, W).tobytes()
    assert out.sharding.is_equivalent_to(rows, 2)
    assert plain(next(iter(seen.values())))["fired"] == numpy_count(X @ W)["fired"]


@pytest.mark.parametrize(
    ("shape", "axes", "kind"), [((4,), ("d",), AxisType.Explicit), ((2, 2), ("d", "m"), AxisType.Auto)]
)
def test_shard_map_records_each_shard_once(shape, axes, kind):
    mesh = jax.make_mesh(shape, axes, axis_types=(kind,) * len(axes))

    def body(x, w):
        y = jax.nn.relu(x @ w)
        return lax.psum(y.sum(), "d") + y + jnp.tanh(w).sum()

    fn = jax.shard_map(body, mesh=mesh, in_specs=(P("d"), P()), out_specs=P("d"))
    with jax.set_mesh(mesh):
        x, w = (jax.device_put(v, NamedSharding(mesh, s)) for v, s in ((X, P("d")), (W, P())))
        seen = by_kind(unchanged(fn, x, w, eagerly=False))
        merged = by_kind(unchanged(fn, x, w, eagerly=False, merge=merge))
        assert [site.stacked for site in list_sites(fn, x, w)] == [(shape[0],), ()]
    z = np.asarray(X @ W).reshape(shape[0], -1, 6)
    assert seen["relu"]["fired"].tolist() == (z > 0).sum(1).tolist()
    assert plain(merged["relu"])["fired"] == numpy_count(X @ W)["fired"]
    assert merged["relu"]["n"] == 4
    assert plain(seen["tanh"])["fired"] == plain(merged["tanh"])["fired"] == numpy_count(W)["fired"]


@pytest.mark.slow
def test_loops_and_branches_inside_shard_map():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))

    def body(x, w):
        x = lax.scan(lambda c, _: (jax.nn.leaky_relu(c @ w, 0.5), None), x, None, length=2)[0]
        x = lax.cond(x.sum() > 0, lambda y: jax.nn.relu(y), lambda y: jnp.tanh(y), x)
        return lax.cond(w.sum() > 0, lambda y: jax.nn.silu(y), lambda y: y, x)

    fn = jax.shard_map(body, mesh=mesh, in_specs=(P("d"), P()), out_specs=P("d"))
    stacked = unchanged(fn, X, W, eagerly=False)
    scanned, tanh, relu, silu = (by_kind(stacked)[kind] for kind in ("leaky_relu", "tanh", "relu", "silu"))
    assert scanned["fired"].shape == (4, 2, 6)
    assert (tanh.times + relu.times).tolist() == [1, 1, 1, 1]
    assert silu.times.tolist() == [int(W.sum() > 0)] * 4
    merged = unchanged(fn, X, W, eagerly=False, merge=merge)
    scanned, tanh, relu = (by_kind(merged)[kind] for kind in ("leaky_relu", "tanh", "relu"))
    z = np.asarray(X @ W)
    z_next = np.where(z > 0, z, z / 2) @ np.asarray(W)
    assert scanned["fired"].tolist() == numpy_merge([numpy_count(z), numpy_count(z_next)])["fired"]
    rows = np.where(z_next > 0, z_next, z_next / 2).sum(1) > 0
    assert (int(tanh.times), int(relu.times)) == (int((~rows).sum()), int(rows.sum()))


def test_shard_map_without_types():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))

    def body(x, w):
        y = jax.nn.relu(x @ w)  # other samples on each shard
        total = jnp.tanh(lax.psum(x, "d") @ w)  # the same on all
        own = lax.cond(lax.axis_index("d") > 0, lambda y: jax.nn.silu(y), lambda y: y, w)  # the same, on some
        return y + jax.nn.softplus(w).sum() + total.sum() + own.sum()

    fn = jax.shard_map(body, mesh=mesh, in_specs=(P("d"), P()), out_specs=P("d"), check_vma=False)
    assert [site.stacked for site in list_sites(fn, X, W)] == [(4,), (), (4,), ()]
    seen = by_kind(unchanged(fn, X, W, eagerly=False, merge=merge))
    x, w = np.asarray(X), np.asarray(W)
    assert plain(seen["relu"]) == numpy_count(x @ w)
    assert plain(seen["tanh"]) == numpy_count(x.sum(0, keepdims=True) @ w)
    assert plain(seen["softplus"]) == numpy_count(w)
    assert (int(seen["silu"].times), int(seen["silu"].record["n"])) == (3, 3 * len(w))


def test_pmap_is_a_map_over_devices():
    x = jnp.stack([X, -X, 2 * X, X - 1])

    def body(x, w):
        y = jax.nn.relu(x @ w) + jnp.tanh(w).sum()
        y = lax.scan(lambda c, _: (jax.nn.leaky_relu(c - lax.pmean(c, "i"), 0.5), None), y, None, length=1)[0]
        return lax.cond(y.sum() > 0, jax.nn.silu, lambda y: y, y)

    fn = jax.pmap(body, axis_name="i", in_axes=(0, None))
    assert [site.stacked for site in list_sites(fn, x, W)] == [(4,), (), (4, 1), (4,)]
    assert list_sites(fn, x, W)[0].inside == ("pmap over 4 devices",)
    seen = by_kind(unchanged(fn, x, W, eagerly=False, merge=merge))
    z, w = np.asarray(x @ W), np.asarray(W)
    assert plain(seen["relu"]) == numpy_count(z.reshape(-1, 6))
    assert plain(seen["tanh"]) == numpy_count(w)
    y = np.maximum(z, 0) + np.tanh(w).sum(dtype=np.float32)
    centred = (y - y.mean(0)).reshape(-1, 6)
    assert plain(seen["leaky_relu"])["fired"] == numpy_count(centred)["fired"]
    assert seen["silu"].times == (np.where(centred > 0, centred, centred / 2).reshape(4, -1).sum(1) > 0).sum()
    swapped = swap(fn, {"relu": jnp.abs})(x, W)
    assert swapped.tobytes() == jax.pmap(lambda x: body_with_abs(x, W), axis_name="i")(x).tobytes()


def body_with_abs(x, w):
    y = jnp.abs(x @ w) + jnp.tanh(w).sum()
    y = jax.nn.leaky_relu(y - lax.pmean(y, "i"), 0.5)
    return lax.cond(y.sum() > 0, jax.nn.silu, lambda y: y, y)


@pytest.mark.parametrize("weights_of", ["all devices", "each device"])
def test_a_census_of_pmap_counts_the_whole_batch(weights_of):
    x = jnp.stack([X, -X, 2 * X, X - 1])
    replicated = weights_of == "each device"
    w = jnp.stack([W] * 4) if replicated else W
    fn = jax.pmap(lambda w, x: jax.nn.relu(x @ w), in_axes=(0 if replicated else None, 0))
    z = np.asarray(x @ W).reshape(-1, 6)
    if not replicated:
        (site,) = census(functools.partial(fn, w), [x, x])
        assert site.n == 2 * len(z)
    else:
        (site,) = census(lambda x: fn(w, x).sum(), [x], gradients=True)
        assert site.n == len(z)
        np.testing.assert_array_equal(site.per_unit("grad_dead"), ~(z > 0).any(0))
    np.testing.assert_array_equal(site.per_unit("act_freq"), (z > 0).mean(0, dtype=np.float32))


def test_one_device_is_a_mesh_axis_that_splits_nothing():
    mesh = jax.make_mesh((1,), ("d",), devices=jax.devices()[:1], axis_types=(AxisType.Auto,))
    fn = jax.shard_map(
        lambda x: jax.nn.relu(x[0]), mesh=mesh, in_specs=P("d"), out_specs=P(), check_vma=False
    )
    (site,) = list_sites(fn, X[None])
    assert site.stacked == ()
    assert plain(next(iter(observe(fn, count)(X[None])[1].values()))) == numpy_count(X)


def test_sharded_arrays_give_the_same_counts():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
    x = jax.device_put(X, NamedSharding(mesh, P("d")))
    out, seen = jax.jit(observe(layer, count))(x, W)
    assert out.sharding.is_equivalent_to(NamedSharding(mesh, P("d")), 2)
    assert plain(seen) == plain(jax.jit(observe(layer, count))(X, W)[1])


def test_sharding_in_types():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(X, NamedSharding(mesh, P("d")))
        out, seen = jax.jit(observe(layer, count))(x, W)
        assert jax.typeof(out) == jax.typeof(jax.jit(layer)(x, W))
    assert plain(next(iter(seen.values())))["fired"] == numpy_count(X @ W)["fired"]

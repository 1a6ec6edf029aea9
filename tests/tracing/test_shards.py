"""shard_map and sharded arrays: every sample is recorded once, however it is spread."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_leaky._tracing import list_sites, observe
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


def test_shard_map_without_types_is_opaque():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
    fn = jax.shard_map(jax.nn.relu, mesh=mesh, in_specs=P("d"), out_specs=P("d"), check_vma=False)
    sites = list_sites(fn, X)
    assert len(sites) == 0
    assert sites.opaque[0].why.startswith("a shard_map with check_vma=False")
    out, seen = observe(fn, count)(X)
    assert out.tobytes() == fn(X).tobytes()
    assert seen == {}


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

"""What the census builds on: which loops are folded, and gradients at the sites."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jax_leaky._tracing import Traced, Visitor, list_sites, observe
from tests.tracing.oracle import (
    W,
    X,
    count,
    layer,
    merge,
)


def test_a_loop_over_layers_with_merge_takes_no_memory_per_step():
    def fn(x, ws):
        return lax.scan(lambda c, w: (layer(c, w), None), x, ws)[0]

    shapes = jax.eval_shape(observe(fn, count, merge=merge), X, jnp.stack([W] * 50))[1]
    assert max(leaf.size for leaf in jax.tree.leaves(shapes)) == 6


def test_loops_over_layers_and_over_time_are_told_apart():
    def over_layers(x, ws):
        return lax.scan(lambda c, w: (jax.checkpoint(layer)(c, w), None), x, ws)[0]

    def over_time(w, xs):
        return lax.scan(lambda c, x: (jnp.tanh(c @ w + x @ w), None), xs[0], xs)[0]

    def both(ws, xs):
        return lax.scan(lambda c, w: (over_time(w, c[None] + xs), None), xs[0], ws)[0]

    ws, xs = jnp.stack([W] * 3), jnp.stack([X] * 2)
    assert [loop.over_layers for loop in list_sites(over_layers, X, ws)[0].loops] == [True]
    assert [loop.over_layers for loop in list_sites(over_time, W, xs)[0].loops] == [False]
    (site,) = list_sites(both, ws, xs)
    assert [(loop.length, loop.over_layers) for loop in site.loops] == [(3, True), (2, False)]


@pytest.mark.parametrize("sharded", [False, True])
def test_a_visitor_may_stack_some_loops_and_fold_the_others(sharded):
    """What a census of a network that is scanned over its layers and over time needs."""

    def fn(ws, xs, n):
        def network(c, w):
            steps, _ = lax.scan(lambda d, x: (jnp.tanh(d @ w + x), None), c, xs)
            return lax.cond(
                w.sum() > 0, jax.nn.relu, lambda v: v, lax.fori_loop(0, n, layer_of(w), steps)
            ), None

        return lax.scan(network, xs[0], ws)[0]

    def layer_of(w):
        return lambda _, c: layer(c, w)

    if sharded:
        mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
        fn = jax.shard_map(fn, mesh=mesh, in_specs=(P(), P(None, "d"), P()), out_specs=P("d"))
    args = (jnp.stack([W, -W, W.T]), jnp.stack([X] * 2), jnp.int32(3))
    visitor = Visitor(
        record=lambda site, visit: count(site, visit.z),
        merge=merge,
        stacks=lambda loop: loop.length == 3,
    )
    seen = jax.jit(lambda *args: Traced("test", fn, args, {}).run(visitor)[1])(*args)
    tanh = next(record for name, record in seen.items() if "tanh" in name)
    in_while = next(record for name, record in seen.items() if "/while/" in name)
    in_cond = next(record for name, record in seen.items() if "/branch_1/" in name)
    assert tanh["n"].tolist() == [8, 8, 8]
    assert tanh["fired"].shape == (3, 6)
    shards = 4 if sharded else 1
    assert in_while.times.tolist() == [3 * shards] * 3
    assert in_while.record["n"].tolist() == [12, 12, 12]
    taken = np.array([float(w.sum()) > 0 for w in args[0]]).astype(int)
    assert in_cond.times.tolist() == (taken * shards).tolist()
    assert in_cond.record["n"].tolist() == (taken * 4).tolist()


def test_a_tap_reads_the_gradient_at_each_site_step_by_step():
    """dL/dz per layer of a scan, against the gradient of a bias that is added by hand."""

    def fn(x, ws):
        x = jax.nn.relu(x)
        x = lax.scan(lambda c, w: (jax.checkpoint(jax.jit(layer))(c, w), None), x, ws, reverse=True)[0]
        return (lax.cond(x.sum() > 0, lambda v: jnp.maximum(v, 0), lambda v: v, x) ** 2).sum()

    def by_hand(biases, x, ws):
        x = jax.nn.relu(x + biases[0])
        for i in (2, 1, 0):
            x = jax.nn.relu(x @ ws[i] + biases[1][i]) - 0.25
        return (jnp.maximum(x + biases[2], 0) ** 2).sum()

    def tapped(biases, x, ws):
        names = list_sites(fn, x, ws).names
        assert [loop.length for loop in list_sites(fn, x, ws)[names[1]].loops] == [3]
        of = dict(zip(names, biases, strict=True))
        visitor = Visitor(tap=lambda site, z, steps: z + of[site.name][steps])
        return Traced("test", fn, (x, ws), {}).run(visitor)[0]

    ws = jnp.abs(jnp.stack([W, W.T, W]))
    biases = (jnp.zeros((4, 6)), jnp.zeros((3, 4, 6)), jnp.zeros((4, 6)))
    expected = jax.jit(jax.value_and_grad(by_hand))(biases, X, ws)
    for wrap in (jax.jit, lambda f: f):
        actual = wrap(jax.value_and_grad(tapped))(biases, X, ws)
        assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), expected, actual))

"""Loops, branches, remat, vmap and shards: what is counted how often, and in which row."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jax_leaky import Census, census

RNG = np.random.default_rng(2)
X = RNG.normal(size=(16, 6)).astype(np.float32)
WEIGHTS = RNG.normal(size=(3, 6, 6)).astype(np.float32)


def only(found: Census) -> list[int]:
    (site,) = found
    return site.counts.fired.to_numpy().tolist()


def count(*zs: np.ndarray) -> list[int]:
    return sum((z > 0).reshape(-1, 6).sum(0) for z in zs).tolist()


def layers(x: np.ndarray) -> list[np.ndarray]:
    """The inputs of three ReLU layers, one after the other."""
    zs = []
    for weight in WEIGHTS:
        zs.append(x @ weight)
        x = np.maximum(zs[-1], 0)
    return zs


def test_a_scan_over_layers_has_a_row_per_layer() -> None:
    def net(x: jax.Array) -> jax.Array:
        return lax.scan(lambda h, w: (jax.nn.relu(h @ w), None), x, jnp.asarray(WEIGHTS))[0]

    found = census(net, [X[:10], X[10:]])
    assert [name[-3:] for name in found.sites] == ["[0]", "[1]", "[2]"]
    assert [site.counts.fired.to_numpy().tolist() for site in found] == [count(z) for z in layers(X)]
    assert {site.n for site in found} == {16}


def test_the_layers_of_a_flax_scan_have_rows() -> None:
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
            return nn.relu(nn.Dense(6, use_bias=False)(x)), None

    scanned = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
    variables = {"params": {"Dense_0": {"kernel": jnp.asarray(WEIGHTS)}}}
    found = census(lambda x: scanned().apply(variables, x, None)[0], X)
    assert [site.counts.fired.to_numpy().tolist() for site in found] == [count(z) for z in layers(X)]


def test_a_scan_over_time_is_one_row() -> None:
    inputs = RNG.normal(size=(5, 16, 6)).astype(np.float32)

    def net(inputs: jax.Array) -> jax.Array:
        def step(h: jax.Array, x: jax.Array) -> tuple[jax.Array, None]:
            return jax.nn.relu(h @ WEIGHTS[0] + x), None

        return lax.scan(step, jnp.zeros((16, 6)), inputs)[0]

    h, zs = np.zeros((16, 6), np.float32), []
    for x in inputs:
        zs.append(h @ WEIGHTS[0] + x)
        h = np.maximum(zs[-1], 0)
    found = census(net, [inputs])
    assert only(found) == count(*zs)
    assert next(iter(found)).n == 80
    last = np.array([1 + np.flatnonzero((np.concatenate(zs) > 0)[:, unit])[-1] for unit in range(6)])
    np.testing.assert_array_equal(next(iter(found)).counts.last_fired.to_numpy(), last)


def test_a_loop_of_unknown_length_counts_each_turn() -> None:
    def net(x: jax.Array) -> jax.Array:
        return lax.while_loop(lambda h: h.max() > 1, lambda h: jax.nn.relu(h - 0.5), x)

    zs, h = [], X
    while h.max() > 1:
        zs.append(h - 0.5)
        h = np.maximum(zs[-1], 0)
    assert only(census(net, X)) == count(*zs)
    never = next(iter(census(net, X * 0)))
    assert (never.n, never.invalid) == (0, "invalid: no sample was seen")


def test_a_branch_that_is_not_taken_has_no_samples() -> None:
    def net(x: jax.Array) -> jax.Array:
        return lax.cond(x[0, 0] > 0, jax.nn.relu, lambda x: jax.nn.leaky_relu(-x, 0.1), x)

    up, down = np.where(X[:1, :1] > 0, X, -X), np.where(X[:1, :1] > 0, -X, X)
    found = census(net, [up[:9], down[:9], up[9:] + 100 * 0])
    by_kind = {site.kind: site for site in found}
    taken = [batch for batch in (up[:9], down[:9], up[9:]) if batch[0, 0] > 0]
    others = [-batch for batch in (up[:9], down[:9], up[9:]) if not batch[0, 0] > 0]
    for kind, batches in (("relu", taken), ("leaky_relu", others)):
        site = by_kind[kind]
        assert site.n == sum(len(batch) for batch in batches) > 0
        assert site.counts.fired.to_numpy().tolist() == count(*batches)
        np.testing.assert_allclose(site.per_unit("z_min"), np.concatenate(batches).min(0), rtol=1e-6)


def test_remat_and_jit_count_once() -> None:
    def net(x: jax.Array) -> jax.Array:
        return jax.jit(jax.checkpoint(jax.nn.relu))(x)

    assert only(census(net, X)) == count(X)


def test_a_vmapped_axis_is_samples() -> None:
    assert only(census(jax.vmap(jax.nn.relu), X)) == count(X)


def test_a_vector_is_one_sample() -> None:
    (site,) = census(jax.nn.relu, list(X))
    assert (site.n, only(census(jax.nn.relu, list(X)))) == (16, count(X))


def test_a_function_with_a_rule_of_its_own_is_counted() -> None:
    @jax.custom_vjp
    def twice(x: jax.Array) -> jax.Array:
        return 2 * jax.nn.relu(x)

    twice.defvjp(lambda x: (twice(x), x), lambda x, g: (jnp.where(x > 0, 2 * g, 0),))
    assert only(census(twice, X)) == count(X)


@pytest.mark.parametrize("replicated", [False, True])
def test_shards_add_up_and_copies_count_once(replicated: bool) -> None:
    mesh = jax.make_mesh((4,), ("data",))
    spec = PartitionSpec() if replicated else PartitionSpec("data")
    net = jax.shard_map(jax.nn.relu, mesh=mesh, in_specs=spec, out_specs=spec)
    found = census(net, jax.device_put(X, NamedSharding(mesh, spec)))
    assert only(found) == count(X)
    assert next(iter(found)).n == 16


def test_minibatches_share_a_row_and_the_user_may_give_each_its_own() -> None:
    def epoch(w: jax.Array, batches: jax.Array) -> jax.Array:
        def step(w: jax.Array, x: jax.Array) -> tuple[jax.Array, None]:
            return w - 0.1 * jax.grad(lambda w: (jax.nn.relu(x @ w) ** 2).mean())(w), None

        return lax.scan(step, w, batches)[0]

    batches = RNG.normal(size=(3, 16, 6)).astype(np.float32)
    w, zs = WEIGHTS[0], []
    for x in batches:
        zs.append(x @ w)
        w = w - 0.1 * x.T @ (2 * np.maximum(zs[-1], 0) / zs[-1].size)
    args = [(jnp.asarray(WEIGHTS[0]), jnp.asarray(batches))]
    assert only(census(epoch, args)) == count(*zs)
    by_step = census(epoch, args, scan_rows=True)
    assert [site.counts.fired.to_numpy().tolist() for site in by_step] == [count(z) for z in zs]

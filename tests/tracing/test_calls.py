"""jit, remat and functions with a rule of their own: entered, and kept what they are."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jax_leaky._tracing import list_sites, observe
from tests.tracing.oracle import (
    W,
    X,
    count,
    layer,
    numpy_count,
    plain,
    unchanged,
)


@pytest.mark.parametrize("policy", [None, jax.checkpoint_policies.dots_saveable])
def test_remat_is_kept(policy):
    @jax.checkpoint
    def outer(x, w):
        return jax.checkpoint(layer, policy=policy, prevent_cse=False)(x, w) * 2

    seen = unchanged(outer, X, W)
    assert plain(next(iter(seen.values())))["fired"] == numpy_count(X @ W)["fired"]
    jaxpr = str(jax.make_jaxpr(observe(outer, count))(X, W))
    assert jaxpr.count("prevent_cse=False") == 1
    assert jaxpr.count("prevent_cse=True") == 1
    assert jaxpr.count("policy=None") == (2 if policy is None else 1)


def test_jit_stays_jit_with_its_name():
    @jax.jit
    def block(x, w):
        return layer(x, w)

    unchanged(lambda x, w: block(block(x, w), w), X, W)
    jaxpr = str(jax.make_jaxpr(observe(lambda x, w: block(x, w), count))(X, W))
    assert "name=block" in jaxpr


def test_a_custom_vjp_keeps_its_rule():
    @jax.custom_vjp
    def block(x, w):
        return jax.nn.relu(x @ w) * 2

    block.defvjp(lambda x, w: (block(x, w), (x, w)), lambda res, g: (g * 7, res[1] * 0 + 5))
    seen = unchanged(block, X, W)
    assert plain(next(iter(seen.values())))["fired"] == numpy_count(X @ W)["fired"]
    (site,) = list_sites(block, X, W)
    assert site.inside == ("custom_vjp block",)
    assert site.fixed


def test_a_custom_jvp_keeps_its_rule():
    @jax.custom_jvp
    def block(x, w):
        return jax.nn.silu(x @ w) + 1

    block.defjvp(lambda primals, tangents: (block(*primals), tangents[0] * 3))
    seen = unchanged(block, X, W)
    assert plain(next(iter(seen.values())))["fired"] == numpy_count(X @ W)["fired"]
    assert (
        jax.grad(lambda x: observe(block, count)(x, W)[0].sum())(X).tolist() == jnp.full_like(X, 3).tolist()
    )


def test_a_custom_rule_in_a_scan_in_a_jit():
    @jax.custom_vjp
    def block(x, w):
        return jnp.tanh(x @ w)

    block.defvjp(lambda x, w: (block(x, w), w), lambda w, g: (g @ w.T, w))

    def fn(x, w):
        return lax.scan(lambda c, _: (jax.jit(block)(c, w), None), x, None, length=2)[0]

    (seen,) = unchanged(fn, X, W).values()
    assert seen["fired"].tolist() == [numpy_count(X @ W)["fired"], numpy_count(jnp.tanh(X @ W) @ W)["fired"]]


def test_a_custom_rule_with_effects_is_opaque():
    @jax.custom_vjp
    def block(x):
        jax.debug.print("once")
        return jax.nn.relu(x) * 2

    block.defvjp(lambda x: (block(x), None), lambda _, g: (g,))
    sites = list_sites(block, X)
    assert len(sites) == 0
    assert "with side effects" in sites.opaque[0].why


def test_an_operation_that_is_not_entered_is_opaque():
    def fn(x):
        return lax.custom_linear_solve(lambda v: jax.nn.relu(v), x, lambda _, b: b, symmetric=True)

    sites = list_sites(fn, X)
    assert len(sites) == 0
    assert sites.opaque[0].what == "custom_linear_solve"
    assert sites.opaque[0].why.startswith("an operation that is not entered, ")

"""The list of sites: what it tells of each, how it is printed, how it is searched."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jax_leaky._tracing import Opaque, Site, SiteList, list_sites

X = jnp.ones((2, 4))


def net(x, slope):
    with jax.named_scope("block"):
        x = jax.nn.leaky_relu(x, 0.2)
        x = jnp.maximum(x, 0)
        x = jnp.where(x > 0, x, slope * x)
    x, _ = lax.scan(lambda c, _: (jnp.tanh(c), None), x, None, length=3)
    return jax.pure_callback(lambda v: v, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


FIRST = net.__code__.co_firstlineno + 2  # the line of the leaky_relu


def test_what_a_site_tells():
    sites = list_sites(net, X, jnp.ones(4))
    assert sites[0] == Site(
        name="block/leaky_relu",
        kind="leaky_relu",
        negative_slope=0.2,
        shape=(2, 4),
        dtype=jnp.dtype("float32"),
        source=f"test_sites.py:{FIRST} (net)",
        path="block",
    )
    assert [site.name for site in sites][:3] == ["block/leaky_relu", "block/relu", "block/prelu"]
    scanned = sites[3]
    assert (scanned.inside, scanned.stacked, scanned.conditional) == (("scan of 3",), (3,), False)
    assert scanned.name == "scan/net/tanh"
    assert sites.opaque == (Opaque("pure_callback", "a function on the host", f"test_sites.py:{FIRST + 4}"),)


def test_the_table():
    file = "test_sites.py"
    assert str(list_sites(net, X, jnp.ones(4))).splitlines() == [
        "name              kind        slope  input         where",
        f"block/leaky_relu  leaky_relu  0.2    float32[2,4]  {file}:{FIRST} (net)",
        f"block/relu        relu        0      float32[2,4]  {file}:{FIRST + 1} (net)",
        f"block/prelu       prelu       array  float32[2,4]  {file}:{FIRST + 2} (net)",
        f"scan/net/tanh     tanh        -      float32[2,4]  "
        f"{file}:{FIRST + 3} (net.<locals>.<lambda>), in scan of 3",
        f"opaque: pure_callback at {file}:{FIRST + 4}: a function on the host",
        "4 sites, 1 opaque",
    ]


def test_a_function_without_activations():
    sites = list_sites(jnp.square, X)
    assert str(sites) == "0 sites, 0 opaque"
    assert not sites


def test_one_site_is_singular():
    assert str(list_sites(jax.nn.relu, X)).endswith("\n1 site, 0 opaque")


def test_it_is_a_sequence_and_finds_by_name():
    sites = list_sites(net, X, jnp.ones(4))
    assert len(sites) == 4
    assert sites["block/relu"] is sites[1]
    assert "block/relu" in sites
    assert sites[1] in sites
    assert sites[1:3].names == ["block/relu", "block/prelu"]
    assert next(reversed(sites)) is sites[3]
    assert sites == list_sites(net, X, jnp.ones(4))
    assert sites != list_sites(net, X[:1], jnp.ones(4))
    assert hash(sites) == hash(list_sites(net, X, jnp.ones(4)))
    with pytest.raises(KeyError, match="no site is named 'block/elu'"):
        sites["block/elu"]


def test_select():
    sites = list_sites(net, X, jnp.ones(4))
    assert sites.select("block/*").names == ["block/leaky_relu", "block/relu", "block/prelu"]
    assert sites.select(["*prelu", "block/relu"]).names == ["block/relu", "block/prelu"]
    assert sites.select("*").opaque == sites.opaque
    with pytest.raises(ValueError, match=r"no site is named 'head/\*'; the sites are block/leaky_relu, "):
        sites.select("head/*")


def test_many_names_are_cut_short():
    def deep(x):
        for _ in range(12):
            x = jnp.tanh(x)
        return x

    with pytest.raises(ValueError, match=r"tanh_7, \.\.\.\.$"):
        list_sites(deep, X).select("nothing")


def test_an_empty_list_names_what_is_opaque():
    sites = SiteList([], [Opaque("pallas_call", "a Pallas kernel")])
    assert str(sites) == "opaque: pallas_call: a Pallas kernel\n0 sites, 1 opaque"
    with pytest.raises(ValueError, match="the function has no activation site, 1 opaque"):
        sites.select("relu")


def test_names_are_unique_within_scopes_lines_and_branches():
    def fn(x):
        with jax.named_scope("a"):
            x = jax.nn.relu(jax.nn.relu(x))
        x = jnp.tanh(jnp.tanh(x))
        with jax.named_scope("a"):
            x = jax.nn.relu(x)
        return lax.cond(x.sum() > 0, lambda y: jax.nn.relu(y), lambda y: jax.nn.relu(-y), x)

    names = list_sites(fn, X).names
    assert len(set(names)) == len(names) == 7
    assert names[:2] == ["a/relu", "a/relu_1"]
    assert names[4] == "a/relu_2"
    assert [name.split("/")[0] for name in names[5:]] == ["branch_0", "branch_1"]

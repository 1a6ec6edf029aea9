"""NNX modules: what a call changes in them is changed when they are observed, and never by listing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small_network import firing

from jax_leaky.tracing import list_sites, observe

ROWS = jax.random.normal(jax.random.key(2), (16, 5))


def same_bits(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: x.tobytes() == y.tobytes(), a, b))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(5, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.prelu = nnx.PReLU()
        self.last = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(self.prelu(self.encode(x)))

    def encode(self, x):
        return self.drop(nnx.relu(self.norm(self.first(x))))


def state_of(module):
    leaves = jax.tree.leaves(nnx.state(module))
    return [
        np.asarray(jax.random.key_data(v) if jnp.issubdtype(v.dtype, jax.dtypes.prng_key) else v)
        for v in leaves
    ]


def same_state(a, b):
    return all(x.tobytes() == y.tobytes() for x, y in zip(state_of(a), state_of(b), strict=True))


@pytest.mark.parametrize("how", ["module", "method", "argument", "nnx.jit", "twice"])
def test_nnx_modules_keep_their_state_updates(how):
    plain, observed, untouched = Net(nnx.Rngs(0)), Net(nnx.Rngs(0)), Net(nnx.Rngs(0))
    if how == "module":
        out, (result, seen) = plain(ROWS), observe(observed, firing)(ROWS)
    elif how == "method":
        out, (result, seen) = plain.encode(ROWS), observe(observed.encode, firing)(ROWS)
    elif how == "argument":
        out, (result, seen) = plain(ROWS), observe(lambda net, x: net(x), firing)(observed, ROWS)
    elif how == "nnx.jit":
        out = nnx.jit(lambda net, x: net(x))(plain, ROWS)
        result, seen = nnx.jit(lambda net, x: observe(net, firing)(x))(observed, ROWS)
    else:
        out, (result, seen) = (
            (plain(ROWS), plain(ROWS)),
            observe(lambda a, b, x: (a(x), b(x)), firing)(observed, observed, ROWS),
        )
    assert same_bits(out, result)
    assert same_state(plain, observed)
    assert not same_state(observed, untouched)
    assert len(seen) == {"method": 1, "twice": 4}.get(how, 2)
    assert all(name.startswith("test_tracing_nnx.py:") for name in seen)


def test_nnx_training_step_with_gradients():
    def loss(net, x):
        return (net(x) ** 2).mean()

    @nnx.jit
    def step(net, x):
        def observed_loss(net, x):
            out, seen = observe(net, firing)(x)
            return (out**2).mean(), seen

        (_, seen), gradient = nnx.value_and_grad(observed_loss, has_aux=True)(net, x)
        return gradient, seen

    plain, observed = Net(nnx.Rngs(0)), Net(nnx.Rngs(0))
    expected = nnx.jit(nnx.grad(loss))(plain, ROWS)
    gradient, seen = step(observed, ROWS)
    assert same_bits(expected, gradient)
    assert same_state(plain, observed)
    assert len(seen) == 2


def test_nnx_split_and_merge_and_listing_changes_nothing():
    net, before = Net(nnx.Rngs(0)), Net(nnx.Rngs(0))
    graph, state = nnx.split(net)
    kinds = [site.kind for site in list_sites(lambda state, x: nnx.merge(graph, state)(x), state, ROWS)]
    assert kinds == [site.kind for site in list_sites(net, ROWS)] == ["relu", "prelu"]
    assert same_state(net, before)


def test_an_nnx_module_that_is_closed_over_is_refused_with_the_way_out():
    net = Net(nnx.Rngs(0))
    with pytest.raises(TypeError, match="Pass an NNX module as an argument, not by closure"):
        list_sites(lambda x: net(x), ROWS)

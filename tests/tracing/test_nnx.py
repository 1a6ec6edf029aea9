"""NNX modules: what a call changes in them is changed when they are observed, and never by listing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_leaky._tracing import list_sites, observe
from jax_leaky.nnx import PReLU, RReLU
from tests.tracing.small_network import firing

ROWS = jnp.asarray(np.random.default_rng(2).normal(size=(16, 5)), jnp.float32)


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


@pytest.mark.parametrize("how", ["module", "method", "argument", "nnx.jit", "twice", "cached_partial"])
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
    elif how == "cached_partial":
        step = nnx.jit(lambda net, x: net(x))
        out = nnx.cached_partial(step, plain)(ROWS)
        result, seen = observe(nnx.cached_partial(step, observed), firing)(ROWS)
    else:
        out, (result, seen) = (
            (plain(ROWS), plain(ROWS)),
            observe(lambda a, b, x: (a(x), b(x)), firing)(observed, observed, ROWS),
        )
    assert same_bits(out, result)
    assert same_state(plain, observed)
    assert not same_state(observed, untouched)
    assert len(seen) == {"method": 1, "twice": 4}.get(how, 2)
    # After the last module with parameters, and the PReLU after itself.
    names = {"norm/relu", "prelu/prelu", "norm/relu_1", "prelu/prelu_1"}
    assert seen.keys() == {"method": {"norm/relu"}, "twice": names}.get(how, {"norm/relu", "prelu/prelu"})


def test_a_module_with_a_learned_slope_gives_its_own_name():
    class Rectified(nnx.Module):
        def __init__(self, rngs):
            self.a, self.b = (nnx.Linear(5, 5, rngs=rngs) for _ in range(2))
            self.pre, self.flax, self.rr = PReLU(num_features=5), nnx.PReLU(), RReLU(rngs=rngs)

        def __call__(self, x):
            return self.rr(self.pre(self.b(self.flax(self.a(x)))))

    net = Rectified(nnx.Rngs(0))
    graph, state = nnx.split(net)
    # An RReLU has no parameter, so it is named after the last module with one, in training and in evaluation.
    names = ["flax/prelu", "pre/leaky_relu", "pre/leaky_relu_1"]
    assert list_sites(net, ROWS).names == names
    assert list_sites(lambda state, x: nnx.merge(graph, state)(x), state, ROWS).names == names
    net.eval()
    assert list_sites(net, ROWS).names == names


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


class Scaled(Net):
    def __call__(self, x, scale=1.0):
        return scale * self.encode(x)


@pytest.mark.parametrize("how", ["module", "method", "function", "nested"])
def test_a_partial_of_a_module_is_the_module(how):
    plain, observed = Scaled(nnx.Rngs(0)), Scaled(nnx.Rngs(0))
    fn = {
        "module": functools.partial(observed, scale=2.0),
        "method": functools.partial(observed.__call__, scale=2.0),
        "function": functools.partial(Scaled.__call__, observed, scale=2.0),
        "nested": functools.partial(functools.partial(lambda k, net, x: net(x, k), 2.0), observed),
    }[how]
    assert len(list_sites(fn, ROWS)) == 1
    out, (result, seen) = plain(ROWS, 2.0), observe(fn, firing)(ROWS)
    assert same_bits(out, result)
    assert same_state(plain, observed)
    h = np.asarray(ROWS, np.float64) @ np.asarray(plain.first.kernel[...], np.float64)
    np.testing.assert_array_equal(next(iter(seen.values())), (h > h.mean(0)).sum(0))


def test_what_a_partial_without_modules_holds_stays_a_constant():
    def fn(steps, x):
        for _ in range(int(steps)):  # a traced number would raise
            x = jax.nn.relu(x)
        return x

    assert len(list_sites(functools.partial(fn, jnp.int32(2)), ROWS)) == 2


def test_a_partial_of_a_scan_over_modules():
    class Deep(nnx.Module):
        def __init__(self):
            make = nnx.vmap(lambda key: nnx.Linear(5, 5, rngs=nnx.Rngs(key)))
            self.layers = make(jax.random.split(jax.random.key(0), 3))

        def __call__(self, x, scale=1.0):
            step = nnx.scan(lambda x, layer: nnx.relu(layer(x)), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
            return scale * step(x, self.layers)

    (site,) = list_sites(functools.partial(Deep(), scale=2.0), ROWS)
    assert (site.kind, site.stacked) == ("relu", (3,))


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


def test_a_module_that_does_not_change_may_be_closed_over_by_a_jitted_function():
    net = Net(nnx.Rngs(0))
    net.eval()
    out, seen = jax.jit(lambda x: observe(net, firing)(x))(ROWS)
    np.testing.assert_array_equal(out, jax.jit(lambda x: net(x))(ROWS))
    assert list(seen) == ["norm/relu", "prelu/prelu"]

"""swap and the derivatives that a function takes itself: an activation goes with its backward pass or not at all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jax_leaky import leaky_relu
from jax_leaky._tracing import list_sites, observe, swap
from tests.tracing.oracle import W, X

INSTEAD = "give the loss to swap and differentiate the result"

leaky = functools.partial(leaky_relu, negative_slope=0.5)
ACTIVATIONS = {
    "relu": jax.nn.relu,
    "maximum": lambda z: jnp.maximum(z, 0),
    "where": lambda z: jnp.where(z > 0, z, 0),
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "softplus": jax.nn.softplus,
    "leaky_relu": leaky_relu,
    "tanh": jnp.tanh,
    "clip": lambda z: jnp.clip(z, -1, 1),
}
KINDS = {"maximum": "relu", "where": "relu", "clip": "hard_tanh"}


def two_layers(act, w, x):
    return (act(act(x @ w) @ w) ** 2).sum()


def scanned(act, w, x):
    return (lax.scan(lambda c, _: (act(c @ w), None), x, None, length=2)[0] ** 2).sum()


def rematerialised(act, w, x):
    return (jax.checkpoint(lambda x: act(jnp.sin(act(x @ w)) @ w))(x) ** 2).sum()


def branched(act, w, x):
    return lax.cond(x.sum() > 0, lambda z: act(z), lambda z: 2 * act(z), x @ w).sum()


def sharded(act, w, x):
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
    return jax.shard_map(act, mesh=mesh, in_specs=P("d"), out_specs=P("d"))(x @ w).sum()


LOSSES = [two_layers, scanned, rematerialised, branched, sharded]


def update(loss):
    return lambda w, x: w - 0.01 * jax.grad(loss)(w, x)


STEPS = {
    "grad": update,
    "jitted step": lambda loss: jax.jit(update(loss)),
    "jitted loss": lambda loss: update(jax.jit(loss)),
    "value_and_grad": jax.value_and_grad,
    "vjp": lambda loss: lambda w, x: jax.vjp(loss, w, x)[1](jnp.float32(1)),
    "jvp": lambda loss: lambda w, x: jax.jvp(loss, (w, x), (w, x)),
    "linearize": lambda loss: lambda w, x: jax.linearize(loss, w, x)[1](w, x),
    "vmap of grad": lambda loss: lambda w, x: jax.vmap(jax.grad(loss), (None, 0))(w, x[:, None]),
}


def refused(fn, name):
    kind = KINDS.get(name, name)
    with pytest.raises(ValueError, match=INSTEAD) as caught:
        swap(fn, {kind: leaky})(W, X)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"clip"}))
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_a_training_step_is_refused_and_its_loss_is_not(name, loss):
    refused(update(functools.partial(loss, ACTIVATIONS[name])), name)
    swapped = swap(functools.partial(loss, ACTIVATIONS[name]), {KINDS.get(name, name): leaky})
    expected = edited_step(loss)
    np.testing.assert_allclose(jax.jit(update(swapped))(W, X), expected, rtol=1e-5, atol=1e-6)
    if name == "relu":
        np.testing.assert_allclose(update(swapped)(W, X), expected, rtol=1e-5, atol=1e-6)


@functools.cache
def edited_step(loss):
    """A step of the model that was edited by hand."""
    return jax.jit(update(functools.partial(loss, leaky)))(W, X)


@pytest.mark.parametrize("name", ["relu", "maximum", "where", "gelu", "clip"])
@pytest.mark.parametrize("step", sorted(STEPS))
def test_every_way_to_a_derivative_is_refused(name, step):
    refused(STEPS[step](functools.partial(two_layers, ACTIVATIONS[name])), name)


@pytest.mark.parametrize("name", ["relu", "maximum", "gelu", "silu", "clip"])
def test_a_training_step_lists_the_activations_of_its_forward_pass(name):
    step = update(functools.partial(two_layers, ACTIVATIONS[name]))
    sites = list_sites(step, W, X)
    assert [site.kind for site in sites] == [KINDS.get(name, name)] * 2
    assert all(site.fixed for site in sites)
    _, seen = jax.jit(observe(step, lambda _, z: (z > 0).sum(0)))(W, X)
    first, second = seen.values()
    np.testing.assert_array_equal(first, (np.asarray(X @ W) > 0).sum(0))
    hidden = np.asarray(ACTIVATIONS[name](X @ W) @ W)
    assert abs(np.asarray(second) - (hidden > 0).sum(0)).sum() <= (abs(hidden) < 1e-5).sum()


def test_a_site_is_refused_by_name_too():
    step = update(functools.partial(two_layers, jax.nn.relu))
    with pytest.raises(ValueError, match=f"whose backward pass would stay that of the old one; {INSTEAD}"):
        swap(step, {"relu": leaky}, sites=list_sites(step, W, X)[0].name)(W, X)


def test_a_derivative_of_something_else_is_no_reason_to_refuse():
    def fn(act, x):
        h = act(x @ W)
        return h + jax.grad(lambda y: (y**2).sum())(h)

    swapped = swap(functools.partial(fn, jax.nn.relu), {"relu": leaky})(X)
    np.testing.assert_allclose(swapped, 3 * np.asarray(leaky(X @ W)), rtol=1e-6)


def test_beside_a_derivative_sites_are_chosen_by_name():
    def fn(act, w, x):
        with jax.named_scope("beside"):
            out = act(x @ w)
        return jax.grad(lambda w: ACTIVATIONS["where"](x @ w).sum())(w), out

    old = functools.partial(fn, jax.nn.relu)
    with pytest.raises(ValueError, match=r"not every relu may be recognised; .* by sites="):
        swap(old, {"relu": leaky})(W, X)
    swapped = swap(old, {"relu": leaky}, sites="beside/*")(W, X)
    for actual, expected in zip(swapped, fn(leaky, W, X), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.slow
def test_a_second_derivative_of_a_swapped_loss():
    hessians = [
        jax.hessian(loss)(W, X)
        for loss in (
            swap(functools.partial(two_layers, jax.nn.relu), {"relu": leaky}),
            functools.partial(two_layers, leaky),
        )
    ]
    np.testing.assert_allclose(*hessians, rtol=1e-5, atol=1e-5)

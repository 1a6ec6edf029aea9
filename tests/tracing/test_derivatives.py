"""A derivative that fn takes itself: its activations are the user's or listed as hidden, never another kind."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jax_leaky import list_sites
from tests.tracing.test_recognise import NAMED

X = jnp.linspace(-3.0, 3.0, 12).reshape(3, 4)
W = jnp.eye(4)
HIDDEN = "the function takes it itself, and only its backward pass uses what bends at test_derivatives.py:"

BY_HAND = {
    "relu": lambda z: jnp.where(z > 0, z, 0),
    "elu": lambda z: jnp.where(z > 0, z, jnp.expm1(z)),
    "silu": lambda z: z * jax.nn.sigmoid(z),
    "softplus": lambda z: jnp.logaddexp(z, 0.0),
    "gelu": lambda z: z * 0.5 * (1 + lax.erf(z / jnp.sqrt(2.0))),
    "leaky_relu": lambda z: jnp.maximum(z, 0.1 * z),
}
ALL = [*NAMED.items(), *BY_HAND.items()]
IDS = [*NAMED, *(f"{kind} by hand" for kind in BY_HAND)]


def as_it_is(loss):
    return loss


def rewrapped(loss):
    return jax.jit(loss)


@pytest.mark.parametrize("wrap", [as_it_is, rewrapped])
@pytest.mark.parametrize(("kind", "act"), ALL, ids=IDS)
def test_an_activation_whose_value_is_used_goes_by_its_kind(kind, act, wrap):
    def loss(w):
        return (act(act(X @ w) @ w) ** 2).sum()

    for derivative in (jax.grad, jax.value_and_grad):
        sites = list_sites(derivative(wrap(loss)), W)
        assert [site.kind for site in sites] == [kind] * 2
        assert sites.opaque == ()


@pytest.mark.parametrize(("kind", "act"), ALL, ids=IDS)
def test_an_activation_whose_value_is_not_computed_is_hidden_and_never_another_kind(kind, act):
    for fn, at in ((jax.grad(lambda x: act(x).sum()), X), (jax.grad(lambda w: act(X @ w).sum()), W)):
        sites = list_sites(fn, at)
        kinds = [site.kind for site in sites]
        if kind in {"tanh", "sigmoid"}:  # whose derivative is made of their value
            assert (kinds, sites.opaque) == ([kind], ())
        elif kinds:  # JAX computes them for their derivative: logaddexp, and a maximum to compare z with
            assert (kinds, kind in {"softplus", "leaky_relu"}) == ([kind], True)
        else:
            (part,) = sites.opaque
            assert (part.what, part.why[: len(HIDDEN)]) == ("derivative", HIDDEN)


def test_several_hidden_lines_are_one_entry():
    def fn(x):
        one = jax.nn.elu(x).sum()
        return one + jax.nn.selu(2 * x).sum()

    (part,) = list_sites(jax.grad(fn), X).opaque
    line = fn.__code__.co_firstlineno
    assert f":{line + 1} (" in part.why
    assert f":{line + 2} (" in part.why


def test_a_checkpoint_whose_forward_pass_is_only_run_again():
    (part,) = list_sites(jax.grad(lambda w: jax.checkpoint(lambda x: jnp.sin(x @ w) @ w)(X).sum()), W).opaque
    assert part.what == "derivative"


def test_an_unknown_activation_is_listed_once_with_its_derivative():
    (part,) = list_sites(jax.value_and_grad(lambda w: (jnp.sin(X @ w) @ w).sum()), W).opaque
    assert part.what == "sin"


def test_the_derivative_of_one_activation_beside_another():
    """sigmoid is softplus's derivative; where a network uses it, it is the network's."""

    def fn(w):
        z = X @ w
        return (jax.nn.softplus(z) @ w + jax.nn.sigmoid(z) @ w).sum()

    assert sorted(site.kind for site in list_sites(jax.value_and_grad(fn), W)) == ["sigmoid", "softplus"]


def test_a_second_derivative_names_no_other_kind():
    def energy(x):
        return jax.nn.softplus(x @ W).sum()

    kinds = {site.kind for site in list_sites(jax.grad(lambda x: (jax.grad(energy)(x) ** 2).sum()), X)}
    assert kinds <= {"softplus"}


POOLS = {
    "over an axis": lambda z: z.reshape(3, 2, 2).max(-1),
    "of two critics": lambda z: z.reshape(3, 2, 2).min(1),
    "over segments": lambda z: jax.ops.segment_max(z, jnp.array([0, 0, 1]), 2)[:, :2],
}


@pytest.mark.parametrize("name", POOLS)
def test_the_derivative_of_a_pool_hides_nothing(name):
    """It asks which element is the largest. What is hidden before or after the pool is still listed."""
    pool = POOLS[name]

    def loss(w):
        return (pool(jax.nn.relu(X @ w) @ w) @ w[:2] ** 2).sum()

    for derivative in (jax.grad, jax.value_and_grad):
        sites = list_sites(derivative(loss), W)
        assert ([site.kind for site in sites], sites.opaque) == (["relu"], ())
    hidden = list_sites(jax.grad(lambda w: jax.nn.elu(pool(X @ w)).sum()), W)
    assert [part.what for part in hidden.opaque] == ["derivative"]


PARAMETERS = {
    "clip": lambda s: jnp.exp(jnp.clip(s, -5, 2)),
    "maximum": lambda s: jnp.maximum(s, 0.1),
    "abs": jnp.abs,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_derivative_of_a_function_of_a_parameter_hides_nothing(name):
    scale = PARAMETERS[name]
    (site,) = sites = list_sites(
        jax.grad(lambda p: ((jnp.tanh(X @ p[0]) * scale(p[1])) ** 2).sum()), (W, W[0])
    )
    assert (site.kind, sites.opaque) == ("tanh", ())
    # The same function of a sample may be an activation.
    (part,) = list_sites(jax.grad(lambda w: scale(X @ w).sum()), W).opaque
    assert part.what == "derivative"

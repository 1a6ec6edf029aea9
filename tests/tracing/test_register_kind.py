"""A user's own activation: found in any words, swapped, counted, forgotten; refused with a sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax_leaky import census, list_sites, observe, register_kind, swap

X = jnp.linspace(-3.0, 3.0, 32).reshape(8, 4)
W = jnp.eye(4)

OWN = {
    "clip01": (lambda z: jnp.clip(z, 0, 1), lambda z: jnp.minimum(jnp.maximum(z, 0), 1)),
    "clip20": (lambda z: jnp.clip(z, 0, 20), lambda z: jnp.where(z > 20, 20.0, z * (z > 0))),
    "threshold": (lambda z: jnp.where(z > 0.53, z, 0), lambda z: z * (z > 0.53)),
    "hard_shrink": (
        lambda z: jnp.where(jnp.abs(z) > 0.5, z, 0),
        lambda z: jnp.select([z > 0.5, z < -0.5], [z, z], 0),
    ),
    "sine": (jnp.sin, lambda z: jax.jit(jnp.sin)(1.0 * z)),
    "snake": (lambda z: z + jnp.sin(z) ** 2, lambda z: z + 0.5 - 0.5 * jnp.cos(2 * z)),
    "gaussian": (lambda z: jnp.exp(-(z**2)), lambda z: jnp.exp(-z * z)),
    "swish_1.5": (lambda z: z * jax.nn.sigmoid(1.5 * z), lambda z: z / (1 + jnp.exp(-1.5 * z))),
    "relu2": (lambda z: jax.nn.relu(z) ** 2, lambda z: jnp.where(z > 0, z * z, 0)),
}


@pytest.fixture
def registered():
    names = []

    def register(name, fn):
        register_kind(name, fn)
        names.append(name)

    yield register
    for name in dict.fromkeys(names):
        register_kind(name, None)


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_kind_is_found_in_its_own_words_and_in_others(name, registered):
    fn, other = OWN[name]
    registered(name, fn)
    for written in (fn, other):
        sites = list_sites(lambda w, x, written=written: written(x @ w) @ w, W, X)
        assert [(site.kind, site.negative_slope, site.shape) for site in sites] == [(name, None, (8, 4))]
        assert sites.opaque == ()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_kind_is_found_in_a_narrower_dtype(dtype, registered):
    registered("swish_1.3", lambda z: z * jax.nn.sigmoid(1.3 * z))
    registered("threshold_0.3", lambda z: jnp.where(z > 0.3, z, 0))

    def fn(x):
        return jnp.where(x > 0.3, x, 0), x * jax.nn.sigmoid(1.3 * x)

    assert [s.kind for s in list_sites(fn, X.astype(dtype))] == ["threshold_0.3", "swish_1.3"]


def test_what_differs_between_the_usual_points_is_another_function(registered):
    registered("threshold_0.5", lambda z: jnp.where(z > 0.5, z, 0))
    sites = list_sites(lambda x: jnp.where(x > 0.45, x, 0), X)
    assert (len(sites), len(sites.opaque)) == (0, 1)


def test_it_is_swapped_counted_and_observed(registered):
    registered("sine", jnp.sin)

    def fn(w, x):
        return lax.scan(lambda c, _: (jnp.sin(c @ w), None), x, None, length=2)[0]

    swapped = swap(fn, {"sine": jnp.tanh})(W, X)
    np.testing.assert_allclose(swapped, np.tanh(np.tanh(np.asarray(X))), rtol=1e-6)
    _, seen = observe(fn, lambda _, z: z.max())(W, X)
    np.testing.assert_allclose(next(iter(seen.values())), [3.0, np.sin(np.asarray(X)).max()], rtol=1e-6)
    (site,) = census(fn, [(W, X)])
    assert site.kind == "sine"


def test_a_larger_activation_takes_in_the_known_one_inside_it(registered):
    def fn(x):
        return x * jax.nn.sigmoid(1.5 * x)

    assert [site.kind for site in list_sites(fn, X)] == ["sigmoid"]
    registered("swish_1.5", fn)
    assert [site.kind for site in list_sites(fn, X)] == ["swish_1.5"]


def test_a_kind_is_forgotten_and_may_be_registered_again(registered):
    registered("sine", jnp.sin)
    registered("sine", lambda z: jnp.sin(z))  # a cell of a notebook that runs again
    register_kind("sine", None)
    assert len(list_sites(jnp.sin, X)) == 0
    with pytest.raises(ValueError, match="swap: 'sine' is no kind of activation"):
        swap(jnp.sin, {"sine": jnp.tanh})
    registered("sine", lambda z: 2 * jnp.sin(z))
    assert [site.kind for site in list_sites(lambda x: jnp.sin(x) * 2.0, X)] == ["sine"]


def test_a_jitted_function_that_was_counted_before_is_counted_anew(registered):
    fn = jax.jit(lambda x: jax.nn.relu(jnp.sin(x)))
    assert [site.kind for site in census(fn, X)] == ["relu"]
    registered("sine", jnp.sin)
    assert [site.kind for site in census(fn, X)] == ["sine", "relu"]


REFUSED = {
    "taken by a built-in kind": ("relu", jnp.sin, ValueError),
    "'swish' is taken by a built-in kind": ("swish", jnp.sin, ValueError),
    "taken by another function; choose another one, or forget that one": ("taken", jnp.cos, ValueError),
    "name must be a string, got int": (3, jnp.sin, TypeError),
    "name must not be empty": ("", jnp.sin, ValueError),
    "there is no registered kind 'mine' to forget": ("mine", None, ValueError),
    "fn of 'mine' must be callable, got float": ("mine", 1.0, TypeError),
    "does not trace: .*missing 1 required": ("mine", lambda z, a: a * z, TypeError),
    r"of float32\[2,3\] it makes float32\[\]": ("mine", lambda z: z.sum(), ValueError),
    r"it makes bool\[2,3\]": ("mine", lambda z: z > 0, ValueError),
    "must be elementwise, .*; reduce_max is not": ("mine", jax.nn.softmax, ValueError),
    "must be elementwise, .*; rev is not": ("mine", lambda z: jnp.sin(z[:, ::-1]), ValueError),
    "must be elementwise, .*; iota is not": ("mine", lambda z: jnp.sin(z) * jnp.arange(3.0), ValueError),
    "depend on its input": ("mine", lambda z: jnp.zeros_like(z), ValueError),
    "is linear": ("mine", lambda z: 2 * z + 1, ValueError),
    "computes what the kind 'silu' computes": ("mine", lambda z: z / (1 + jnp.exp(-z)), ValueError),
    "computes what the kind 'taken' computes": ("mine", lambda z: jnp.sin(1 * z), ValueError),
}


@pytest.mark.parametrize("message", sorted(REFUSED))
def test_what_is_no_kind_is_refused_with_a_sentence(message, registered):
    registered("taken", jnp.sin)
    name, fn, error = REFUSED[message]
    with pytest.raises(error, match=message) as caught:
        register_kind(name, fn)
    assert str(caught.value).startswith("register_kind: ")
    assert "\n" not in str(caught.value)

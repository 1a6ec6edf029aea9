"""A JAX that this package was not tested with: it warns once, and what does not work is left alone."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing import _trace, list_sites, observe

X = jnp.array([[-1.0, 2.0], [3.0, -4.0]])


@pytest.fixture
def unknown_version(monkeypatch):
    monkeypatch.setattr(internals, "TESTED", ((0, 1), (0, 2)))
    _trace.replay_works.cache_clear()
    yield
    _trace.replay_works.cache_clear()


def scanned(x):
    return lax.scan(lambda c, _: (jax.nn.relu(c) - 0.5, None), x, None, length=2)[0]


@pytest.mark.usefixtures("unknown_version")
def test_an_unknown_version_warns_once_and_goes_on():
    with pytest.warns(UserWarning, match=r"tested with JAX from 0\.1 up to, not including, 0\.2") as caught:
        assert len(list_sites(scanned, X)) == 1
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list_sites(scanned, X)) == 1


@pytest.mark.usefixtures("unknown_version")
@pytest.mark.parametrize("broken", ["bind", "scan", "body", "call_name", "is_literal"])
def test_what_breaks_on_an_unknown_version_leaves_the_function_alone(monkeypatch, broken):
    def moved(*_):
        raise AttributeError("this has moved")

    monkeypatch.setattr(internals, broken, moved)
    with pytest.warns(UserWarning, match="replay does not work with it, so functions run unobserved"):
        sites = list_sites(scanned, X)
    assert len(sites) == 0
    assert sites.opaque[0].why == f"replay does not work with JAX {jax.__version__}"
    out, seen = observe(scanned, lambda _, z: z)(X)
    np.testing.assert_array_equal(out, scanned(X))
    assert seen == {}


def test_a_parameter_that_is_new_makes_the_equation_opaque(monkeypatch):
    without = internals.PARAMETERS["scan"].replace("unroll", "")
    monkeypatch.setitem(internals.PARAMETERS, "scan", without)
    sites = list_sites(scanned, X)
    assert len(sites) == 0
    assert (
        sites.opaque[0].why == "it has parameters that are new to this package: unroll, 1 activation inside"
    )
    with pytest.warns(
        UserWarning, match="observe records nothing: the function has no activation site, 1 opaque;"
    ):
        out, seen = jax.jit(observe(scanned, lambda _, z: z))(X)
    np.testing.assert_array_equal(out, jax.jit(scanned)(X))
    assert seen == {}


def test_a_loop_that_rounds_another_way_fails_the_rehearsal(monkeypatch):
    assert _trace._rehearse()
    original = internals.bind

    @functools.wraps(original)
    def off_by_a_bit(eqn, values):
        return [out * (1 + 1e-6) if eqn.primitive.name == "tanh" else out for out in original(eqn, values)]

    monkeypatch.setattr(internals, "bind", off_by_a_bit)
    assert not _trace._rehearse()

"""Which sites there are: their names, the choice among them, and functions that cannot be listed."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import export

from jax_leaky._tracing import list_sites, observe
from tests.tracing.small_network import W, X, firing, mlp


def test_names_do_not_depend_on_jit_shape_grad_or_the_call():
    names = list_sites(mlp, W, X).names
    assert list_sites(jax.jit(mlp), W, X).names == names
    assert list_sites(jax.checkpoint(mlp), W, X).names == names
    assert list_sites(mlp, W, X[:1]).names == names
    assert list_sites(functools.partial(mlp, W), X).names == names
    assert list_sites(jax.vmap(mlp, (None, 0)), W, X).names == names
    assert list_sites(lambda *args: observe(mlp, firing)(*args), W, X).names == names


def test_a_filter_by_name():
    _, seen = observe(mlp, firing, sites="*_1")(W, X)
    assert list(seen) == ["layer/relu_1"]
    _, seen = observe(mlp, firing, sites=["layer/relu_1", "layer/relu"])(W, X)
    assert list(seen) == ["layer/relu", "layer/relu_1"]
    with pytest.raises(
        ValueError, match=r"no site is named 'Dense\*'; the sites are layer/relu, layer/relu_1\."
    ):
        observe(mlp, firing, sites="Dense*")(W, X)
    with pytest.raises(ValueError, match="the function has no activation site"):
        observe(jnp.sin, firing, sites="relu")(X)


def test_a_function_that_does_not_trace_is_one_sentence_with_its_cause():
    def fn(x):
        return jax.nn.relu(x) if x.sum() > 0 else x

    with pytest.raises(
        TypeError, match=r"list_sites could not trace .*fn: TracerBoolConversionError: "
    ) as caught:
        list_sites(fn, X)
    assert isinstance(caught.value.__cause__, jax.errors.TracerBoolConversionError)
    with pytest.raises(TypeError, match=r"list_sites could not trace .*fn: TracerBoolConversionError: "):
        list_sites(functools.partial(fn), X)
    with pytest.raises(TypeError, match=r"observe could not trace .*: TypeError: .*missing 1 required"):
        observe(mlp, firing)(W)
    with pytest.raises(TypeError, match="fn must be callable, got float"):
        list_sites(1.0, X)


def test_shapes_do_for_arrays():
    sites = list_sites(
        mlp, [jax.ShapeDtypeStruct(w.shape, w.dtype) for w in W], jax.ShapeDtypeStruct((9, 3), "float32")
    )
    assert [site.shape for site in sites] == [(9, 4), (9, 2)]


def test_a_function_without_a_line_of_its_own():
    assert list_sites(jax.nn.relu, X).names == ["relu"]


def test_an_exported_function_is_opaque():
    exported = export.export(jax.jit(jax.nn.relu))(jax.ShapeDtypeStruct(X.shape, X.dtype))
    sites = list_sites(lambda x: jnp.tanh(exported.call(x)), X)
    assert [site.kind for site in sites] == ["tanh"]
    assert [(part.what, part.why) for part in sites.opaque] == [("call_exported", "an exported function")]

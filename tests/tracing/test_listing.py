"""Which sites there are: their names, the choice among them, and functions that cannot be listed."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import export

from jax_leaky import census
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


def stacked(params, x):
    for name in ("encoder", "decoder"):
        x = jax.nn.relu(x @ params[name]["w"] + params[name]["b"]) + x
    x = jnp.tanh(x)
    return jax.lax.scan(lambda c, w: (jax.nn.silu(c @ w), None), x, params["blocks"]["w"])[0]


PARAMS = {name: {"w": jnp.ones((3, 3)), "b": jnp.zeros(3)} for name in ("encoder", "decoder")}
PARAMS["blocks"] = {"w": jnp.ones((2, 3, 3))}


def test_without_scopes_a_site_is_named_after_the_parameter_that_enters_last():
    names = ["encoder/relu", "decoder/relu", "decoder/tanh", "scan/blocks/silu"]
    held = functools.partial(stacked, PARAMS)
    for fn, args in [
        (stacked, (PARAMS, X)),
        (jax.jit(stacked), (PARAMS, X)),
        (jax.checkpoint(stacked), (PARAMS, X)),
        (held, (X,)),
        (jax.vmap(held), (X,)),
        (lambda x: stacked(PARAMS, x), (X,)),  # of the globals
        ((lambda params: lambda x: jax.jit(stacked)(params, x))(PARAMS), (X,)),  # of the closure
        (lambda params, x: observe(stacked, firing)(params, x), (PARAMS, X)),
    ]:
        assert list_sites(fn, *args).names == names
    assert [site.name.partition("[")[0] for site in census(held, [X])] == [*names, names[-1]]


def test_an_argument_may_have_a_field_called_value():
    class Batch(NamedTuple):
        value: jax.Array

    (name,) = list_sites(lambda batch: jax.nn.relu(batch.value - 1), Batch(X)).names
    assert name == "test_an_argument_may_have_a_field_called_value/relu"


def test_without_parameters_a_site_is_named_after_the_function_or_class_that_holds_the_line():
    class Net:
        def __call__(self, x):
            return jax.nn.relu((lambda x: self.encode(jnp.tanh(x)))(x))

        def encode(self, x):
            return jax.nn.silu(x @ X.T)

    def other(x):
        return jax.nn.relu(x)

    names = ["Net/tanh", "Net.encode/silu", "Net/relu", "other/relu", "relu"]
    fn = lambda x: jax.nn.relu(other(Net()(x)))  # noqa: E731 a function without a name
    sites = list_sites(fn, X)
    assert sites.names[:4] == names[:4]
    assert [site.source.partition(" (")[0][:16] for site in sites] == ["test_listing.py:"] * 5


def test_a_filter_by_name():
    _, seen = observe(mlp, firing, sites="*_1")(W, X)
    assert list(seen) == ["layer/relu_1"]
    _, seen = observe(mlp, firing, sites=["layer/relu_1", "layer/relu"])(W, X)
    assert list(seen) == ["layer/relu", "layer/relu_1"]
    with pytest.raises(
        ValueError, match=r"no site is named 'Dense\*'; the sites are layer/relu, layer/relu_1\."
    ):
        observe(mlp, firing, sites="Dense*")(W, X)
    with pytest.raises(
        TypeError, match="sites must be a name, a pattern or several of these, got 3; the sites are"
    ):
        observe(mlp, firing, sites=3)(W, X)
    with pytest.raises(TypeError, match="record must be callable, got int"):
        observe(mlp, 3)
    with pytest.raises(TypeError, match="observe: fn must be callable, got int"):
        observe(3, firing)
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
    with pytest.raises(
        TypeError, match=r"list_sites could not trace relu: .* too many positional arguments\.$"
    ):
        list_sites(jax.nn.relu, 1.0, 2.0)
    with pytest.raises(TypeError, match=r"takes the arguments of fn as they are, not a list of batches\.$"):
        list_sites(lambda batch: jax.nn.relu(batch @ batch), [(1.0, 2.0)])
    with pytest.raises(TypeError, match=r"observe could not trace .*: TypeError: .*missing 1 required"):
        observe(mlp, firing)(W)
    with pytest.raises(TypeError, match="fn must be callable, got float"):
        list_sites(1.0, X)


def test_an_error_names_the_model_of_the_user_and_the_remedy():
    class MLP(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.relu(nn.Dense(4)(x))

    class Net(nnx.Module):
        def __call__(self, x):
            return x @ jnp.ones((2, 2))

    for fn in (MLP().apply, functools.partial(MLP().apply)):
        with pytest.raises(TypeError, match=r"list_sites could not trace MLP\.apply: "):
            list_sites(fn, {}, X)
    with pytest.raises(TypeError, match=r"could not trace Net\.__call__: "):
        list_sites(Net().__call__, X)
    with pytest.raises(TypeError, match=r"could not trace Net\.apply: "):
        list_sites(nnx.bridge.functional(Net)().apply, X)
    with pytest.raises(
        TypeError, match=r"could not trace MLP: .*functools.partial\(module.apply, variables\)\.$"
    ):
        list_sites(MLP(), X)
    with pytest.raises(TypeError, match=r"Linen's apply takes the variables first: functools.partial"):
        list_sites(MLP().apply, X)
    with pytest.raises(TypeError, match=r"could not trace Net: TypeError: "):
        census(Net(), X)
    with pytest.raises(
        TypeError, match=r"If a setting decides it, bind that: functools.partial\(fn, train=False\)"
    ):
        census(lambda x, train: jax.nn.relu(x) if train else x, [(X, True)])
    with pytest.raises(
        TypeError, match=r"unbound axis name: batch.*\. Give the whole function, with the vmap, pmap"
    ):
        list_sites(lambda x: jax.nn.relu(x - jax.lax.pmean(x, "batch")), X)


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

"""jax.export: the op and its gradient leave this machine for every platform, with open batch sizes too."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jax_leaky import leaky_relu
from tests.op import oracle

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
SHAPE = (3, 16)
X, COTANGENT = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(np.float32)

every_case = pytest.mark.parametrize(
    ("slope", "residual", "forward_mode"),
    [
        (0.25, "bits", False),
        (0.25, "output", True),
        (jnp.float32(0.25), "bits", False),
        (jnp.float32(0.25), "mask", True),
    ],
)


def value_and_pullback(slope, residual, forward_mode):
    def run(x, cotangent):
        f = partial(leaky_relu, negative_slope=slope, residual=residual, forward_mode=forward_mode)
        y, pullback = jax.vjp(f, x)
        return y, *pullback(cotangent)

    return jax.jit(run)


def check(outputs, x=X, cotangent=COTANGENT):
    y, x_bar = outputs
    oracle.assert_identical(y, oracle.value(x, 0.25))
    oracle.assert_equal(x_bar, oracle.pullback(x, 0.25, cotangent))


@every_case
@pytest.mark.parametrize("platforms", [("tpu",), PLATFORMS], ids="+".join)
def test_lowers_for(platforms, slope, residual, forward_mode):
    exported = export.export(value_and_pullback(slope, residual, forward_mode), platforms=platforms)(X, X)
    assert exported.platforms == platforms
    assert "custom_call" not in exported.mlir_module()  # plain operations, which every backend has
    if "cpu" in platforms:
        check(exported.call(X, COTANGENT))


@pytest.mark.peer
@every_case
@pytest.mark.parametrize("platforms", [("tpu",), PLATFORMS], ids="+".join)
def test_survives_serialization_with_its_derivative(platforms, slope, residual, forward_mode):
    pytest.importorskip(
        "flatbuffers", reason="jax.export serializes with flatbuffers, an optional dependency of JAX"
    )
    f = partial(leaky_relu, negative_slope=slope, residual=residual, forward_mode=forward_mode)
    exported = export.export(jax.jit(f), platforms=platforms)(X)
    restored = export.deserialize(exported.serialize(vjp_order=1))
    assert restored.platforms == platforms
    if "cpu" in platforms:
        y, pullback = jax.vjp(restored.call, jnp.asarray(X))
        check((y, *pullback(jnp.asarray(COTANGENT))))


@every_case
@pytest.mark.parametrize("sizes", ["batch, 16", "3, features", "batch, features"])
def test_open_sizes(sizes, slope, residual, forward_mode):
    shape = export.symbolic_shape(sizes)
    spec = jax.ShapeDtypeStruct(shape, jnp.float32)
    exported = export.export(value_and_pullback(slope, residual, forward_mode))(spec, spec)
    check(exported.call(X, COTANGENT))


def test_an_open_size_beside_an_axis_of_one_element():
    """Eighths of one element are one byte: the shape of what is kept does not tell that it was packed."""
    spec = jax.ShapeDtypeStruct(export.symbolic_shape("batch, 1"), jnp.float32)
    exported = export.export(value_and_pullback(0.25, "bits", False))(spec, spec)
    check(exported.call(X[:, :1], COTANGENT[:, :1]), X[:, :1], COTANGENT[:, :1])

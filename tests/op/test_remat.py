"""Rematerialisation: the op's names let a policy keep what it needs, so that no matrix product is run again."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from jax_leaky import leaky_relu

LAYERS, BATCH, UNITS = 4, 8, 16
rng = np.random.default_rng(0)
WEIGHTS = (rng.standard_normal((LAYERS, UNITS, UNITS)) / 4).astype(np.float32)
X = rng.standard_normal((BATCH, UNITS)).astype(np.float32)
QUARTER = partial(leaky_relu, negative_slope=0.25)
policies = jax.checkpoint_policies
BY_NAME = policies.save_only_these_names("leaky_relu_residual", "leaky_relu_output")

every_mode = pytest.mark.parametrize(
    "activation",
    [
        pytest.param(
            partial(leaky_relu, negative_slope=slope, residual=residual, forward_mode=forward_mode),
            id=f"{type(slope).__name__}-{residual}-{'both' if forward_mode else 'reverse'}",
        )
        for slope in (0.25, jnp.float32(0.25))
        for residual in ("bits", "mask", "output")
        for forward_mode in (False, True)
        if residual != "output" or isinstance(slope, float)  # an array's "output" keeps bits
    ],
)


def loss(activation, policy):
    """A Dense stack under one checkpoint."""

    @partial(jax.checkpoint, policy=policy)
    def stack(weights, x):
        for w in weights:
            x = activation(x @ w)
        return x

    return lambda weights, x: (stack(weights, x) ** 2).sum()


def matrix_products(f, *args):
    """In the jaxpr of the gradient, before any compiler joins equal ones."""
    return str(jax.make_jaxpr(jax.grad(f))(*args)).count("dot_general[")


def numpy_gradient(layers=LAYERS):
    hidden, steep = [X.astype(np.float64)], []
    for w in WEIGHTS[:layers].astype(np.float64):
        z = hidden[-1] @ w
        steep.append(np.where(z > 0, 1, 0.25))
        hidden.append(steep[-1] * z)
    cotangent, gradient = 2 * hidden[-1], []
    for w, h, s in zip(WEIGHTS[:layers][::-1], hidden[-2::-1], steep[::-1], strict=True):
        cotangent = s * cotangent
        gradient.append(h.T @ cotangent)
        cotangent = cotangent @ w.T
    return np.stack(gradient[::-1])


@pytest.mark.parametrize(
    "policy",
    [
        policies.nothing_saveable,
        policies.everything_saveable,
        policies.dots_saveable,
        BY_NAME,
        policies.save_anything_except_these_names("leaky_relu_residual"),
        policies.save_and_offload_only_these_names(
            names_which_can_be_saved=["leaky_relu_residual"],
            names_which_can_be_offloaded=["leaky_relu_output"],
            offload_src="device",
            offload_dst="pinned_host",
        ),
    ],
    ids=["nothing", "everything", "dots", "by_name", "all_but_the_residual", "offload"],
)
def test_gradients_are_the_same_under_every_policy(policy):
    activations = [
        QUARTER,
        partial(QUARTER, residual="output", forward_mode=True),
        partial(leaky_relu, negative_slope=jnp.float32(0.25)),
    ]

    @jax.jit
    def gradients(weights, x):
        return [jax.grad(loss(activation, policy))(weights, x) for activation in activations]

    for gradient in gradients(WEIGHTS[:2], X):  # half of them, which halves what is compiled
        np.testing.assert_allclose(gradient, numpy_gradient(2), rtol=1e-4, atol=1e-5)


@every_mode
def test_saving_by_name_runs_no_matrix_product_twice(activation):
    """Paper: 4 forward, 4 for the weights, 3 for the hidden layers: the least there can be."""
    least = LAYERS + LAYERS + (LAYERS - 1)
    assert matrix_products(loss(activation, policies.everything_saveable), WEIGHTS, X) == least
    assert matrix_products(loss(activation, BY_NAME), WEIGHTS, X) == least
    assert matrix_products(loss(activation, policies.nothing_saveable), WEIGHTS, X) > least


def test_a_name_given_outside_the_op_does_not_help():
    """The reason why the names are given inside: jax.nn's op with a name around it runs products again."""

    def named(x):
        return checkpoint_name(jax.nn.leaky_relu(x, 0.25), "leaky_relu_output")

    assert matrix_products(loss(named, BY_NAME), WEIGHTS, X) > LAYERS + LAYERS + (LAYERS - 1)


@pytest.mark.parametrize("activation", [QUARTER, partial(QUARTER, residual="output")], ids=["bits", "output"])
def test_remat_of_each_layer_in_scan(activation):
    layer = jax.checkpoint(lambda h, w: (activation(h @ w), None), policy=BY_NAME)
    scanned = jax.jit(jax.grad(lambda weights, x: (jax.lax.scan(layer, x, weights)[0] ** 2).sum()))
    np.testing.assert_allclose(scanned(WEIGHTS, X), numpy_gradient(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("slope", [0.25, jnp.float32(0.25)], ids=["number", "array"])
def test_the_residual_can_be_saved_by_its_name(slope, capsys):
    policy = policies.save_only_these_names("leaky_relu_residual")
    jax.ad_checkpoint.print_saved_residuals(
        jax.checkpoint(lambda x: leaky_relu(3 * x, slope), policy=policy), X
    )
    assert f"u8[{X.shape[0]},{-(-X.shape[1] // 8)}]" in capsys.readouterr().out  # the bits, eight to a byte


@pytest.mark.parametrize("forward_mode", [False, True], ids=["reverse", "both"])
def test_each_name_is_of_one_array_though_the_slope_is_differentiated(forward_mode, capsys):
    def f(x, slope):
        return (leaky_relu(x, slope, forward_mode=forward_mode) ** 2).sum()

    for name, bits in {"leaky_relu_output": set(), "leaky_relu_residual": {"u8[8,2]"}}.items():
        checkpointed = jax.checkpoint(f, policy=policies.save_only_these_names(name))
        jax.ad_checkpoint.print_saved_residuals(checkpointed, X, np.full(16, 0.25, np.float32))
        printed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if "output of" in line]
        assert printed.count("f32[8,16]") == 1
        assert set(printed) - {"f32[8,16]"} == bits

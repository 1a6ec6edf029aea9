"""swap equals the model edited by hand, in value and in gradient."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jax_leaky import leaky_relu
from jax_leaky._tracing import list_sites, swap
from tests.tracing.oracle import W, X, same_bits


def leak(z):
    return leaky_relu(z, 0.25)


def network(act, gate=jnp.tanh, constant=0.25):
    """A program of every construct, with its activations left open."""

    def step(c, w):
        return act(c @ w) - constant, None

    def fn(x, w):
        with jax.named_scope("first"):
            x = act(x @ w)
        x = jax.jit(lambda y: act(y) - constant)(x)
        x, _ = lax.scan(step, x, jnp.stack([w, w.T]))
        x = jax.checkpoint(lambda y: act(y - constant))(x)
        x = lax.cond(x.sum() > 0, lambda y: act(y - 1), lambda y: y, x)
        x = lax.fori_loop(0, 2, lambda _, c: act(c - constant), x)
        return x * gate(x)

    return fn


HAND_WRITTEN = [
    ("relu", jax.nn.relu),
    ("relu", lambda z: jnp.maximum(z, 0)),
    ("relu", lambda z: jnp.where(z > 0, z, 0)),
    ("gelu", jax.nn.gelu),
    ("hard_silu", lambda z: z * jax.nn.relu6(z + 3) / 6),
    ("leaky_relu", lambda z: jnp.maximum(z, 0.1 * z)),
]


@pytest.mark.parametrize(("kind", "old"), HAND_WRITTEN, ids=range(len(HAND_WRITTEN)))
def test_a_swapped_model_is_the_edited_model(kind, old):
    swapped, edited = swap(network(old), {kind: leak}), network(leak)

    def loss(f, x, w):
        out = f(x, w)
        return (out**2).sum(), out

    actual, expected = (
        jax.jit(jax.value_and_grad(functools.partial(loss, f), (0, 1), has_aux=True))(X, W)
        for f in (swapped, edited)
    )
    assert same_bits(actual, expected)


def test_outside_jit():
    swapped = swap(lambda x: jnp.tanh(jax.nn.relu(x @ W)), {"relu": leak})

    def edited(x):
        return jnp.tanh(leak(x @ W))

    assert swapped(X).tobytes() == edited(X).tobytes()
    gradients = [jax.grad(lambda x, f=f: (f(x) ** 2).sum())(X) for f in (swapped, edited)]
    # Run at once, JAX compiles the gradient of its own jitted functions as one, and the swapped one's step by step.
    np.testing.assert_allclose(*gradients, rtol=1e-6)


def test_a_traced_while_loop():
    def fn(act):
        return lambda x, n: lax.fori_loop(0, n, lambda _, c: act(c @ W) - 0.25, x)

    args = (X, jnp.int32(3))
    assert swap(fn(jax.nn.relu), {"relu": leak})(*args).tobytes() == fn(leak)(*args).tobytes()


def test_inside_shard_map_with_a_slope_from_outside():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))

    def fn(act, x):
        return jax.shard_map(lambda v: act(v) * 2, mesh=mesh, in_specs=P("d"), out_specs=P("d"))(x)

    def loss(slope, swapped):
        def act(z):
            return jax.nn.leaky_relu(z, slope)

        return (swap(fn, {"relu": act})(jax.nn.relu, X) if swapped else fn(act, X)).sum()

    actual, expected = (
        jax.jit(jax.value_and_grad(loss), static_argnums=1)(0.5, swapped) for swapped in (True, False)
    )
    assert [v.tolist() for v in actual] == [v.tolist() for v in expected]


def test_a_learnt_slope_gets_its_gradient_through_scan():
    def fn(act, slope):
        return lax.scan(lambda c, _: (act(c @ W), None), X, None, length=3)[0].sum() + 0 * slope

    def loss(slope):
        return swap(fn, {"relu": lambda z: jnp.where(z > 0, z, slope * z)})(jax.nn.relu, slope)

    def edited(slope):
        return fn(lambda z: jnp.where(z > 0, z, slope * z), slope)

    assert jax.jit(jax.grad(loss))(0.5) == jax.jit(jax.grad(edited))(0.5) != 0


@pytest.mark.parametrize("slope", [0.25, jnp.float32(0.25), jnp.arange(6.0) / 8])
def test_a_prelu_as_keras_writes_it(slope):
    def prelu(z, a):
        return jax.nn.relu(z) + (-a) * jax.nn.relu(-z)

    def fn(x, a):
        return prelu(x @ W, a) @ W

    (site,) = list_sites(fn, X, slope)
    swapped = swap(fn, {site.kind: leak})
    assert swapped(X, slope).tobytes() == (leak(X @ W) @ W).tobytes()


def test_selected_pieces_go_with_the_swap():
    def fn(x):
        x = jnp.select([x > 0], [x]) @ W
        return jnp.piecewise(x, [x < -1, x > 1], [-1.0, 1.0, lambda z: z])

    swapped = swap(fn, {"relu": leak, "hard_tanh": jnp.sin})
    np.testing.assert_array_equal(swapped(X), jnp.sin(leak(X) @ W))


def test_sites_confine_the_swap_and_swaps_compose():
    def fn(x):
        with jax.named_scope("a"):
            x = jax.nn.relu(jax.nn.relu(x))
        with jax.named_scope("b"):
            return jax.nn.relu(x)

    first = swap(fn, {"relu": jnp.tanh}, sites="a/relu_1")
    assert [site.kind for site in list_sites(first, X)] == ["relu", "tanh", "relu"]
    swapped = swap(swap(first, {"relu": jax.nn.gelu}, sites="a/*"), {"relu": jax.nn.silu})
    assert [(site.path, site.kind) for site in list_sites(swapped, X)] == [
        ("a", "gelu"),
        ("a", "tanh"),
        ("b", "silu"),
    ]


def test_aliases_and_dtypes():
    for name in ("silu", "swish"):
        out = swap(jax.nn.silu, {name: lambda z: z.astype("float32")})(X.astype("bfloat16"))
        assert (out.dtype, out.tolist()) == (jnp.bfloat16, X.tolist())


def test_the_other_activations_stay():
    def fn(x):
        return jnp.tanh(jax.nn.relu(x))

    assert swap(fn, {"relu": lambda z: z})(X).tobytes() == jnp.tanh(X).tobytes()
    assert swap(fn, {"tanh": lambda z: z})(X).tobytes() == jax.nn.relu(X).tobytes()
    assert swap(fn, {})(X).tobytes() == fn(X).tobytes()


def test_a_part_that_is_used_elsewhere_is_still_computed():
    def fn(x):
        gate = jax.nn.sigmoid(x)
        return x * gate, 1 - gate

    silu, rest = swap(fn, {"silu": jax.nn.relu})(X)
    assert silu.tobytes() == jax.nn.relu(X).tobytes()
    assert rest.tobytes() == (1 - jax.nn.sigmoid(X)).tobytes()


def test_what_a_swapped_hand_written_form_leaves_behind_is_gone():
    jaxpr = jax.make_jaxpr(swap(lambda x: jnp.where(x > 0, x, 0.1 * x), {"leaky_relu": jnp.tanh}))(X)
    assert [eqn.primitive.name for eqn in jaxpr.jaxpr.eqns] == ["tanh"]


def test_errors_are_one_sentence():
    def fn(x):
        return jnp.tanh(jax.nn.relu(jax.nn.relu(x)))

    with pytest.raises(ValueError, match=r"no site is a gelu; the function has relu \(2\), tanh \(1\)\."):
        swap(fn, {"gelu": jnp.tanh})(X)
    with pytest.raises(ValueError, match=r"no site is a relu; the function has no activation site\."):
        swap(jnp.sin, {"relu": jnp.tanh})(X)
    with pytest.raises(ValueError, match="no site is named 'b'"):
        swap(fn, {"relu": jnp.tanh}, sites="b")(X)
    with pytest.raises(ValueError, match=r"'Block_0/relu' is no kind of activation; .* goes into sites="):
        swap(fn, {"Block_0/relu": jnp.tanh})
    with pytest.raises(TypeError, match="swap: fn must be callable, got int"):
        swap(3, {"relu": jnp.tanh})
    with pytest.raises(TypeError, match="activations must be a dictionary from kinds to functions, got list"):
        swap(fn, ["relu"])
    with pytest.raises(TypeError, match="the activation for 'relu' must be callable, got str"):
        swap(fn, {"relu": "tanh"})
    with pytest.raises(ValueError, match=r"must return the shape \(4, 6\) of its input, got \(\)"):
        swap(fn, {"tanh": jnp.sum})(X)


@pytest.mark.parametrize("activation", [jax.nn.leaky_relu, leaky_relu, jax.nn.elu])
def test_a_partial_that_binds_the_input_is_refused(activation):
    with pytest.raises(
        TypeError, match=rf"a partial that binds its input, the first argument of {activation.__name__}:"
    ):
        swap(jax.nn.relu, {"relu": functools.partial(activation, 0.2)})
    by_name = next(name for name in inspect.signature(activation).parameters if name != "x")
    swapped = swap(jax.nn.relu, {"relu": functools.partial(activation, **{by_name: 0.2})})
    assert swapped(X).tobytes() == activation(X, 0.2).tobytes()


@pytest.mark.parametrize(
    "activation", [jnp.maximum, lambda low, z: jnp.maximum(low, z)], ids=["ufunc", "own"]
)
def test_a_partial_that_leaves_the_input_open_is_not(activation):
    assert (
        swap(jax.nn.relu, {"relu": functools.partial(activation, 0.2)})(X).tobytes()
        == jnp.maximum(X, 0.2).tobytes()
    )


def test_an_activation_under_a_custom_rule_is_not_replaced_behind_its_back():
    @jax.custom_vjp
    def block(x):
        return jax.nn.relu(x) * 2

    block.defvjp(lambda x: (block(x), x), lambda x, g: (g * jnp.sign(x),))

    def fn(x):
        with jax.named_scope("own"):
            x = block(x)
        with jax.named_scope("free"):
            return jax.nn.relu(x)

    with pytest.raises(
        ValueError, match="own/relu cannot be replaced, since the custom_vjp rule of block is"
    ):
        swap(fn, {"relu": jnp.tanh})(X)
    assert swap(fn, {"relu": jnp.tanh}, sites="free/*")(X).tobytes() == jnp.tanh(block(X)).tobytes()

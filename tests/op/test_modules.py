"""The Linen and NNX modules: each equals its function, holds the right parameters, and PReLU learns as torch's does."""

from functools import partial

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jax_leaky.linen
import jax_leaky.nnx
from jax_leaky import leaky_relu, list_sites
from tests.op import oracle

X = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
COTANGENT = np.random.default_rng(1).standard_normal(X.shape).astype(np.float32)
LINEN, NNX = jax_leaky.linen, jax_leaky.nnx
OPTIONS = [("bits", False), ("output", True)]


def linen(module):
    """The module as a function of (params, x), and its parameters."""
    params = module.init(jax.random.key(0), X)
    return module.apply, params


def nnx_(module):
    graphdef, params = nnx.split(module)
    return (lambda params, x: nnx.merge(graphdef, params)(x)), params


both = pytest.mark.parametrize(("flavour", "functional"), [(LINEN, linen), (NNX, nnx_)], ids=["linen", "nnx"])


@both
@pytest.mark.parametrize(("residual", "forward_mode"), OPTIONS)
def test_leaky_relu_equals_the_function(flavour, functional, residual, forward_mode):
    options = {"residual": residual, "forward_mode": forward_mode}
    apply, params = functional(flavour.LeakyReLU(0.2, **options))
    assert not jax.tree.leaves(params)
    y, pullback = jax.vjp(lambda x: apply(params, x), X)
    expected, expected_pullback = jax.vjp(lambda x: leaky_relu(x, 0.2, **options), X)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(pullback(COTANGENT)[0], expected_pullback(COTANGENT)[0])
    assert [leaf.dtype for leaf in jax.tree.leaves(pullback)] == [
        leaf.dtype for leaf in jax.tree.leaves(expected_pullback)
    ]


@both
def test_leaky_relu_has_the_default_slope_of_the_function(flavour, functional):
    apply, params = functional(flavour.LeakyReLU())
    np.testing.assert_array_equal(apply(params, X), leaky_relu(X))


@both
@pytest.mark.parametrize("num_features", [None, 6])
@pytest.mark.parametrize("param_dtype", [jnp.float32, jnp.bfloat16])
def test_prelu_holds_one_parameter(flavour, functional, num_features, param_dtype):
    _, params = functional(flavour.PReLU(0.25, num_features=num_features, param_dtype=param_dtype))
    (slope,) = jax.tree.leaves(params)
    assert "negative_slope" in str(jax.tree.leaves_with_path(params)[0][0])
    assert slope.shape == (() if num_features is None else (6,))
    assert slope.dtype == param_dtype
    assert (slope == 0.25).all()


@both
def test_prelu_starts_at_the_default_slope(flavour, functional):
    (slope,) = jax.tree.leaves(functional(flavour.PReLU())[1])
    assert slope == np.float32(0.01)


@pytest.mark.peer
@both
@pytest.mark.parametrize("num_features", [None, 6])
@pytest.mark.parametrize(("residual", "forward_mode"), OPTIONS)
def test_prelu_learns_as_torch_does(flavour, functional, num_features, residual, forward_mode):
    torch = pytest.importorskip("torch", reason="torch is an oracle, not a dependency")
    theirs = torch.nn.PReLU(num_features or 1, init=0.3)
    x = torch.tensor(X, requires_grad=True)
    expected = theirs(x)
    expected.backward(torch.tensor(COTANGENT))

    module = flavour.PReLU(0.3, num_features=num_features, residual=residual, forward_mode=forward_mode)
    apply, params = functional(module)
    y, pullback = jax.vjp(jax.jit(apply), params, X)
    params_bar, x_bar = pullback(COTANGENT)
    np.testing.assert_array_equal(y, expected.detach().numpy())
    np.testing.assert_array_equal(x_bar, x.grad.numpy())
    (slope_bar,) = jax.tree.leaves(params_bar)
    np.testing.assert_allclose(np.ravel(slope_bar), theirs.weight.grad.numpy(), rtol=1e-5)


@both
def test_prelu_equals_the_function(flavour, functional):
    apply, params = functional(flavour.PReLU(0.3, num_features=6))
    y, pullback = jax.vjp(apply, params, X)
    expected, expected_pullback = jax.vjp(leaky_relu, X, jnp.full(6, 0.3))
    x_bar, slope_bar = expected_pullback(COTANGENT)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(pullback(COTANGENT)[1], x_bar)
    np.testing.assert_array_equal(jax.tree.leaves(pullback(COTANGENT)[0])[0], slope_bar)


@both
def test_prelu_keeps_the_dtype_of_its_input(flavour, functional):
    apply, params = functional(flavour.PReLU(num_features=6))
    assert apply(params, jnp.asarray(X, jnp.bfloat16)).dtype == jnp.bfloat16


@both
def test_prelu_of_the_wrong_width(flavour, functional):
    def run():
        apply, params = functional(flavour.PReLU(num_features=4))
        return apply(params, X)

    with pytest.raises(
        ValueError, match=r"^num_features must be .* got num_features=4 .* \(5, 6\); set num_features=6,"
    ):
        run()


@both
def test_prelu_of_channels_on_any_axis(flavour, functional):
    """Channels first, and where another axis has as many elements; slopes are learned, so they differ."""
    slopes = np.array([0.5, -0.25, 2.0], np.float32)
    cases = [((2, 3, 5, 4), 1), ((2, 5, 3, 4), -2), ((3,), 0), ((3, 3), 0)]
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal((2, *shape), np.float32) for shape, _ in cases]

    @jax.jit
    def run(arrays):
        found = []
        for (_, axis), (x, cotangent) in zip(cases, arrays, strict=True):
            module = flavour.PReLU(num_features=3, axis=axis)
            if flavour is LINEN:
                apply, params = module.apply, module.init(jax.random.key(0), x)
            else:
                apply, params = functional(module)
            params = jax.tree.map(lambda _: jnp.asarray(slopes), params)
            y, pullback = jax.vjp(apply, params, x)
            params_bar, x_bar = pullback(cotangent)
            found.append((y, x_bar, jax.tree.leaves(params_bar)[0]))
        return found

    for (shape, axis), (x, cotangent), (y, x_bar, slope_bar) in zip(cases, arrays, run(arrays), strict=True):
        along = slopes.reshape([3 if place == axis % len(shape) else 1 for place in range(len(shape))])
        np.testing.assert_array_equal(y, np.where(x > 0, x, along * x))
        np.testing.assert_array_equal(x_bar, np.where(x > 0, 1, along) * cotangent)
        others = tuple(place for place in range(len(shape)) if place != axis % len(shape))
        np.testing.assert_allclose(slope_bar, np.where(x > 0, 0, x * cotangent).sum(others), rtol=1e-5)


@both
def test_prelu_without_the_axis(flavour, functional):
    def run():
        apply, params = functional(flavour.PReLU(num_features=6, axis=2))
        return apply(params, X)

    with pytest.raises(
        ValueError, match=r"^axis must be an axis of the inputs, got axis=2 for shape \(5, 6\); "
    ):
        run()


@both
def test_strict_promotion(flavour, functional):
    arrays = [jnp.asarray(X > 0)] + [jnp.asarray(4 * X, dtype) for dtype in ("float32", "bfloat16", "int32")]

    def run(arrays):
        for module in (flavour.LeakyReLU(0.25), flavour.PReLU(0.25, num_features=6)):
            apply, params = functional(module)
            yield [apply(params, x) for x in arrays]
        if flavour is LINEN:
            train = partial(flavour.RReLU(deterministic=False).apply, {}, rngs={"rrelu": jax.random.key(0)})
        else:
            train = flavour.RReLU(rngs=nnx.Rngs(0))
        yield [train(x) for x in arrays]

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        *fixed, drawn = jax.jit(lambda arrays: list(run(arrays)))(arrays)
    for x, *found, y in zip(arrays, *fixed, drawn, strict=True):
        dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.float32
        expected = oracle.value(np.asarray(x).astype(dtype), 0.25)
        for one in found:
            oracle.assert_identical(one, expected)
        assert y.dtype == dtype
        above = expected > 0
        np.testing.assert_array_equal(y[above], expected[above])
        assert (y[~above] <= 0).all()


def test_a_linen_network_trains():
    model = flax.linen.Sequential([flax.linen.Dense(8), LINEN.PReLU(num_features=8), flax.linen.Dense(1)])
    params = model.init(jax.random.key(0), X)

    @jax.jit
    def loss(params):
        return ((model.apply(params, X) - X.sum(1, keepdims=True)) ** 2).mean()

    before = loss(params)
    for _ in range(20):
        params = jax.tree.map(lambda p, g: p - 0.05 * g, params, jax.grad(loss)(params))
    assert loss(params) < before / 2
    assert (params["params"]["layers_1"]["negative_slope"] != np.float32(0.01)).any()


def test_an_nnx_network_trains():
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.Linear(6, 8, rngs=rngs), NNX.PReLU(num_features=8), nnx.Linear(8, 1, rngs=rngs)
    )

    @nnx.jit
    def step(model):
        loss, gradients = nnx.value_and_grad(lambda m: ((m(X) - X.sum(1, keepdims=True)) ** 2).mean())(model)
        nnx.update(model, jax.tree.map(lambda p, g: p - 0.05 * g, nnx.state(model, nnx.Param), gradients))
        return loss

    losses = [step(model) for _ in range(21)]
    assert losses[-1] < losses[0] / 2
    assert (model.layers[1].negative_slope[...] != np.float32(0.01)).any()


def test_the_site_of_a_linen_module_is_named_after_it():
    model = flax.linen.Sequential([LINEN.LeakyReLU(), LINEN.PReLU(), LINEN.RReLU(deterministic=True)])
    sites = list_sites(model.apply, model.init(jax.random.key(0), X), X)
    assert sites.names == [f"Sequential/layers_{i}/leaky_relu" for i in range(3)]

"""The randomized leaky ReLU, in Linen and NNX: its slopes in training and in evaluation, and its random streams."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jax_leaky.linen
import jax_leaky.nnx
from jax_leaky import leaky_relu

LOWER, UPPER = 1 / 8, 1 / 3
X = np.random.default_rng(0).standard_normal((100, 80)).astype(np.float32)


def linen_train(x, seed, **options):
    return jax_leaky.linen.RReLU(**options).apply(
        {}, x, deterministic=False, rngs={"rrelu": jax.random.key(seed)}
    )


def nnx_train(x, seed, **options):
    return jax_leaky.nnx.RReLU(**options, rngs=nnx.Rngs(seed))(x)


def linen_evaluate(x, **options):
    return jax_leaky.linen.RReLU(**options, deterministic=True).apply({}, x)


def nnx_evaluate(x, **options):
    return jax_leaky.nnx.RReLU(**options, deterministic=True)(x)


each_training = pytest.mark.parametrize("train", [linen_train, nnx_train])
each_evaluation = pytest.mark.parametrize("evaluate", [linen_evaluate, nnx_evaluate])


@each_training
@pytest.mark.parametrize("bounds", [{}, {"lower": 0.2, "upper": 0.9}, {"lower": -0.5, "upper": 0.5}], ids=str)
def test_slopes_in_training_are_uniform_between_the_bounds(train, bounds):
    lower, upper = bounds.get("lower", LOWER), bounds.get("upper", UPPER)
    y = np.asarray(train(X, 0, **bounds))
    np.testing.assert_array_equal(y[X > 0], X[X > 0])
    slopes = (y / X)[X <= 0].astype(np.float64)
    assert lower - 1e-6 <= slopes.min()
    assert slopes.max() <= upper + 1e-6
    width, n = upper - lower, slopes.size
    assert abs(slopes.mean() - (lower + upper) / 2) < 5 * width / np.sqrt(12 * n)
    counts, _ = np.histogram(slopes, 10, (lower, upper))
    assert ((counts - n / 10) ** 2 / (n / 10)).sum() < 33.7  # chi-squared, 9 degrees of freedom, p = 1e-4


@each_training
def test_each_element_has_its_own_slope_and_a_seed_repeats(train):
    y = train(-np.ones_like(X), 0)
    assert np.unique(y).size > 0.99 * y.size
    np.testing.assert_array_equal(train(X, 0), train(X, 0))
    assert (train(X, 0) != train(X, 1)).any()


@each_training
@pytest.mark.parametrize("options", [{}, {"residual": "mask", "forward_mode": True}], ids=str)
def test_the_gradient_is_the_slope_that_was_drawn(train, options):
    y, pullback = jax.vjp(lambda x: train(x, 0, **options), X)
    (gradient,) = pullback(jnp.ones_like(y))
    np.testing.assert_array_equal(gradient[X > 0], 1)
    np.testing.assert_allclose(gradient[X <= 0], (y / X)[X <= 0], rtol=1e-5)


@each_evaluation
def test_evaluation_has_the_mean_slope(evaluate):
    np.testing.assert_array_equal(evaluate(X), leaky_relu(X, (LOWER + UPPER) / 2))
    np.testing.assert_array_equal(evaluate(X, lower=0.25, upper=0.75), leaky_relu(X, 0.5))


@pytest.mark.peer
@each_evaluation
def test_evaluation_equals_torch(evaluate):
    torch = pytest.importorskip("torch", reason="torch is an oracle, not a dependency")
    np.testing.assert_array_equal(evaluate(X), torch.nn.RReLU().eval()(torch.tensor(X)).numpy())


@each_training
def test_the_dtype_is_kept(train):
    for dtype in (jnp.bfloat16, jnp.float16):
        y = train(jnp.asarray(X, dtype), 0)
        assert y.dtype == dtype
        assert jnp.isfinite(y).all()
    assert train(np.array([-8, 8]), 0).dtype == jnp.float32


@pytest.mark.parametrize("lower", [0.5, float("nan"), -float("inf")])
def test_bounds_out_of_order_or_not_finite(lower):
    sentence = rf"^lower and upper must be finite and in order, got lower={lower}, upper=0.25; .*\."
    with pytest.raises(ValueError, match=sentence):
        linen_evaluate(X, lower=lower, upper=0.25)  # JAX adds lines about its traceback
    with pytest.raises(ValueError, match=sentence + "$"):
        jax_leaky.nnx.RReLU(lower, 0.25)


class TestLinen:
    def test_deterministic_is_said_once(self):
        with pytest.raises(ValueError, match="deterministic"):
            jax_leaky.linen.RReLU().apply({}, X)
        with pytest.raises(ValueError, match="deterministic"):
            jax_leaky.linen.RReLU(deterministic=True).apply({}, X, deterministic=True)

    def test_a_key_in_the_call_and_a_stream_of_another_name(self):
        module = jax_leaky.linen.RReLU(deterministic=False, rng_collection="noise")
        np.testing.assert_array_equal(
            module.apply({}, X, rng=jax.random.key(3)), module.apply({}, X, rng=jax.random.key(3))
        )
        y = module.apply({}, X, rngs={"noise": jax.random.key(0)})
        assert (y != X).any()

    def test_under_jit(self):
        jitted = jax.jit(
            lambda x, key: (
                linen_train(x, 0) * 0
                + jax_leaky.linen.RReLU().apply({}, x, deterministic=False, rngs={"rrelu": key})
            )
        )
        np.testing.assert_allclose(jitted(X, jax.random.key(0)), linen_train(X, 0), rtol=1e-6)

    def test_it_holds_no_parameters(self):
        assert not jax.tree.leaves(jax_leaky.linen.RReLU(deterministic=True).init(jax.random.key(0), X))


class TestNNX:
    def test_train_and_eval_switch_it(self):
        model = nnx.Sequential(jax_leaky.nnx.RReLU(rngs=nnx.Rngs(0)))
        assert (model(X) != model(X)).any()
        model.eval()
        np.testing.assert_array_equal(model(X), leaky_relu(X, (LOWER + UPPER) / 2))
        model.train()
        assert (model(X) != model(X)).any()

    def test_a_view_for_evaluation_leaves_the_model_in_training(self):
        model = nnx.Sequential(nnx.Dropout(0.5, rngs=nnx.Rngs(1)), jax_leaky.nnx.RReLU(rngs=nnx.Rngs(0)))
        view = nnx.view(model, deterministic=True)
        np.testing.assert_array_equal(view(X), leaky_relu(X, (LOWER + UPPER) / 2))
        assert (model(X) != model(X)).any()
        assert (nnx.view(view, deterministic=False)(X) != view(X)).any()

    def test_the_call_overrides_the_module(self):
        module = jax_leaky.nnx.RReLU(rngs=nnx.Rngs(0))
        np.testing.assert_array_equal(module(X, deterministic=True), leaky_relu(X, (LOWER + UPPER) / 2))
        silent = jax_leaky.nnx.RReLU(deterministic=True)
        for source in (nnx.Rngs(5), nnx.Rngs(rrelu=5), nnx.Rngs(5).rrelu, jax.random.key(5)):
            assert (silent(X, deterministic=False, rngs=source) != silent(X)).any()

    def test_training_without_a_stream(self):
        with pytest.raises(
            ValueError, match=r"^rngs must be given .* got None; pass rngs=nnx.Rngs\(0\) .*model.eval\(\)\.$"
        ):
            jax_leaky.nnx.RReLU()(X)

    def test_under_jit_and_grad_the_stream_moves_on(self):
        model = jax_leaky.nnx.RReLU(rngs=nnx.Rngs(0))
        jitted = nnx.jit(lambda model, x: model(x))
        first, second = jitted(model, X), jitted(model, X)
        assert (first != second).any()
        np.testing.assert_allclose(first, nnx_train(X, 0), rtol=1e-6)
        gradients = nnx.jit(nnx.grad(lambda x, model: model(x).sum()))
        assert (gradients(jnp.asarray(X), model) != gradients(jnp.asarray(X), model)).any()

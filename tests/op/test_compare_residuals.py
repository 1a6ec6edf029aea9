"""compare_residuals: what it finds, that its figures are those of a model edited by hand, what it recommends."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jax_leaky
from jax_leaky._compare_residuals import compare_residuals

CHOICES = ["as written", "jax.nn", "bits", "mask", "output"]


def mlp(activation):
    def loss(weights, x):
        for w in weights:
            x = activation(x @ w)
        return x.astype(jnp.float32).sum()

    return loss


def struct(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


WEIGHTS, X = [struct(256, 256)] * 4, struct(2048, 256)


MIXING = np.random.default_rng(0).standard_normal((128, 128)).astype(np.float16) / 12  # is not differentiated


def needed(loss, *arguments):
    return jax.jit(jax.grad(loss)).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


@pytest.fixture(scope="module", params=[False, True], ids=["jit", "disable_jit"])
def unrolled(request):
    with jax.disable_jit(request.param):
        return compare_residuals(mlp(jax.nn.leaky_relu), WEIGHTS, X)


@pytest.mark.parametrize("residual", ["bits", "mask", "output"])
def test_memory_is_that_of_the_model_edited_by_hand(unrolled, residual):
    by_hand = mlp(lambda x: jax_leaky.leaky_relu(x, residual=residual))
    assert unrolled.temporary_bytes[residual] == pytest.approx(needed(by_hand, WEIGHTS, X), rel=0.01)


def test_memory_as_written_is_that_of_the_function(unrolled):
    today = needed(mlp(jax.nn.leaky_relu), WEIGHTS, X)
    assert unrolled.temporary_bytes["as written"] == pytest.approx(today, rel=0.01)
    assert unrolled.temporary_bytes["jax.nn"] == pytest.approx(today, rel=0.01)


def test_recommends_the_least_memory_in_one_sentence(unrolled):
    assert list(unrolled.temporary_bytes) == CHOICES
    assert min(unrolled.temporary_bytes, key=unrolled.temporary_bytes.get) == "bits"
    sentence = r"Use jax_leaky's leaky_relu: [\d.]+ MB of temporary memory, \d+% less than as written\."
    assert re.fullmatch(sentence, unrolled.recommendation)


def test_recommends_to_leave_what_is_best_already():
    found = compare_residuals(mlp(jax_leaky.leaky_relu), WEIGHTS, X)
    assert found.recommendation.startswith("Leave it as it is")


def test_prints_choices_sites_and_recommendation(unrolled):
    text = str(unrolled)
    assert all(choice in text for choice in CHOICES)
    assert "4 sites, 0 opaque" in text
    assert unrolled.recommendation in text
    assert "time" not in text


@pytest.mark.slow
def test_by_site_names_what_gains_and_its_memory_is_that_of_a_model_edited_likewise():
    """The output of the first activation leaves the scan; that of the second is kept for the product after it."""

    def loss(first, second):
        def layer(x, w):
            y = first(x @ w)
            return second(y @ MIXING) @ w, y

        def run(weights, x):
            x, outputs = jax.lax.scan(layer, x, weights)
            return sum((value * value).astype(jnp.float32).sum() for value in (x, outputs))

        return run

    arguments = struct(4, 128, 128, dtype=jnp.float16), struct(2048, 128, dtype=jnp.float16)
    found = compare_residuals(loss(jax.nn.leaky_relu, jax.nn.leaky_relu), *arguments, by_site=True)
    (name, (residual, least)), *others = found.exceptions.items()
    assert (name, residual, others) == (found.sites[1].name, "output", [])
    by_hand = loss(jax_leaky.leaky_relu, lambda x: jax_leaky.leaky_relu(x, residual="output"))
    assert least == pytest.approx(needed(by_hand, *arguments), rel=0.01)
    assert least < min(found.temporary_bytes.values())
    assert f"leaky_relu, but residual='output' at {name}: " in found.recommendation
    assert f"{name}: output, " in str(found)


def test_by_site_leaves_alone_what_gains_nothing():
    found = compare_residuals(mlp(jax.nn.leaky_relu), WEIGHTS[:2], X, by_site=True)
    assert found.exceptions == {}
    assert "no single site gains" in str(found)


def test_finds_hand_written_traced_negative_and_scanned_sites():
    def loss(params, x):
        x = jnp.where(x > 0, x, 0.2 * x) @ params["w"][0]
        x = jax.nn.leaky_relu(x, params["slope"])
        x = jax.nn.leaky_relu(x @ params["w"][0], -0.5)
        x, _ = jax.lax.scan(lambda x, w: (jax.nn.leaky_relu(x @ w), None), x, params["w"])
        return jnp.maximum(x, 0).sum()

    found = compare_residuals(loss, {"w": struct(3, 64, 64), "slope": struct(64)}, struct(128, 64))
    assert [site.kind for site in found.sites] == ["leaky_relu"] * 4
    assert [site.negative_slope for site in found.sites] == [0.2, None, -0.5, pytest.approx(0.01)]
    assert found.sites[3].stacked == (3,)


def test_time_runs_each_choice():
    key = jax.random.key(0)
    weights, x = [jax.random.normal(key, (64, 64))] * 2, jax.random.normal(key, (128, 64))
    found = compare_residuals(mlp(jax.nn.leaky_relu), weights, x, measure_time=True)
    assert list(found.seconds) == CHOICES
    assert all(seconds > 0 for seconds in found.seconds.values())
    assert " ms" in str(found)


def test_auxiliary_outputs_keywords_constants_and_numpy_arrays():
    def loss(x, params, *, scale, mode):
        assert mode == "train"
        h = jax.nn.leaky_relu(x @ params)
        return scale * h.sum(), {"h": h, "mode": mode}

    found = compare_residuals(
        loss, np.ones((128, 64), np.float32), struct(64, 64), argnums=1, has_aux=True, scale=2.0, mode="train"
    )
    assert len(found.sites) == 1


@pytest.mark.slow
def test_linen_and_nnx_losses_unmodified():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(8)(nn.leaky_relu(nn.Dense(32)(x)))

    x = jnp.ones((16, 8))
    variables = jax.eval_shape(Net().init, jax.random.key(0), x)
    found = compare_residuals(lambda variables, x: Net().apply(variables, x).sum(), variables, x)
    assert len(found.sites) == 1

    class Block(nnx.Module):
        def __init__(self, rngs):
            self.linear, self.norm = nnx.Linear(8, 32, rngs=rngs), nnx.BatchNorm(32, rngs=rngs)

        def __call__(self, x):
            return nnx.leaky_relu(self.norm(self.linear(x)))

    block = nnx.jit(lambda: Block(nnx.Rngs(0)))()  # one program, not one for each parameter
    before = np.asarray(block.norm.mean[...])
    found = compare_residuals(lambda block, x: block(x).sum(), block, x)
    assert len(found.sites) == 1
    np.testing.assert_array_equal(block.norm.mean[...], before)


def test_refuses_in_one_sentence():
    with pytest.raises(ValueError, match=r"must contain a leaky ReLU.*give the loss"):
        compare_residuals(mlp(jax.nn.relu), WEIGHTS, X)
    with pytest.raises(TypeError, match=r"must return a real scalar, got float32\[128, 64\]"):
        compare_residuals(lambda w, x: jax.nn.leaky_relu(x @ w), struct(64, 64), struct(128, 64))
    with pytest.raises(TypeError, match="floating-point arrays, got argnums=0"):
        compare_residuals(lambda n, x: jax.nn.leaky_relu(x).sum() * n, struct(dtype=jnp.int32), X)
    with pytest.raises(ValueError, match=r"one of the 2 arguments in .*, got 3"):
        compare_residuals(mlp(jax.nn.leaky_relu), WEIGHTS, X, argnums=3)
    with pytest.raises(ValueError, match="must be an array, got ShapeDtypeStruct"):
        compare_residuals(mlp(jax.nn.leaky_relu), WEIGHTS, X, measure_time=True)

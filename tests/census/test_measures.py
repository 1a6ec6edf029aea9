"""Censuses of small models against NumPy on activations computed by hand."""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import Census, census

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 5)).astype(np.float32)
# Six units: mixed ones, one that is never active, one that always does, one that fires on a single sample.
WEIGHTS = RNG.normal(size=(5, 6)).astype(np.float32)
BIAS = np.array([0.0, 0.5, -0.5, -100.0, 100.0, 0.0], np.float32)
WEIGHTS[:, 5] = [1, 0, 0, 0, 0]
BIAS[5] = -np.sort(X[:, 0])[-2:].mean()
Z = X.astype(np.float64) @ WEIGHTS + BIAS


def leaky(z: np.ndarray) -> np.ndarray:
    return np.where(z > 0, z, 0.2 * z)


def relu_then_leaky(x: jax.Array) -> jax.Array:
    with jax.named_scope("net"):
        h = jax.nn.relu(x @ WEIGHTS + BIAS)
        return jax.nn.leaky_relu(h @ WEIGHTS.T @ WEIGHTS - 1, 0.2)


@pytest.fixture(scope="module")
def found() -> Census:
    return census(relu_then_leaky, [X[:40], X[40:80], X[80:]])


def test_sites_come_in_the_order_of_the_program(found: Census) -> None:
    assert list(found.sites) == ["net/relu", "net/leaky_relu"]
    assert [site.kind for site in found] == ["relu", "leaky_relu"]
    assert [site.negative_slope for site in found] == [0.0, 0.2]
    assert [(site.n, site.units) for site in found] == [(90, 6), (90, 6)]


@pytest.mark.parametrize("place", [0, 1])
def test_measures_equal_numpy(found: Census, place: int) -> None:
    site = list(found)[place]
    z = [Z, np.maximum(Z, 0) @ WEIGHTS.T @ WEIGHTS - 1][place]
    a, slope = [(np.maximum(Z, 0), 0.0), (leaky(z), 0.2)][place]
    p = (z > 0).mean(0)
    score = np.abs(a).mean(0) / np.abs(a).mean()
    np.testing.assert_allclose(site.per_unit("act_freq"), p, rtol=1e-6)
    np.testing.assert_allclose(site.per_unit("mean_slope"), p + slope * (1 - p), rtol=1e-6)
    np.testing.assert_allclose(site.per_unit("dormant_score"), score, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(site.where("never_active"), np.flatnonzero(p == 0))
    np.testing.assert_array_equal(site.where("always_active"), np.flatnonzero(p == 1))
    np.testing.assert_array_equal(site.where("rare"), np.flatnonzero(p < 0.01))
    np.testing.assert_array_equal(site.where("dormant@0.025"), np.flatnonzero(score <= 0.025))
    assert site.measures["never_active"] == pytest.approx((p == 0).mean(), rel=1e-6)
    assert site.measures["mean_slope"] == pytest.approx((p + slope * (1 - p)).mean(), rel=1e-6)


def test_a_unit_that_fired_once_is_silent_since_then(found: Census) -> None:
    since = 89 - int(np.argmax(X[:, 0]))
    assert int(found["net/relu"].summary.since_fired.to_numpy()[5]) == since
    assert found["net/relu"].per_unit("act_freq")[5] == pytest.approx(1 / 90)


def test_dead_is_for_relu_alone(found: Census) -> None:
    assert found["net/relu"].where("dead").tolist() == [3]
    with pytest.raises(ValueError, match="n/a by construction"):
        found["net/leaky_relu"].where("dead")
    assert "net/leaky_relu/dead" not in found.scalars()


def test_rare_below_is_the_callers() -> None:
    site = census(relu_then_leaky, X, sites="net/relu", rare_below=0.02)["net/relu"]
    assert site.where("rare").tolist() == [3, 5]


def test_channels_of_a_convolution_are_units() -> None:
    class CNN(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return nn.relu(nn.Conv(6, (3, 3), padding="VALID")(x))

    x = jax.random.normal(jax.random.key(0), (4, 8, 7, 2))
    model = CNN()
    variables = model.init(jax.random.key(1), x)
    site = census(functools.partial(model.apply, variables), x)["CNN/relu"]
    kernel = np.asarray(variables["params"]["Conv_0"]["kernel"], np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(x, np.float64), (3, 3), axis=(1, 2))
    z = np.einsum("bhwcij,ijco->bhwo", windows, kernel)
    assert (site.n, site.units) == (4 * 6 * 5, 6)
    np.testing.assert_allclose(site.per_unit("act_freq"), (z > 0).mean((0, 1, 2)), rtol=1e-6)


def test_a_learnt_slope_is_read_where_the_model_runs() -> None:
    slopes = jnp.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])

    def prelu(slopes: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.where(x > 0, x, slopes * x)

    x = jnp.tile(jnp.array([[1.0], [-1.0], [-1.0], [-1.0]]), (1, 6))
    site = next(iter(census(functools.partial(prelu, slopes), x)))
    np.testing.assert_allclose(site.negative_slope, slopes, rtol=1e-6)
    np.testing.assert_allclose(site.per_unit("mean_slope"), 0.25 + 0.75 * slopes, rtol=1e-6)


def test_a_kind_without_a_slope_has_no_mean_slope() -> None:
    site = next(iter(census(jax.nn.gelu, jnp.array(Z, jnp.float32))))
    assert (site.kind, site.negative_slope, site.measures["mean_slope"]) == ("gelu", None, None)
    assert site.measures["notes"]["mean_slope"] == "n/a: gelu has no one slope below 0"
    assert site.measures["dead"] is not None
    np.testing.assert_allclose(site.per_unit("act_freq"), (Z > 0).mean(0), rtol=1e-6)


def test_a_diverged_layer_is_invalid_and_never_healthy() -> None:
    x = X.copy()
    x[7, 2] = np.nan
    found = census(relu_then_leaky, [x[:40], x[40:80], x[80:]])
    site = found["net/relu"]
    assert site.invalid == "invalid: 6 non-finite values"
    assert site.measures["never_active"] is None
    assert np.isnan(found.scalars()["net/relu/never_active"])
    assert found.scalars()["net/relu/nonfinite"] == 6
    with pytest.raises(ValueError, match="cannot tell which units are dead: invalid: 6 non-finite values"):
        site.where("dead")
    line = next(line for line in str(found).splitlines() if line.startswith("net/relu "))
    assert "invalid" in line
    assert "%" not in line
    assert json.loads(found.to_json())["sites"][0]["never_active"] is None

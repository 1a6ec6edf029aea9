"""The mean slope where the slope is no number in the program: every sample counts with its own."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax_leaky import Census, census, leaky_relu, value_and_census

RNG = np.random.default_rng(7)
X = RNG.normal(size=(40, 6)).astype(np.float32) - np.linspace(-1, 4, 6, dtype=np.float32)
SLOPES = (0.1, 0.9, 0.4)


def layer(slope: jax.Array, x: jax.Array) -> jax.Array:
    with jax.named_scope("layer"):
        return jax.nn.leaky_relu(x, slope)


def true(zs: list[np.ndarray], slopes: list[np.ndarray]) -> np.ndarray:
    """The mean over all samples of the slope at each, (units,)."""
    at = [np.where(z > 0, 1, slope) for z, slope in zip(zs, slopes, strict=True)]
    return np.concatenate(at).astype(np.float64).mean(0)


def taken(slope: float, x: np.ndarray = X) -> Census:
    return census(layer, [(jnp.float32(slope), x)])


def test_batches_with_slopes_of_their_own() -> None:
    found = census(layer, [(jnp.float32(slope), X + slope) for slope in SLOPES])
    expected = true([X + np.float32(slope) for slope in SLOPES], list(SLOPES))
    site = found["layer/leaky_relu"]
    np.testing.assert_allclose(site.per_unit("mean_slope"), expected, rtol=1e-6)
    assert site.measures["mean_slope"] == pytest.approx(expected.mean(), rel=1e-6)
    assert site.negative_slope is None
    np.testing.assert_allclose(
        (site.counts.slope_min, site.counts.slope_max), ([0.1] * 6, [0.9] * 6), rtol=1e-6
    )
    assert "0.1..0.9" in str(found)
    assert "layer/leaky_relu: the slope below 0 differs between samples" in str(found)
    assert site.measures["dead"] is None


def test_slopes_of_units_that_move() -> None:
    slopes = [np.linspace(0, end, 6, dtype=np.float32) for end in (0.5, 0.2)]
    found = census(lambda a, x: jnp.where(x > 0, x, a * x), [(jnp.asarray(a), X) for a in slopes])
    (site,) = found
    np.testing.assert_allclose(site.per_unit("mean_slope"), true([X, X], slopes), rtol=1e-6)
    np.testing.assert_allclose(
        (site.counts.slope_min, site.counts.slope_max), (slopes[1], slopes[0]), rtol=1e-6
    )


def test_a_slope_that_is_written_with_its_sign_turned() -> None:
    slopes = np.linspace(0, 0.5, 6, dtype=np.float32)
    found = census(lambda a, x: jax.nn.relu(x) + (-a) * jax.nn.relu(-x), [(jnp.asarray(slopes), X)])
    (site,) = found
    np.testing.assert_allclose(site.per_unit("mean_slope"), true([X], [slopes]), rtol=1e-6)


def test_the_same_slope_everywhere_is_one_number() -> None:
    found = census(layer, [(jnp.float32(0.3), X[:10]), (jnp.float32(0.3), X[10:])])
    site = found["layer/leaky_relu"]
    assert site.negative_slope == 0.3
    assert "differs" not in str(found)
    # The slope itself to the bit, where a unit is never active.
    never = census(layer, [(jnp.float32(0.3), -np.abs(X))])["layer/leaky_relu"]
    assert set(never.per_unit("mean_slope").tolist()) == {float(np.float32(0.3))}


def test_any_order_of_adding_up_gives_the_same_mean_slope() -> None:
    parts = {slope: taken(slope, X + np.float32(slope)) for slope in SLOPES}
    expected = true([X + np.float32(slope) for slope in SLOPES], list(SLOPES))
    for order in itertools.permutations(SLOPES):
        first, second, third = (parts[slope] for slope in order)
        for whole in ((first + second) + third, first + (second + third)):
            site = whole["layer/leaky_relu"]
            np.testing.assert_allclose(site.per_unit("mean_slope"), expected, rtol=1e-6)
            np.testing.assert_allclose(
                (site.counts.slope_min, site.counts.slope_max), ([0.1] * 6, [0.9] * 6), rtol=1e-6
            )


@pytest.mark.parametrize("swapped", [False, True])
def test_two_programs_with_a_number_each(swapped: bool) -> None:
    def of(slope: float) -> Census:
        return census(lambda x: layer(slope, x), X)  # type: ignore[arg-type] # a number in the program

    one, other = of(0.1), of(0.5)
    site = (other + one if swapped else one + other)["layer/leaky_relu"]
    np.testing.assert_allclose(site.per_unit("mean_slope"), true([X, X], [0.1, 0.5]), rtol=1e-6)
    assert (of(0.1) + of(0.1))["layer/leaky_relu"].negative_slope == 0.1
    # A number in one, an argument in the other.
    mixed = (taken(0.5) + one if swapped else one + taken(0.5))["layer/leaky_relu"]
    np.testing.assert_allclose(mixed.per_unit("mean_slope"), true([X, X], [0.1, 0.5]), rtol=1e-6)


def through_time(slopes: jax.Array, xs: jax.Array) -> jax.Array:
    return lax.scan(lambda h, step: (layer(step[0], h + step[1]), None), jnp.zeros_like(xs[0]), (slopes, xs))[
        0
    ]


@pytest.mark.parametrize("counted", [False, True])
def test_a_scan_over_time_whose_slope_changes(counted: bool) -> None:
    xs = RNG.normal(size=(3, 10, 6)).astype(np.float32)
    slopes, h, zs = np.asarray(SLOPES, np.float32), np.zeros((10, 6), np.float32), []
    for slope, x in zip(slopes, xs, strict=True):
        zs.append(h + x)
        h = np.where(zs[-1] > 0, zs[-1], slope * zs[-1])
    found = value_and_census(through_time)(slopes, xs)[1] if counted else census(through_time, [(slopes, xs)])
    (site,) = found
    np.testing.assert_allclose(site.per_unit("mean_slope"), true(zs, list(slopes)), rtol=1e-6)


def test_a_branch_that_is_not_taken_says_nothing_of_its_slope() -> None:
    def net(slope: jax.Array, x: jax.Array) -> jax.Array:
        return lax.cond(x[0, 0] > 0, lambda x: layer(slope, x), lambda x: x, x)

    up, down = np.abs(X), -np.abs(X)
    down[:, 0], up[1:] = -1, down[1:]
    found = census(net, [(jnp.float32(a), x) for a, x in ((0.7, down), (0.2, up), (0.6, down))])
    (site,) = found
    assert site.negative_slope == 0.2
    np.testing.assert_allclose(site.per_unit("mean_slope"), true([up], [0.2]), rtol=1e-6)
    never = next(iter(census(net, [(jnp.float32(0.7), down)])))
    assert (never.negative_slope, never.invalid) == (None, "invalid: no sample was seen")
    assert str(census(net, [(jnp.float32(0.7), down)]))


def test_json_keeps_the_slopes_open_to_more() -> None:
    found = Census.from_json(taken(0.1).to_json()) + Census.from_json((taken(0.9) + taken(0.4)).to_json())
    expected = true([X] * 3, list(SLOPES))
    np.testing.assert_allclose(found["layer/leaky_relu"].per_unit("mean_slope"), expected, rtol=1e-6)
    again = Census.from_json(found.to_json())
    assert (str(again), again.to_json()) == (str(found), found.to_json())


def test_scalars_inside_a_step_know_the_mean() -> None:
    @jax.jit
    def step(x: jax.Array) -> jax.Array:
        (_, one), (_, other) = (value_and_census(layer)(jnp.float32(slope), x) for slope in (0.1, 0.9))
        return (one + other).scalars()["layer/leaky_relu/mean_slope"]

    assert float(step(jnp.asarray(X))) == pytest.approx(true([X, X], [0.1, 0.9]).mean(), rel=1e-6)


def prelu(x: jax.Array, slope: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, slope * x)


@pytest.mark.parametrize("samples", [2, 9], ids=["as many as networks", "more than networks"])
@pytest.mark.parametrize("slopes", [(2, 4), (2,)], ids=["a slope per unit", "a slope per network"])
@pytest.mark.parametrize("fn", [prelu, jax.jit(prelu), jax.nn.leaky_relu, leaky_relu])
def test_networks_side_by_side_have_slopes_of_their_own(
    fn: Callable[[jax.Array, jax.Array], jax.Array], slopes: tuple[int, ...], samples: int
) -> None:
    """vmap puts the axis of the networks in front of the slopes, and beside z inside of the call alone."""
    random = np.random.default_rng(0)
    z, slope = (random.normal(size=shape).astype(np.float32) for shape in ((2, samples, 4), slopes))
    (site,) = census(lambda z: jax.vmap(fn)(z, slope), [z])
    own = slope.reshape(2, 1, -1)
    np.testing.assert_allclose(
        site.per_unit("mean_slope"), np.where(z > 0, 1, own).mean(axis=(0, 1)), rtol=1e-5, atol=1e-6
    )

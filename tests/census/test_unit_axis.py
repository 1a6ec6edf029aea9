"""Units along an axis other than the last: channels that come first, and the samples that vmap puts last."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import Census, census, value_and_census

RNG = np.random.default_rng(3)
V = RNG.normal(size=(4, 6)).astype(np.float32)
X = RNG.normal(size=(64, 6)).astype(np.float32)
IMAGES = RNG.normal(size=(5, 2, 8, 7)).astype(np.float32)
KERNEL = RNG.normal(size=(3, 2, 3, 3)).astype(np.float32)


def mapped(x: jax.Array) -> jax.Array:
    """Each sample by itself; the product of all of them is (units, samples)."""

    def layer(x: jax.Array) -> jax.Array:
        with jax.named_scope("layer"):
            return jax.nn.relu(V @ x)

    return jax.vmap(layer)(x)


def channels_first(images: jax.Array) -> jax.Array:
    dimensions = ("NCHW", "OIHW", "NCHW")
    with jax.named_scope("conv"):
        z = jax.lax.conv_general_dilated(images, KERNEL, (1, 1), "VALID", dimension_numbers=dimensions)
        return jax.nn.leaky_relu(z, 0.2)


def convolved() -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(IMAGES.astype(np.float64), (3, 3), axis=(2, 3))
    return np.einsum("nihwab,oiab->nohw", windows, KERNEL.astype(np.float64))


@pytest.mark.parametrize("axis", [0, -2, {"layer/relu": 0}, {"layer/*": 0}])
@pytest.mark.parametrize("how", ["census", "value_and_census"])
def test_the_samples_of_vmap_may_lie_last(axis: object, how: str) -> None:
    if how == "census":
        found = census(mapped, [X[:20], X[20:]], unit_axis=axis)  # type: ignore[arg-type] # one of the above
    else:
        found = jax.jit(value_and_census(mapped, unit_axis=axis))(X)[1]  # type: ignore[arg-type] # as above
    site, z = found["layer/relu"], X.astype(np.float64) @ V.T
    assert (site.units, site.n, site.unit_axis) == (4, 64, 0)
    np.testing.assert_array_equal(site.counts.fired.to_numpy(), (z > 0).sum(0))
    np.testing.assert_allclose(site.counts.abs_sum.high, np.maximum(z, 0).sum(0), rtol=1e-5)
    assert "layer/relu: units along axis 0 of its input, which is not the last" in str(found)
    again = Census.from_json(found.to_json())
    assert (str(again), again["layer/relu"].unit_axis) == (str(found), 0)


def test_batches_in_which_the_last_axis_differs_are_told_of_unit_axis() -> None:
    with pytest.raises(
        ValueError, match=r"layer/relu has 20 units in one batch and 44 in another.*unit_axis"
    ):
        census(mapped, [X[:20], X[20:]])


def test_channels_that_come_first() -> None:
    found = census(channels_first, IMAGES, unit_axis=1)
    site, z = found["conv/leaky_relu"], convolved()
    a = np.where(z > 0, z, 0.2 * z)
    assert (site.units, site.n) == (3, 5 * 6 * 5)
    np.testing.assert_array_equal(site.counts.fired.to_numpy(), (z > 0).sum((0, 2, 3)))
    np.testing.assert_allclose(site.counts.abs_sum.high, np.abs(a).sum((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(site.per_unit("z_min"), z.min((0, 2, 3)), rtol=1e-4)


def test_the_slopes_of_channels_that_come_first() -> None:
    slopes = np.array([0.1, 0.2, 0.3], np.float32)

    def prelu(slopes: jax.Array, images: jax.Array) -> jax.Array:
        z = images.repeat(2, axis=1)[:, :3]
        return jnp.where(z > 0, z, slopes[:, None, None] * z)

    z = IMAGES.repeat(2, axis=1)[:, :3]
    (site,) = census(functools.partial(prelu, jnp.asarray(slopes)), IMAGES, unit_axis=1)
    np.testing.assert_allclose(site.negative_slope, slopes, rtol=1e-6)
    expected = np.where(z > 0, 1, slopes[:, None, None]).mean((0, 2, 3))
    np.testing.assert_allclose(site.per_unit("mean_slope"), expected, rtol=1e-6)


def test_gradients_are_those_of_the_units() -> None:
    weights = np.array([1.0, 0.0, -2.0, 0.5], np.float32)
    found = census(lambda x: jnp.sum(mapped(x) * weights), X, unit_axis=0, gradients=True)
    site, z = found["layer/relu"], X.astype(np.float64) @ V.T
    g = np.where(z > 0, weights, 0)
    np.testing.assert_array_equal(site.counts.grad_nonzero.to_numpy(), (g != 0).sum(0))
    np.testing.assert_allclose(site.counts.grad_sum.high, np.abs(g).sum(0), rtol=1e-5)
    assert site.where("grad_dead").tolist() == [1]


def test_sites_that_no_pattern_names_keep_the_last_axis() -> None:
    def net(x: jax.Array) -> jax.Array:
        with jax.named_scope("head"):
            return jax.nn.relu(mapped(x) - 0.1)

    found = census(net, X, unit_axis={"head/layer/relu": 0})
    assert {site.name: (site.units, site.n) for site in found} == {
        "head/layer/relu": (4, 64),
        "head/relu": (4, 64),
    }
    assert len(census(net, X, sites="head/relu", unit_axis={"head/layer/relu": 0})) == 1


@pytest.mark.parametrize(
    ("axis", "error", "sentence"),
    [
        (2, ValueError, r"unit_axis=2 is no axis of the input of layer/relu, whose shape is \(4, 64\)"),
        ("0", TypeError, "unit_axis='0' is no integer, nor several, nor a dict from sites to these"),
        ((0, -2), ValueError, r"unit_axis=\(0, -2\) are no different axes of the input of layer/relu"),
        ((), ValueError, r"unit_axis=\(\) are no different axes"),
        ({"layer/relu": 0.5}, TypeError, "unit_axis=0.5 is no integer"),
        ({"encoder": 0}, ValueError, "no site is named 'encoder'"),
    ],
)
def test_bad_axes_get_one_sentence(axis: object, error: type[Exception], sentence: str) -> None:
    for count in (census, lambda fn, x, unit_axis: value_and_census(fn, unit_axis=unit_axis)(x)):
        with pytest.raises(error, match=sentence):
            count(mapped, X, unit_axis=axis)  # type: ignore[operator] # either takes it


GATE = RNG.normal(size=(6, 2, 3, 5)).astype(np.float32)
GATE[:, 1, :, 4] = -1
STEEPNESS = RNG.uniform(0.1, 0.9, size=(2, 1, 5)).astype(np.float32)


def gate(z: jax.Array) -> jax.Array:
    """Units are pairs of a head and a feature; samples are (batch, length)."""
    with jax.named_scope("gate"):
        return jnp.sum(jnp.where(z > 0, z, STEEPNESS * z))


@pytest.mark.parametrize("how", ["census", "value_and_census"])
def test_units_along_two_axes_are_pairs(how: str) -> None:
    if how == "census":
        found = census(gate, [GATE[:2], GATE[2:]], unit_axis={"gate/*": (1, 3)}, gradients=True)
    else:
        found = jax.jit(value_and_census(gate, unit_axis=(1, -1)))(GATE)[1]
    (site,), z = found, GATE.astype(np.float64)
    assert (site.units, site.unit_shape, site.n) == (10, (2, 5), 18)
    np.testing.assert_allclose(site.per_unit("act_freq"), (z > 0).mean((0, 2)), rtol=1e-6)
    expected = np.where(z > 0, 1, STEEPNESS).mean((0, 2))
    np.testing.assert_allclose(site.per_unit("mean_slope"), expected, rtol=1e-5)
    assert site.where("never_active").tolist() == [[1, 4]]
    if how == "census":
        assert site.where("grad_dead").tolist() == []
        total = site.counts.grad_sum.high.reshape(2, 5)
        np.testing.assert_allclose(total, np.where(z > 0, 1, STEEPNESS).sum((0, 2)), rtol=1e-5)
    assert "gate/prelu: units along axes 1 and 3 (2 x 5) of its input" in str(found)
    again = Census.from_json(found.to_json())
    assert (str(again), again["gate/prelu"].where("never_active").tolist()) == (str(found), [[1, 4]])
    with pytest.raises(
        ValueError, match=r"axes 1 and 3 \(2 x 5\) of its input in one census and along axes 3 and 1"
    ):
        found + census(gate, GATE, unit_axis=(3, 1))


def test_censuses_along_two_axes_do_not_add_up() -> None:
    square = X[:4]
    with pytest.raises(ValueError, match="take both with the same unit_axis"):
        census(mapped, square, unit_axis=0) + census(mapped, square)

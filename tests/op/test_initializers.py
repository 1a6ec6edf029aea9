"""He's initialisers for a leaky ReLU: variance, fan_in, dtype, JAX's own at slope 0, and a level signal in depth."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.nn import initializers

from jax_leaky import leaky_he_normal, leaky_he_uniform

# A program of XLA's own generator takes a fraction of the time to compile.
key = partial(jax.random.key, impl="rbg")
each_kind = pytest.mark.parametrize("make", [leaky_he_normal, leaky_he_uniform])

# Excess kurtosis sets how far a variance estimated from n samples strays: its standard error is
# variance * sqrt((kurtosis - 1) / n). For the uniform the kurtosis is 1.8; for the normal cut at two standard
# deviations 2.37; 3 bounds both.
KURTOSIS = 3


@each_kind
@pytest.mark.parametrize("slope", [0.01, 1.0, -0.5])
def test_mean_and_variance(make, slope):
    fan_in, fan_out = 100, 300
    kernel = np.asarray(make(slope)(key(0), (fan_in, fan_out)), np.float64)
    variance, n = 2 / ((1 + slope**2) * fan_in), kernel.size
    assert abs(kernel.mean()) < 5 * np.sqrt(variance / n)
    assert abs(kernel.var() / variance - 1) < 5 * np.sqrt((KURTOSIS - 1) / n)


@each_kind
@pytest.mark.parametrize(
    ("axes", "fan_in"),
    [
        ({}, 6 * 8 * 16),  # a convolution's kernel: the window times the channels in
        ({"in_axis": 1, "out_axis": 0}, 8 * 16 * 32),  # PyTorch's layout
        ({"in_axis": (0, 1), "out_axis": (2, 3)}, 6 * 8),  # attention heads
        ({"batch_axis": 0}, 8 * 16),  # a stack of layers
    ],
)
def test_fan_in(make, axes, fan_in):
    kernel = np.asarray(make(0.2, **axes)(key(1), (6, 8, 16, 32)), np.float64)
    expected = 2 / ((1 + 0.2**2) * fan_in)
    assert abs(kernel.var() / expected - 1) < 5 * np.sqrt((KURTOSIS - 1) / kernel.size)


def test_the_bounds_of_the_distributions():
    shape, variance = (100, 300), 2 / ((1 + 0.2**2) * 100)
    uniform = np.abs(leaky_he_uniform(0.2)(key(2), shape))
    assert 0.999 < uniform.max() / np.sqrt(3 * variance) <= 1
    # The normal of JAX is cut at two standard deviations and widened by 1 / 0.8796 to make up for it.
    normal = np.abs(leaky_he_normal(0.2)(key(2), shape))
    assert 0.99 < normal.max() / (2 * np.sqrt(variance) / 0.87962566) <= 1.0001


@pytest.mark.parametrize(
    ("make", "theirs"),
    [(leaky_he_normal, initializers.he_normal), (leaky_he_uniform, initializers.he_uniform)],
)
def test_slope_zero_is_jax_he_to_the_bit(make, theirs):
    stack = {"in_axis": 2, "out_axis": 1, "batch_axis": 0}
    for shape, axes in [((50, 20), {}), ((4, 9, 5), stack)]:
        ours = make(0.0, **axes)(key(3), shape)
        np.testing.assert_array_equal(ours, theirs(**axes)(key(3), shape))


@each_kind
def test_slope_one_is_lecun(make):
    lecun = initializers.lecun_normal() if make is leaky_he_normal else initializers.lecun_uniform()
    args = key(4), (50, 20)
    np.testing.assert_allclose(make(1.0)(*args), lecun(*args), rtol=1e-6)


@each_kind
def test_dtype(make):
    def dtype(initializer, *dtypes):
        return jax.eval_shape(lambda key: initializer(key, (8, 4), *dtypes), key(5)).dtype

    assert dtype(make()) == jnp.float32
    assert dtype(make(dtype=jnp.bfloat16)) == jnp.bfloat16
    assert dtype(make(), jnp.float16) == jnp.float16
    with jax.enable_x64(True):
        assert dtype(make(), jnp.float64) == jnp.float64


@each_kind
def test_made_inside_a_jitted_init(make):
    """As in a Flax module, whose compact method makes its initialisers while it is traced."""
    made_inside = jax.jit(lambda key: make(0.2)(key, (64, 32)))(key(3))
    np.testing.assert_allclose(made_inside, make(0.2)(key(3), (64, 32)), rtol=1e-6)


@each_kind
def test_a_traced_slope_gives_the_kernel_of_that_number(make):
    jax.config.update("jax_disable_most_optimizations", False)  # 1e-6 holds for XLA as users have it
    drawn = jax.jit(jax.vmap(lambda slope: make(slope)(key(3), (64, 32))))(jnp.array([0.0, 0.2, -0.5]))
    for kernel, slope in zip(drawn, (0.0, 0.2, -0.5), strict=True):
        np.testing.assert_allclose(kernel, make(slope)(key(3), (64, 32)), rtol=1e-6)


@each_kind
@pytest.mark.parametrize(("mode", "fan"), [("fan_in", 100), ("fan_out", 300), ("fan_avg", 200)])
def test_the_mode_says_which_fan_keeps_its_level(make, mode, fan):
    kernel = np.asarray(make(0.2, mode)(key(1), (100, 300)), np.float64)
    expected = 2 / ((1 + 0.2**2) * fan)
    assert abs(kernel.var() / expected - 1) < 5 * np.sqrt((KURTOSIS - 1) / kernel.size)


@each_kind
def test_an_unknown_mode(make):
    with pytest.raises(
        ValueError, match=r"^mode must be 'fan_in', .* got 'fan_geo'; the default is 'fan_in'\.$"
    ):
        make(0.2, "fan_geo")


@each_kind
def test_one_slope_by_default(make):
    args = key(6), (8, 4)
    np.testing.assert_array_equal(make()(*args), make(0.01)(*args))


@each_kind
@pytest.mark.parametrize("slope", [float("nan"), float("inf"), -float("inf")])
def test_a_slope_that_is_not_finite(make, slope):
    with pytest.raises(ValueError, match=rf"^negative_slope must be finite, got {slope}; .*\.$"):
        make(slope)


@each_kind
def test_a_slope_that_is_no_real_scalar(make):
    with pytest.raises(ValueError, match=r"^negative_slope must be a scalar, got shape \(3,\); .*\.$"):
        make(jnp.ones(3))
    with pytest.raises(TypeError, match=r"^negative_slope must be a real number .* got '0.2' of type str; "):
        make("0.2")


@each_kind
def test_every_kind_of_slope_gives_one_kernel(make):
    """Whole numbers too, under strict promotion; of 16 bits it is the slope that is rounded, not the variance."""
    kinds = [np.float64(2), np.int8(2), jnp.int32(2), jnp.bfloat16(2), nnx.Param(jnp.float16(2))]

    @jax.jit
    def kernels(key, traced):
        return [make(slope)(key, (4, 3)) for slope in (2, *kinds, *traced)]

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        first, *others = kernels(key(3), [jnp.int32(2), jnp.bfloat16(2), 2])
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-6)


def second_moments(make, slopes, slope, layers=30, units=512):
    """Mean of x^2 after each layer, for kernels made for each of the slopes: (slopes, layers).

    The layers of a network have the entries of one kernel in an order of their own, the same for each of the slopes.
    """
    kernels = [np.asarray(make(of_kernel)(key(7), (units, units))) for of_kernel in slopes]
    rng = np.random.default_rng(7)
    x = [rng.standard_normal((64, units), np.float32)] * len(slopes)
    levels = []
    for _ in range(layers):
        order = rng.permutation(units * units).reshape(units, units)
        z = [h @ kernel.ravel()[order] for h, kernel in zip(x, kernels, strict=True)]
        x = [np.where(z > 0, z, np.float32(slope) * z) for z in z]
        levels.append([(h**2).mean(dtype=np.float64) for h in x])
    return np.transpose(levels)


@each_kind
def test_the_second_moment_stays_level_through_thirty_layers(make):
    """E[x^2] stays 1; with the gain of slope 0 it grows by (1 + a^2)^30, 3.2 times at slope 0.2."""
    level, drifting = np.log(second_moments(make, [0.2, 0.0], 0.2))
    assert np.abs(level).max() < 0.6
    np.testing.assert_allclose(drifting[-1] - level[-1], 30 * np.log(1 + 0.2**2), rtol=1e-3)

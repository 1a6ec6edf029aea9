"""He's initialisers for a leaky ReLU: variance, fan_in, dtype, JAX's own at slope 0, and a level signal in depth."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import initializers

from jax_leaky import leaky_he_normal, leaky_he_uniform, leaky_relu

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
    fan_in, fan_out = 256, 512
    kernel = np.asarray(make(slope)(key(0), (fan_in, fan_out)), np.float64)
    variance, n = 2 / ((1 + slope**2) * fan_in), kernel.size
    assert abs(kernel.mean()) < 5 * np.sqrt(variance / n)
    assert abs(kernel.var() / variance - 1) < 5 * np.sqrt((KURTOSIS - 1) / n)


@each_kind
@pytest.mark.parametrize(
    ("shape", "axes", "fan_in"),
    [
        ((3, 5, 64, 96), {}, 3 * 5 * 64),  # a convolution's kernel: the window times the channels in
        ((96, 64, 3, 3), {"in_axis": 1, "out_axis": 0}, 9 * 64),  # PyTorch's layout
        ((8, 16, 4, 128), {"in_axis": (0, 1), "out_axis": (2, 3)}, 8 * 16),  # attention heads
        ((6, 128, 128), {"batch_axis": 0}, 128),  # a stack of layers
    ],
)
def test_fan_in(make, shape, axes, fan_in):
    kernel = np.asarray(make(0.2, **axes)(key(1), shape), np.float64)
    expected = 2 / ((1 + 0.2**2) * fan_in)
    assert abs(kernel.var() / expected - 1) < 5 * np.sqrt((KURTOSIS - 1) / kernel.size)


def test_the_bounds_of_the_distributions():
    shape, variance = (300, 300), 2 / ((1 + 0.2**2) * 300)
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


def second_moments(make, gains_of, slope, layers=30, units=512):
    """Mean of x^2 after each layer: (gains, layers)."""

    @jax.jit
    @jax.vmap
    def run(gain_of):
        def layer(x, key):
            x = leaky_relu(x @ make(gain_of)(key, (units, units)), slope)
            return x, (x**2).mean()

        x = jax.random.normal(key(7), (64, units))
        return jax.lax.scan(layer, x, jax.random.split(key(7), layers))[1]

    return np.asarray(run(jnp.array(gains_of)), np.float64)


@each_kind
def test_the_second_moment_stays_level_through_thirty_layers(make):
    """E[x^2] stays 1; with the gain of slope 0 it grows by (1 + a^2)^30, 3.2 times at slope 0.2."""
    level, drifting = np.log(second_moments(make, [0.2, 0.0], 0.2))
    assert np.abs(level).max() < 0.6
    np.testing.assert_allclose(drifting[-1] - level[-1], 30 * np.log(1 + 0.2**2), rtol=1e-3)

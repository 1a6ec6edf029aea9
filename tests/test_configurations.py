"""Everything public works under JAX's configurations as without them: the values are those of NumPy."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_leaky import census, leaky_relu, list_sites, observe, swap, value_and_census
from jax_leaky.linen import RReLU

CONFIGURATIONS = {
    "x64": {"jax_enable_x64": True},
    "debug_nans": {"jax_debug_nans": True},
    "debug_infs": {"jax_debug_infs": True},
    "disable_jit": {"jax_disable_jit": True},
    "strict promotion": {"jax_numpy_dtype_promotion": "strict"},
    "no rank promotion": {"jax_numpy_rank_promotion": "raise"},
    "tracer leaks": {"jax_check_tracer_leaks": True},
    "typed keys": {"jax_enable_custom_prng": True},
    "another generator": {"jax_default_prng_impl": "rbg", "jax_enable_custom_prng": False},
    "many devices": {},
}
X = np.random.default_rng(3).integers(-8, 9, (8, 3)).astype(np.float32) / 4
W = np.random.default_rng(4).integers(-2, 3, (3, 4)).astype(np.float32) / 2
Z = X @ W
ALWAYS_OFF = 1  # a unit that is dead, whose measures are those that do not apply to others
BIAS = np.where(np.arange(4) == ALWAYS_OFF, -100, 0).astype(np.float32)


def net(w, x):
    return jnp.tanh(leaky_relu(x @ w, 0.25)) + jax.nn.relu(x @ w + jnp.asarray(BIAS)[None])


def loss(w, x):
    return net(w, x).sum()


@jax.jit  # few programs to compile: this runs under every configuration
def everything_of_one_call(w, x):
    residuals = ("bits", "mask", "output")
    ops = [functools.partial(leaky_relu, negative_slope=0.25, residual=residual) for residual in residuals]
    return {
        "op": [(f(x), jax.grad(lambda x, f=f: f(x).sum())(x)) for f in ops],
        "drawn": RReLU(deterministic=False).apply({}, x, rngs={"rrelu": jax.random.PRNGKey(0)}),
        "observed": observe(net, lambda _, z: (z > 0).sum(axis=0))(w, x),
        "swapped": swap(net, {"leaky_relu": jnp.abs})(w, x),
        "counted": jax.value_and_grad(value_and_census(loss), has_aux=True)(w, x),
    }


def smoke(put):
    """Calls what is public; `put` places the batch on devices."""
    x, w = put(jnp.asarray(X)), jnp.asarray(W)
    leaky, relu, slope = np.where(Z > 0, Z, Z / 4), np.maximum(Z + BIAS, 0), np.where(Z > 0, 1, 0.25)
    dead = np.flatnonzero((relu == 0).all(0)).tolist()
    got = everything_of_one_call(w, x)

    for value, gradient in got["op"]:
        np.testing.assert_array_equal(value, np.where(X > 0, X, X / 4))
        np.testing.assert_array_equal(gradient, np.where(X > 0, 1, 0.25))
    slopes = np.asarray(got["drawn"])[X < 0] / X[X < 0]
    assert ((slopes > 1 / 8 - 1e-6) & (slopes < 1 / 3 + 1e-6)).all()

    assert list_sites(net, w, x).names == ["net/leaky_relu", "net/tanh", "net/relu"]
    out, seen = got["observed"]
    np.testing.assert_allclose(out, np.tanh(leaky) + relu, rtol=1e-5)
    for name, z in {"net/leaky_relu": Z, "net/tanh": leaky, "net/relu": Z + BIAS}.items():
        np.testing.assert_array_equal(seen[name], (z > 0).sum(0))
    np.testing.assert_allclose(got["swapped"], np.tanh(np.abs(Z)) + relu, rtol=1e-5)

    (_, counts), gradient = got["counted"]
    by_hand = X.T @ (slope * (1 - np.tanh(leaky) ** 2) + (Z + BIAS > 0))
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-4, atol=1e-5)
    total = census(functools.partial(loss, w), [x, x], gradients=True)
    for found, n in ((jax.device_get(counts), len(X)), (total, 2 * len(X))):
        first, last = found["net/leaky_relu"], found["net/relu"]
        assert (first.n, last.n) == (n, n)
        np.testing.assert_allclose(first.per_unit("act_freq"), (Z > 0).mean(0))
        np.testing.assert_allclose(first.per_unit("mean_slope"), slope.mean(0))
        assert last.where("dead").tolist() == dead
    assert total["net/relu"].where("grad_dead").tolist() == dead
    assert "\nsite " in str(total)


def everywhere(x):
    mesh = jax.make_mesh((len(jax.devices()),), ("d",), axis_types=(AxisType.Auto,))
    return jax.device_put(x, NamedSharding(mesh, P("d")))


@pytest.fixture
def configure():
    """Sets options of JAX's, and puts the old values back."""
    before = {}

    def set_all(options):
        for name, value in options.items():
            before[name] = getattr(jax.config, name)
            jax.config.update(name, value)

    jax.config.update("jax_disable_most_optimizations", True)
    yield set_all
    for name, value in before.items():
        jax.config.update(name, value)
    jax.config.update("jax_disable_most_optimizations", False)


LONG = {"disable_jit", "x64", "many devices", "tracer leaks"}  # seconds of compiling


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in CONFIGURATIONS]
)
def test_what_is_public_works_under_a_configuration_of_jax(configure, name):
    configure(CONFIGURATIONS[name])
    smoke(everywhere if name == "many devices" else lambda x: x)


@pytest.mark.slow
def test_eight_devices():
    program = "import jax; from tests.test_configurations import everywhere, smoke; smoke(everywhere); "
    program += "assert len(jax.devices()) == 8"
    subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "JAX_NUM_CPU_DEVICES": "8"}, check=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_main_experiment_runs_under_a_configuration_of_jax(tmp_path, name):
    options = {option.upper(): str(value) for option, value in CONFIGURATIONS[name].items()}
    if name == "many devices":
        options = {"JAX_NUM_CPU_DEVICES": "8"}
    command = [sys.executable, "-m", "experiments.dead_neurons", "--smoke", "--out", str(tmp_path / "run")]
    small = ["--steps", "8", "--hidden", "16", "8", "--optimizers", "adam"]
    done = subprocess.run([*command, *small], env={**os.environ, **options}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "summary.md").exists()

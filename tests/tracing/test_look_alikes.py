"""What only looks like an activation is none, and what is part of one is not counted twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental.ode import odeint

from jax_leaky._tracing import list_sites, observe

X = jnp.linspace(-3.0, 3.0, 12).reshape(3, 4)


def kinds(fn, *args):
    return [site.kind for site in list_sites(fn, *(args or (X,)))]


def relu(x):  # called relu, and none
    return x * x


@jax.custom_jvp
def gelu(x):
    return jnp.sin(x)


gelu.defjvp(lambda primals, tangents: (jnp.sin(primals[0]), tangents[0]))

LOOK_ALIKES = {
    "called relu": relu,
    "a jit called relu": jax.jit(relu),
    "a custom rule called gelu": gelu,
    "a threshold above 0": lambda x: jnp.where(x > 1e-3, x, 0),
    "a floor for a division": lambda x: jnp.maximum(x, 1e-12),
    "a floor at 1": lambda x: jnp.maximum(x, 1),
    "integers": lambda x: jnp.maximum(x.astype(int), 0),
    "relu of integers": lambda x: jax.nn.relu(x.astype(int)),
    "maximum of two": lambda x: jnp.maximum(x, x[::-1]),
    "minimum": lambda x: jnp.minimum(x, 0),
    "rescaled": lambda x: x * 0.1 * 10.0,
    "rescaled in bfloat16": lambda x: x.astype("bfloat16") * 0.1 * 10.0,
    "rescaled and turned round": lambda x: x * -0.3 / 0.3,
    "abs": jnp.abs,
    "abs rescaled": lambda x: jnp.abs(x * 0.1 * 10.0),
    "abs by hand": lambda x: jnp.where(x > 0, x, -x),
    "identity by hand": lambda x: jnp.where(x > 0, x, x),
    "a step": lambda x: jnp.where(x > 0, 1.0, 0.0),
    "another else": lambda x: jnp.where(x > 0, x, 1.0),
    "a mask of its own": lambda x: jnp.where(jnp.arange(4) > 1, x, 0),
    "a mask of another array": lambda x: jnp.where(x[::-1] > 0, x, 0),
    "a causal mask": lambda x: jnp.where(jnp.tri(3, 4, dtype=bool), x, -jnp.inf),
    "softmax": jax.nn.softmax,
    "logaddexp of two": lambda x: jnp.logaddexp(x, x[::-1]),
    "log_softmax": jax.nn.log_softmax,
    "logsumexp": jax.nn.logsumexp,
    "a clip to [0, 1]": lambda x: jnp.clip(x, 0, 1),
    "a clip far out": lambda x: jnp.clip(x, 0, 1000),
    "a clip of a ratio": lambda x: jnp.clip(x, 0.8, 1.2),
    "uniform random numbers": lambda x: x * jax.random.uniform(jax.random.key(0), x.shape),
    "dropout": lambda x: jnp.where(jax.random.bernoulli(jax.random.key(0), 0.5, x.shape), x / 0.5, 0),
    "a normal sample": lambda x: x + jax.random.truncated_normal(jax.random.key(0), -2, 2, x.shape),
    "a variance kept above 0": lambda x: x * lax.rsqrt(jnp.maximum(x.var(0, keepdims=True), 0) + 1e-5),
    "flax's variance": lambda x: jnp.sqrt(jnp.maximum(0.0, (x * x).mean(0) - x.mean(0) ** 2) + 1e-6)[None],
    "a log kept above 0": lambda x: jnp.log(jnp.maximum(x, 0) + 1e-9),
    "standardize": jax.nn.standardize,
    "a select by another array": lambda x: jnp.select([x[::-1] > 0], [x]),
    "a select of another piece": lambda x: jnp.select([x > 0, x > -1], [x, x]),
    "a select whose order matters": lambda x: jnp.select([x > -1, x > 0], [0 * x, x]),
    "pieces that overlap, of which the last holds": lambda x: jnp.piecewise(
        x, [x < 0, x > -9], [0.0, lambda z: z]
    ),
    "one over": lambda x: 1 / (1 + jnp.exp(x)),
    "a Huber loss": lambda x: jnp.where(jnp.abs(x) < 1, 0.5 * x * x, jnp.abs(x) - 0.5),
}


@pytest.mark.parametrize("name", sorted(LOOK_ALIKES))
def test_look_alikes_are_not_activations(name):
    assert kinds(LOOK_ALIKES[name]) == []


USED_OTHERWISE = {
    "in a product": lambda h: h @ jnp.ones((4, 2)) + jnp.sqrt(h).sum(),
    "scaled, in a product": lambda h: (0.5 * h) @ jnp.ones((4, 2)) + jnp.sqrt(h).sum(),
    "in an entropy": lambda h: h * jnp.log(h + 1e-6),
    "as it is": lambda h: (h, jnp.sqrt(h)),
}


@pytest.mark.parametrize("how", sorted(USED_OTHERWISE))
def test_a_root_of_an_activation_does_not_hide_it(how):
    for relu in (lambda x: jnp.maximum(x, 0), lambda x: jnp.where(x > 0, x, 0)):
        assert kinds(lambda x, relu=relu: USED_OTHERWISE[how](relu(x))) == ["relu"]


def test_a_variance_that_is_averaged_over_batches_too_is_no_activation():
    def batch_norm(x, average):
        variance = jnp.maximum((x * x).mean(0) - x.mean(0) ** 2, 0)
        return x * lax.rsqrt(variance + 1e-5), 0.9 * average + 0.1 * variance, jnp.log(variance + 1e-6)

    assert kinds(batch_norm, X, jnp.ones(4)) == []


def test_what_is_part_of_a_larger_activation_is_not_counted_twice():
    assert kinds(lambda x: jax.nn.gelu(jnp.tanh(x))) == ["tanh", "gelu"]
    assert kinds(lambda x: jax.nn.relu(jax.nn.relu(x))) == ["relu", "relu"]
    assert kinds(lambda x: jax.nn.relu(x).astype("bfloat16").astype("float32") * 1.0) == ["relu"]
    assert kinds(lambda x: jax.nn.relu(x) ** 2) == ["relu"]
    assert kinds(lambda x: jax.nn.glu(x)) == ["sigmoid"]
    assert kinds(lambda x: jax.nn.sigmoid(x) * jnp.tanh(x[::-1])) == ["sigmoid", "tanh"]


def test_a_part_that_is_used_elsewhere_too_is_an_activation_of_its_own():
    def fn(x):
        gate = jax.nn.sigmoid(x)
        return x * gate, 1 - gate

    assert kinds(fn) == ["sigmoid", "silu"]


def test_a_straight_through_estimator_keeps_its_inner_activation():
    assert kinds(lambda x: x + lax.stop_gradient(jax.nn.relu(x) - x)) == ["relu"]


def test_constants_reach_into_calls_and_loops():
    def fn(x):
        leak = jax.jit(lambda y, a: jnp.where(y > 0, y, a * y))
        y = leak(x, 0.3)
        return lax.scan(lambda c, _: (jnp.maximum(c, 0.2 * c), None), y, None, length=2)[0]

    assert [(s.kind, s.negative_slope) for s in list_sites(fn, X)] == [
        ("leaky_relu", 0.3),
        ("leaky_relu", 0.2),
    ]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_function_computed_in_a_wider_dtype(dtype):
    def fn(x):
        y = x.astype("float32")
        return (y * jax.nn.sigmoid(y)).astype(dtype)

    assert kinds(fn, X.astype(dtype)) == ["silu"]


def test_a_custom_rule_with_the_value_of_a_relu_is_a_relu():
    @jax.custom_vjp
    def spike(x):
        return jnp.maximum(x, 0)

    spike.defvjp(lambda x: (spike(x), x), lambda x, g: (g * jnp.exp(-jnp.abs(x)),))
    assert kinds(spike) == ["relu"]


def test_a_function_in_pmap_is_the_users():
    """jax.pmap wraps the user's function into one of JAX's own."""
    assert kinds(jax.pmap(lambda x: jnp.tanh(jnp.maximum(x, 0)) + 1), X[:1]) == ["relu", "tanh"]


def test_a_function_of_jax_as_a_branch_or_a_body_is_the_users():
    assert kinds(lambda x: lax.cond(x.sum() > 0, jnp.tanh, jax.nn.sigmoid, x)) == ["sigmoid", "tanh"]
    assert kinds(jax.jit(jnp.tanh)) == kinds(jax.checkpoint(jnp.tanh)) == ["tanh"]


GIVEN = {
    "tanh": (jnp.tanh, "tanh"),
    "relu": (lambda z: jnp.maximum(z, 0), "relu"),
    "leaky_relu": (lambda z: jnp.where(z > 0, z, 0.1 * z), "leaky_relu"),
    "a call": (lambda z: jnp.clip(z, -1, 1), "hard_tanh"),
    "a name": (jax.nn.silu, "silu"),
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_function_that_one_of_jax_calls_is_the_users(name):
    """odeint compares its step sizes with bounds, which are no activations, and calls the user's function."""
    act, kind = GIVEN[name]
    w = jnp.array([[0.5, -1.0], [0.25, 0.5]])
    x = jnp.array([[1.0, -2.0], [0.5, 0.25], [-1.0, 1.0]])

    def fn(w, x):
        return odeint(lambda y, _, w: act(y @ w), x, jnp.array([0.0, 0.1]), w)

    sites = list_sites(fn, w, x)
    assert ({site.kind for site in sites}, sites.opaque) == ({kind}, ())
    out, seen = observe(fn, lambda _, z: (z > 0).sum(0), merge=lambda older, newer: older + newer)(w, x)
    assert out.tobytes() == fn(w, x).tobytes()
    # Its first call is of the function at the start.
    np.testing.assert_array_equal(seen[sites[0].name], (np.asarray(x) @ np.asarray(w) > 0).sum(0))


@pytest.mark.parametrize(
    ("act", "what"),
    [(jnp.sin, "sin"), (lambda z: jnp.clip(z, 0, 1), "clip"), (lambda z: z * (z > 1), "comparison")],
)
def test_what_bends_in_a_function_that_one_of_jax_calls_goes_by_its_own_name(act, what):
    sites = list_sites(lambda w, x: odeint(lambda y, _, w: act(y @ w), x, jnp.ones(2), w), jnp.eye(4), X)
    assert ([site.kind for site in sites], [part.what for part in sites.opaque]) == ([], [what])

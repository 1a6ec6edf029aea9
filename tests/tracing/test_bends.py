"""What bends and is no known activation is listed; what is none for a documented reason is not."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax

from jax_leaky import list_sites

X = jnp.linspace(-3.0, 3.0, 32).reshape(8, 4)
W = jnp.eye(4)
KEY = jax.random.key(0)

UNKNOWN = {
    "clip to [0, 1]": (lambda z: jnp.clip(z, 0, 1), "clip"),
    "clip to [0, 20]": (lambda z: jnp.clip(z, 0, 20), "clip"),
    "threshold": (lambda z: jnp.where(z > 0.5, z, 0), "where"),
    "JumpReLU": (lambda z: z * (z > 0.5), "comparison"),
    "hard_shrink": (lambda z: jnp.where(jnp.abs(z) > 0.5, z, 0), "abs, where"),
    "step": (lambda z: jnp.where(z > 0, 1.0, 0.0), "where"),
    "select": (lambda z: jnp.select([z > 1, z > -1], [z, 0.5 * z], -0.5), "where"),
    "sin": (jnp.sin, "sin"),
    "snake": (lambda z: z + jnp.sin(z) ** 2, "sin"),
    "exp": (jnp.exp, "exp"),
    "Gaussian": (lambda z: jnp.exp(-(z**2)), "exp"),
    "log cosh": (lambda z: jnp.log(jnp.cosh(z)), "log"),
    "square root": (lambda z: jnp.sqrt(z * z + 1), "sqrt"),
    "sign": (lambda z: z + lax.stop_gradient(jnp.sign(z) - z), "sign"),
    "maxout": (lambda z: jnp.maximum(z, z[:, ::-1]), "maximum"),
    "sign bit": (lambda z: jnp.where(jnp.signbit(z), 0, z), "signbit, where"),
    "bits": (lambda z: z * (1 - (z.view(jnp.uint32) >> 31)), "bits"),
    "Bessel": (lax.bessel_i0e, "bessel_i0e"),
    "gamma": (lambda z: lax.igamma(2.0 + 0 * z, z), "igamma"),
    "radial": (lambda z: jnp.exp(-((z[:, None] - W) ** 2).sum(-1)), "exp"),
}


@pytest.mark.parametrize("name", sorted(UNKNOWN))
def test_what_bends_and_is_not_known_is_listed(name):
    fn, what = UNKNOWN[name]
    for program, args in ((fn, (X,)), (lambda w, x: fn(x @ w) @ w, (W, X))):
        sites = list_sites(program, *args)
        (part,) = sites.opaque
        assert (len(sites), part.what) == (0, what)
        assert part.why == "nonlinear and not a known activation; register_kind makes it one"


def test_a_learnt_threshold_is_listed():
    def fn(threshold, w, x):
        z = x @ w
        first = (z * (z > threshold)) @ w
        return first, jnp.maximum(z, threshold) @ w

    assert [part.what for part in list_sites(fn, jnp.ones(4), W, X).opaque] == ["comparison", "maximum"]


def quantised(z, axis, dtype):
    scale = jnp.abs(z).max(axis, keepdims=True) / 7
    return jnp.round(z / scale).astype(dtype), scale


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.int4])
def test_a_product_of_quantised_numbers_is_a_product(dtype):
    """Only its scales, which are statistics, are floating-point numbers all the way."""

    def product(x, w):
        (x, by_row), (w, by_column) = quantised(x, -1, dtype), quantised(w, 0, dtype)
        return lax.dot(x, w, preferred_element_type=jnp.int32).astype(jnp.float32) * by_row * by_column

    def fn(w, x):
        z = product(x, w)
        return product(jnp.where(z > 0.5, z, 0), w), product(jnp.maximum(z, 0), w)

    found = list_sites(fn, W, X)
    assert [site.kind for site in found] == ["relu"]
    assert [part.what for part in found.opaque] == ["abs, round, where"]


WEIGHTS_OF_ROWS = {
    "inner": jnp.inner,
    "einsum": lambda x, w: jnp.einsum("oi,bi->bo", w, x),
    "dot_general": lambda x, w: lax.dot_general(x, w, (((1,), (1,)), ((), ()))),
    "vmap": lambda x, w: jax.vmap(lambda row: w @ row)(x),
    "vmap of a jit": lambda x, w: jax.vmap(jax.jit(lambda row: w @ row))(x),
}


@pytest.mark.parametrize("name", WEIGHTS_OF_ROWS)
def test_samples_are_told_from_weights_that_hold_a_row_for_each_output(name):
    """A curve of the samples bends, and a clip of them is an activation; those of weights are neither."""
    product = WEIGHTS_OF_ROWS[name]
    found = list_sites(lambda w, x: (product(jnp.sin(x), w), product(jnp.clip(x, -1, 1), w)), W, X)
    assert [site.kind for site in found] == ["hard_tanh"]
    assert [part.what for part in found.opaque] == ["sin"]
    found = list_sites(lambda w, x: (product(x, jnp.sin(w)), product(x, jnp.clip(w, -1, 1))), W, X)
    assert (found.names, found.opaque) == ([], ())


def test_the_line_names_where_it_stands_and_is_printed_once_for_all_calls():
    def act(z):
        return jnp.sin(z)

    def fn(w, x):
        for _ in range(3):
            x = act(x @ w)
        return jnp.cos(x @ w) @ w

    parts = list_sites(fn, W, X).opaque
    line = act.__code__.co_firstlineno
    assert [(part.what, part.source) for part in parts] == [
        ("sin", f"test_bends.py:{line + 1}"),
        ("cos", f"test_bends.py:{line + 6}"),
    ]
    assert parts[0].why.endswith("makes it one (3 times)")
    assert str(list_sites(fn, W, X)).endswith("0 sites, 2 opaque")


@pytest.mark.parametrize(
    "wrapped",
    [
        jax.jit(jnp.sin),
        jax.checkpoint(jnp.sin),
        lambda z: lax.map(jnp.sin, z),
        lambda z: lax.scan(lambda c, x: (c @ W, jnp.sin(x)), z, jnp.stack([z, z]))[1],
        lambda z: lax.cond(z.sum() > 0, jnp.sin, lambda z: z, z),
        lambda z: lax.fori_loop(0, 3, lambda _, c: jnp.sin(c), z),
        lambda z: lax.while_loop(lambda c: c.sum() < 3, lambda c: jnp.sin(c), z),
        jax.vmap(jnp.sin),
    ],
)
def test_it_is_listed_wherever_it_stands(wrapped):
    (part,) = list_sites(lambda w, x: wrapped(x @ w) @ w, W, X).opaque
    assert part.what == "sin"


def attention(w, x, mask):
    q, k, v = x @ w, x @ w.T, x @ (2 * w)
    scores = jnp.where(mask, q @ k.T, -jnp.inf)
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    by_hand = (weights / weights.sum(-1, keepdims=True)) @ v
    return by_hand + jax.nn.softmax(jnp.where(jnp.tri(8, dtype=bool), q @ k.T, -1e9)) @ v


def rotary(w, x, positions):
    angle = positions[:, None] * 1e-4 ** jnp.arange(2)
    a, b = jnp.split(x @ w, 2, axis=-1)
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    return jnp.concatenate([a * cosine - b * sine, a * sine + b * cosine], -1)


def norms(w, x, scale, variance):
    z = x @ w
    z = z / jnp.linalg.norm(z, axis=-1, keepdims=True) * scale
    z = z / jnp.maximum(jnp.sqrt((z * z).sum(-1, keepdims=True)), 1e-6)
    z = jax.nn.standardize(z) / jnp.maximum(jnp.abs(z).sum(-1, keepdims=True), 1e-6)
    return (z * lax.rsqrt(variance + 1e-5)) @ w


def losses(w, x, y):
    z = x @ w
    entropy = optax.softmax_cross_entropy(z, y).mean() - (jax.nn.softmax(z) * jnp.log(y + 1e-9)).sum()
    return entropy + optax.huber_loss(z, y).mean() + jnp.abs(z - y).mean() + jnp.exp(z).mean()


def gaussian_policy(w, log_std, x, key):
    return x @ w + jnp.exp(jnp.clip(log_std, -5, 2)) * jax.random.normal(key, x.shape)


REASONS = {
    "no floating-point argument": (lambda x: x + jnp.sin(jnp.arange(4.0)) + jnp.exp(-W[0]), X),
    "positions": (rotary, W, X, jnp.arange(8)),
    "positions in floating point": (rotary, W, X, jnp.arange(8.0)),
    "random numbers": (lambda k, x: x + jax.random.gumbel(k, x.shape) + jax.random.gamma(k, 2.0), KEY, X),
    "dropout": (lambda k, x: jnp.where(jax.random.bernoulli(k, 0.5, x.shape), x / 0.5, 0), KEY, X),
    "products and powers": (lambda x: (x**2 + x**3) * (x @ W), X),
    "attention": (attention, W, X, jnp.ones((8, 8), bool)),
    "norms": (norms, W, X, jnp.ones(4), jnp.ones(4)),
    "losses": (losses, W, X, X),
    **{
        f"{loss.__name__}, not yet a mean": (loss, X, jax.nn.sigmoid(X))
        for loss in (
            optax.sigmoid_binary_cross_entropy,
            optax.sigmoid_focal_loss,
            optax.huber_loss,
            optax.hinge_loss,
            optax.log_cosh,
            optax.kl_divergence,
            optax.cosine_similarity,
        )
    },
    "a parameter": (gaussian_policy, W, jnp.zeros(4), X, KEY),
    "weights": (lambda w, x: x @ jnp.clip(w, -0.5, 0.5) @ jnp.sign(w), W, X),
    "a check for infinities": (lambda x: jnp.nan_to_num(x), X),
    "a guard": (lambda x: x @ W / jnp.maximum(jnp.abs(x @ W), 1e-6), X),
    "a learning rate": (lambda w, t: w * jnp.exp(-t), W, jnp.float32(1.0)),
}


@pytest.mark.parametrize("name", sorted(REASONS))
def test_what_is_no_activation_is_not_listed(name):
    fn, *args = REASONS[name]
    found = list_sites(fn, *args)
    assert (found.names, found.opaque) == ([], ())


@pytest.mark.parametrize(
    ("file", "kinds"),
    [
        ("distrax/_src/distributions/bernoulli.py", []),
        ("numpyro/distributions/util.py", []),
        ("numpyro/distributions/transforms.py", ["softplus"]),
        ("project/distributions/bernoulli.py", ["softplus"]),
    ],
)
def test_a_likelihood_of_a_library_holds_no_activation(file, kinds):
    space = {"jax": jax}
    exec(
        compile("def negative_log(z, y):\n    return jax.nn.softplus(z) - y * z", f"/lib/{file}", "exec"),
        space,
    )
    found = list_sites(lambda w, x: space["negative_log"](x @ w, x), W, X)
    assert ([site.kind for site in found], found.opaque) == (kinds, ())


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x))
        x = nn.Dropout(0.5, deterministic=False)(nn.GroupNorm(2)(nn.RMSNorm()(x)))
        x = nn.BatchNorm(use_running_average=False)(x)
        return nn.Dense(3)(nn.gelu(nn.Dense(4)(x)))


OPTIMIZERS = {
    "adamw": optax.chain(optax.clip(1.0), optax.adamw(1e-3)),
    "rmsprop": optax.chain(
        optax.clip_by_global_norm(1.0), optax.rmsprop(optax.cosine_decay_schedule(0.1, 9))
    ),
    "lamb": optax.lamb(1e-3),
    "lion": optax.lion(1e-3),
    "muon": optax.contrib.muon(1e-3),
    "finite": optax.apply_if_finite(optax.adabelief(1e-3), 3),
}


@pytest.mark.parametrize(
    ("name", "jitted"),
    [
        ("adamw", True),
        ("muon", False),
        *(
            pytest.param(name, jitted, marks=pytest.mark.slow)
            for name in OPTIMIZERS
            for jitted in (False, True)
        ),
    ],
)
def test_a_training_step_lists_its_activations_alone(name, jitted):
    model, optimizer = Block(), OPTIMIZERS[name]
    x, y = jnp.ones((2, 8, 4)), jnp.zeros((2, 8), int)
    rngs = {"params": KEY, "dropout": KEY}
    variables = jax.eval_shape(model.init, rngs, x)
    params = variables["params"]

    def loss(params, stats):
        logits, _ = model.apply(
            {"params": params, "batch_stats": stats}, x, rngs={"dropout": KEY}, mutable=["batch_stats"]
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    wrap = jax.jit if jitted else lambda fn: fn

    def step(params, state, stats):
        value, gradient = wrap(jax.value_and_grad(loss))(params, stats)
        updates, state = wrap(optimizer.update)(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    sites = list_sites(step, params, jax.eval_shape(optimizer.init, params), variables["batch_stats"])
    assert [site.kind for site in sites] == ["gelu"]
    assert sites.opaque == ()


CLIPS = {
    "of a gradient": lambda w, x: jnp.clip(jax.grad(lambda w: jnp.tanh(x @ w).sum())(w), -1, 1),
    "of new parameters": lambda w, x: jnp.maximum(
        w - 0.1 * jnp.clip(jax.grad(lambda w: jnp.tanh(x @ w).sum())(w), -1, 1), 0
    ),
    "of weights": lambda w, x: jnp.tanh(x @ jnp.clip(w, -1, 1)),
    "of a softplus": lambda w, x: jnp.clip(jax.nn.softplus(x @ w), 0, jnp.inf),
    "of a tanh": lambda w, x: jnp.clip(jnp.tanh(x @ w), -1, 1) @ w,
    "of a relu6": lambda w, x: jnp.clip(jax.nn.relu6(x @ w), 0, 6) @ w,
    "of an absolute value": lambda w, x: jnp.maximum(jnp.abs(jnp.tanh(x @ w)), 0).sum(),
}


@pytest.mark.parametrize("name", sorted(CLIPS))
def test_a_clip_of_something_else_is_no_activation(name):
    kinds = [site.kind for site in list_sites(CLIPS[name], W, X)]
    assert kinds == [{"of a softplus": "softplus", "of a relu6": "relu6"}.get(name, "tanh")]


def test_a_clip_of_a_forward_value_stays_one_beside_those_of_gradients():
    def step(w, x):
        def loss(w):
            return (jnp.clip(x @ w, -1, 1) @ w).sum()

        value, gradient = jax.value_and_grad(loss)(w)
        return value, jnp.clip(w - 0.1 * jnp.clip(gradient, -1, 1), -1, 1)

    def scanned(w, xs):
        w, values = lax.scan(lambda w, x: step(w, x)[::-1], w, xs)
        # The network with its new weights and biases is a network.
        return values, jnp.clip(xs[0, 0] @ w + w[0], -1, 1) @ w

    assert [site.kind for site in list_sites(step, W, X)] == ["hard_tanh"]
    assert [site.kind for site in list_sites(jax.jit(step), W, X)] == ["hard_tanh"]
    assert [site.kind for site in list_sites(scanned, W, jnp.stack([X, X]))] == ["hard_tanh"] * 2


@pytest.mark.parametrize("lift", [nnx.remat, nnx.jit])
def test_the_variance_of_a_batch_norm_is_no_relu_though_a_lifted_call_holds_its_average(lift):
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(4, rngs=rngs)

        def __call__(self, x):
            return lift(lambda _, y: nnx.relu(y))(self, self.norm(x))

    for fn in (Net(nnx.Rngs(0)), lambda net, x: nnx.value_and_grad(lambda net: net(x).sum())(net)):
        args = (X,) if isinstance(fn, Net) else (Net(nnx.Rngs(0)), X)
        assert [(site.kind, site.shape) for site in list_sites(fn, *args)] == [("relu", (8, 4))]


def test_a_statistic_that_no_root_is_taken_of_keeps_its_relu():
    (site,) = list_sites(lambda w, x: jnp.maximum(x.mean(0), 0) @ w, W, X)
    assert (site.kind, site.shape) == ("relu", (4,))
    assert len(list_sites(lambda x: jnp.sqrt(jnp.maximum(x @ W, 0).sum(-1)), X)) == 1


def test_a_numpy_batch_and_closed_over_parameters():
    assert list_sites(lambda x: x + np.sin(np.ones(4, np.float32)), X).opaque == ()
    (part,) = list_sites(lambda x: jnp.sin(x @ W) @ W, np.asarray(X)).opaque
    assert part.what == "sin"

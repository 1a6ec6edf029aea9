"""An activation is what it computes: every spelling is found, every look-alike is left alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax_leaky import leaky_relu
from jax_leaky._tracing import KINDS, list_sites

X = jnp.linspace(-3.0, 3.0, 12).reshape(3, 4)


def kinds(fn, *args):
    return [site.kind for site in list_sites(fn, *(args or (X,)))]


NAMED = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "celu": jax.nn.celu,
    "selu": jax.nn.selu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "log_sigmoid": jax.nn.log_sigmoid,
    "mish": jax.nn.mish,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "hard_tanh": jax.nn.hard_tanh,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "hard_silu": jax.nn.hard_silu,
    "soft_sign": jax.nn.soft_sign,
    "squareplus": jax.nn.squareplus,
    "sparse_plus": jax.nn.sparse_plus,
    "sparse_sigmoid": jax.nn.sparse_sigmoid,
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", sorted(NAMED))
def test_each_kind_of_jax_nn_is_one_site_of_its_kind(kind, dtype):
    (site,) = list_sites(NAMED[kind], X.astype(dtype))
    assert site.kind == kind
    assert site.kind in KINDS
    assert (site.shape, site.dtype) == ((3, 4), jnp.dtype(dtype))


def test_every_kind_that_is_promised_is_tested_here():
    assert set(NAMED) | {"prelu"} == KINDS


VARIANTS = [
    ("gelu", lambda x: jax.nn.gelu(x, approximate=False)),
    ("gelu", lambda x: x * jax.nn.sigmoid(1.702 * x)),
    ("gelu", lambda x: 0.5 * x * (1 + jnp.tanh(jnp.sqrt(2 / jnp.pi) * (x + 0.044715 * x * x * x)))),
    ("gelu", lambda x: x * 0.5 * (1 + lax.erf(x / np.sqrt(2)))),
    ("silu", lambda x: x * jax.nn.sigmoid(x)),
    ("silu", lambda x: x / (1 + jnp.exp(-x))),
    ("silu", jax.nn.swish),
    ("sigmoid", lambda x: 1 / (1 + jnp.exp(-x))),
    ("sigmoid", lambda x: jnp.where(x >= 0, 1 / (1 + jnp.exp(-x)), jnp.exp(x) / (1 + jnp.exp(x)))),
    ("tanh", lambda x: 2 * jax.nn.sigmoid(2 * x) - 1),
    ("softplus", lambda x: jnp.logaddexp(x, 0)),
    ("softplus", lambda x: jnp.log(1 + jnp.exp(x))),
    ("softplus", lambda x: jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))),
    ("mish", lambda x: x * jnp.tanh(jax.nn.softplus(x))),
    ("elu", lambda x: jnp.where(x > 0, x, jnp.expm1(x))),
    ("elu", lambda x: jnp.where(x > 0, x, 0.7 * (jnp.exp(jnp.minimum(x, 0)) - 1))),
    ("elu", lambda x: jax.nn.elu(x, 0.5)),
    ("celu", lambda x: jax.nn.celu(x, 2.0)),
    ("hard_sigmoid", lambda x: jnp.clip(x + 3, 0, 6) / 6),
    ("hard_silu", lambda x: x * jax.nn.relu6(x + 3) / 6),
    ("hard_silu", jax.nn.hard_swish),
    ("relu6", lambda x: jnp.clip(x, 0, 6)),
    ("relu6", lambda x: jnp.minimum(jnp.maximum(x, 0), 6)),
    ("hard_tanh", lambda x: lax.clamp(-1.0, x, 1.0)),
    ("hard_tanh", lambda x: jnp.select([x < -1, x > 1], [-jnp.ones_like(x), jnp.ones_like(x)], x)),
    ("hard_tanh", lambda x: jnp.piecewise(x, [x < -1, x > 1], [-1.0, 1.0, lambda z: z])),
    ("elu", lambda x: jnp.piecewise(x, [x < 0], [jnp.expm1, lambda z: z])),
    ("relu6", jax.vmap(lambda x: jnp.select([x < 0, x > 6], [0 * x, 0 * x + 6], x))),
    ("celu", lambda x: jnp.select([x > 0, x <= 0], [x, 2 * jnp.expm1(x / 2)])),
]


@pytest.mark.parametrize(
    ("kind", "fn"), VARIANTS, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(VARIANTS)]
)
def test_the_same_function_in_other_words_is_the_same_kind(kind, fn):
    assert kinds(fn) == [kind]


RELU_SPELLINGS = [
    lambda x: jnp.maximum(x, 0),
    lambda x: jnp.maximum(0.0, x),
    lambda x: jnp.maximum(x, jnp.zeros_like(x)),
    lambda x: jnp.maximum(x, np.float32(0)),
    lambda x: lax.max(x, 0.0),
    lambda x: jnp.where(x > 0, x, 0),
    lambda x: jnp.where(x >= 0, x, 0.0),
    lambda x: jnp.where(jnp.less(0, x), x, jnp.zeros_like(x)),
    lambda x: jnp.where(x < 0, 0, x),
    lambda x: jnp.where(x <= 0, 0, x),
    lambda x: jnp.where(~(x > 0), 0, x),
    lambda x: jnp.where(jnp.logical_not(x <= 0), x, 0),
    lambda x: lax.select(x > 0, x, jnp.zeros_like(x)),
    lambda x: lax.select(lax.gt(x, lax.full_like(x, 0)), x, lax.full_like(x, 0)),
    lambda x: x * (x > 0),
    lambda x: (x > 0) * x,
    lambda x: x * (x > 0).astype(x.dtype),
    lambda x: jnp.clip(x, 0),
    lambda x: jnp.clip(x, 0, None),
    lambda x: jnp.clip(x, min=0.0),
    lambda x: (x + jnp.abs(x)) / 2,
    lambda x: jax.jit(lambda y: jnp.maximum(y, 0))(x),
    lambda x: jax.vmap(lambda row: jnp.maximum(row, 0))(x),
    lambda x: jax.vmap(jax.vmap(jax.nn.relu))(x),
    lambda x: -jnp.minimum(-x, 0),
    lambda x: jnp.select([x > 0], [x]),
    lambda x: jnp.select([x <= 0, x > 0], [0 * x, x]),
    lambda x: jnp.piecewise(x, [x > 0], [lambda z: z, 0.0]),
    jax.vmap(jax.vmap(lambda x: jnp.piecewise(x, [x < 0, x >= 0], [0.0, lambda z: z]))),
]


@pytest.mark.parametrize("fn", RELU_SPELLINGS, ids=range(len(RELU_SPELLINGS)))
def test_relu_by_hand(fn):
    (site,) = list_sites(fn, X)
    assert (site.kind, site.negative_slope) == ("relu", 0.0)


LEAKY_SPELLINGS = [
    lambda x, a: jnp.maximum(x, a * x),
    lambda x, a: jnp.maximum(x * a, x),
    lambda x, a: jnp.where(x > 0, x, a * x),
    lambda x, a: jnp.where(x >= 0, x, x * a),
    lambda x, a: jnp.where(jnp.less_equal(0, x), x, a * x),
    lambda x, a: jnp.where(x < 0, a * x, x),
    lambda x, a: jnp.where(x <= 0, a * x, x),
    lambda x, a: jnp.where(~(x > 0), a * x, x),
    lambda x, a: lax.select(x > 0, x, a * x),
    lambda x, a: x * jnp.where(x > 0, 1.0, a),
    lambda x, a: jnp.maximum(x, 0) + a * jnp.minimum(x, 0),
    lambda x, a: jax.nn.relu(x) - a * jax.nn.relu(-x),
    lambda x, a: jax.nn.relu(x) + (-a) * jax.nn.relu(-x),
    lambda x, a: jnp.select([x > 0, x <= 0], [x, a * x]),
    lambda x, a: jax.vmap(lambda row: jnp.select([row > 0], [row], a * row))(x),
    lambda x, a: jnp.piecewise(x, [x < 0], [lambda z: a * z, lambda z: z]),
    lambda x, a: jnp.where(x > 0, x, x / (1 / a)),
    lambda x, a: jax.nn.leaky_relu(x, a),
    lambda x, a: leaky_relu(x, a),
    lambda x, a: leaky_relu(x, a, residual="mask"),
    lambda x, a: leaky_relu(x, a, forward_mode=True),
    lambda x, a: jax.vmap(lambda row: jax.nn.leaky_relu(row, a))(x),
]


@pytest.mark.parametrize("slope", [0.01, 0.2, 1 / 3])
@pytest.mark.parametrize("fn", LEAKY_SPELLINGS, ids=range(len(LEAKY_SPELLINGS)))
def test_leaky_relu_by_hand_with_its_slope(fn, slope):
    (site,) = list_sites(lambda x: fn(x, slope), X)
    assert site.kind == "leaky_relu"
    assert site.negative_slope == pytest.approx(slope, rel=1e-6)


def test_a_slope_is_read_as_it_was_written():
    assert list_sites(jax.nn.leaky_relu, X)[0].negative_slope == 0.01
    assert list_sites(lambda x: jnp.maximum(x, 0.1 * x), X)[0].negative_slope == 0.1
    assert list_sites(jax.nn.leaky_relu, X.astype("bfloat16"))[0].negative_slope == 0.01


@pytest.mark.parametrize("shape", [(), (4,), (1, 4), (3, 1), (3, 4)])
@pytest.mark.parametrize(
    ("kind", "fn"),
    [
        ("prelu", lambda x, a: jnp.where(x >= 0, x, a * x)),
        ("prelu", lambda x, a: jnp.maximum(x, a * x)),
        ("prelu", lambda x, a: jax.nn.relu(x) - a * jax.nn.relu(-x)),
        ("prelu", lambda x, a: jax.nn.relu(x) + (-a) * jax.nn.relu(-x)),
        ("prelu", lambda x, a: jnp.maximum(x, 0) + -1 * a * jnp.maximum(-x, 0)),
        ("prelu", lambda x, a: jnp.select([x > 0], [x], a * x)),
        ("leaky_relu", jax.nn.leaky_relu),
        ("leaky_relu", leaky_relu),
    ],
)
def test_a_slope_that_is_an_array_or_an_argument(kind, fn, shape):
    (site,) = list_sites(fn, X, jnp.full(shape, 0.25))
    assert (site.kind, site.negative_slope) == (kind, None)


def test_a_learnt_slope_in_a_piece():
    def fn(x, a):
        return jnp.piecewise(x, [x < 0], [lambda z, a: a * z, lambda z, _: z], a)

    (site,) = list_sites(fn, X, jnp.float32(0.25))
    assert (site.kind, site.negative_slope) == ("prelu", None)


def test_the_kind_does_not_depend_on_whether_the_slope_is_closed_over():
    slope = jnp.float32(0.25)
    closed = list_sites(lambda x: jnp.where(x >= 0, x, slope * x), X)[0]
    passed = list_sites(lambda x, slope: jnp.where(x >= 0, x, slope * x), X, slope)[0]
    assert (closed.kind, closed.negative_slope) == ("prelu", 0.25)
    assert (passed.kind, passed.negative_slope) == ("prelu", None)


def test_one_slope_per_network_under_vmap():
    nets = jax.vmap(jax.nn.leaky_relu)
    assert kinds(nets, jnp.ones((5, 3, 4)), jnp.arange(5.0)) == ["leaky_relu"]

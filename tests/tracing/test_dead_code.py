"""What a function computes and does not use is neither listed nor recorded, nor kept alive."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax_leaky import list_sites, observe
from tests.tracing.oracle import W, X, count, numpy_count, plain

HELD = jnp.array([1.0, -1.0, 2.0, -2.0, 0.5, -0.5])


def scanned(x):
    def step(state, _):
        alive, dead = state
        return (jnp.tanh(alive), jax.nn.relu(dead)), jax.nn.gelu(dead)

    return lax.scan(step, (x, x), None, length=2)[0][0]


def looped(x):
    return lax.fori_loop(0, 2, lambda _, state: (jnp.tanh(state[0]), jax.nn.relu(state[1])), (x, x))[0]


DEAD = {
    "an equation": lambda x: (jax.nn.relu(x @ W), jnp.tanh(x))[1],
    "beside a closed-over array": lambda x: (jax.nn.relu(x @ W), jnp.tanh(x * HELD))[1],
    "a jit": lambda x: jax.jit(lambda x: (jax.nn.relu(x), jnp.tanh(x)))(x)[1],
    "a checkpoint": lambda x: jax.checkpoint(lambda x: (jax.nn.relu(x), jnp.tanh(x)))(x)[1],
    "a scan": scanned,
    "a fori_loop": looped,
    "a branch": lambda x: lax.cond(x.sum() > 0, lambda x: (jax.nn.relu(x), jnp.tanh(x)), lambda x: (x, x), x)[
        1
    ],
}


@pytest.mark.parametrize("name", sorted(DEAD))
def test_what_nothing_uses_is_no_site(name):
    fn = DEAD[name]
    assert [site.kind for site in list_sites(fn, X)] == ["tanh"]
    out, seen = jax.jit(observe(fn, count))(X)
    assert out.tobytes() == jax.jit(fn)(X).tobytes()
    assert len(seen) == 1


def test_parameters_that_are_drawn_inside_have_no_site_of_their_own():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.relu(nn.Dense(6, use_bias=False)(x))

    def train(key, x):
        params = Net().init(key, jnp.zeros((1, 6)))
        return Net().apply(params, x), params

    (_, params), seen = jax.jit(observe(train, count))(jax.random.key(0), X)
    assert list(seen) == ["Net/relu"]
    z = np.asarray(X, np.float64) @ np.asarray(params["params"]["Dense_0"]["kernel"], np.float64)
    assert plain(seen["Net/relu"])["fired"] == numpy_count(z)["fired"]


def test_a_dead_product_is_not_computed():
    def fn(x):
        dead = x
        for _ in range(5):
            dead = dead @ W
        return jnp.tanh(x)

    observed = jax.make_jaxpr(observe(fn, lambda _, z: z.max()))(X)
    assert "dot_general" in str(jax.make_jaxpr(fn)(X))
    assert "dot_general" not in str(observed)

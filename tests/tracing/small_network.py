"""A network of two layers whose records NumPy can tell, for the tests of list_sites and observe."""

import jax
import jax.numpy as jnp
import numpy as np

_RANDOM = np.random.default_rng(0)
KEY = jax.random.key(0)
X = jnp.asarray(_RANDOM.normal(size=(5, 3)), jnp.float32)
W = [jnp.asarray(_RANDOM.normal(size=shape), jnp.float32) for shape in ((3, 4), (4, 2))]


def mlp(weights, x):
    for w in weights:
        with jax.named_scope("layer"):
            x = jax.nn.relu(x @ w)
    return x


def firing(_, z):
    return (z > 0).sum(axis=tuple(range(z.ndim - 1)))

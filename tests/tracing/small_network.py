"""A network of two layers whose records NumPy can tell, for the tests of list_sites and observe."""

import jax

KEYS = jax.random.split(jax.random.key(0), 8)
X = jax.random.normal(KEYS[0], (5, 3))
W = [jax.random.normal(KEYS[1], (3, 4)), jax.random.normal(KEYS[2], (4, 2))]


def mlp(weights, x):
    for w in weights:
        with jax.named_scope("layer"):
            x = jax.nn.relu(x @ w)
    return x


def firing(_, z):
    return (z > 0).sum(axis=tuple(range(z.ndim - 1)))

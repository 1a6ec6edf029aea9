"""What the tests of the constructs share: a record, its NumPy counterpart, and the check that nothing changed."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_leaky._tracing import observe

# Small fractions of two: every product and sum is exact, so that no choice of XLA's (which operations it fuses into
# one loop changes how a product of small matrices is rounded) can hide or feign a difference.
# NumPy draws them, since every draw of JAX's is a program to compile.
_RANDOM = np.random.default_rng(1)
X = jnp.asarray(_RANDOM.integers(-8, 9, (4, 6)) / 4, jnp.float32)
W = jnp.asarray(_RANDOM.integers(-2, 3, (6, 6)) / 4, jnp.float32)


def count(_, z):
    return {"n": jnp.int32(z.shape[0]), "fired": (z > 0).sum(0), "top": z.max()}


def merge(older, newer):
    return {
        "n": older["n"] + newer["n"],
        "fired": older["fired"] + newer["fired"],
        "top": jnp.maximum(older["top"], newer["top"]),
    }


def numpy_count(z):
    return {"n": len(z), "fired": (np.asarray(z) > 0).sum(0).tolist(), "top": float(np.asarray(z).max())}


def numpy_merge(counts):
    return {
        "n": sum(c["n"] for c in counts),
        "fired": np.sum([c["fired"] for c in counts], 0).tolist(),
        "top": max(c["top"] for c in counts),
    }


def by_kind(seen):
    """The records by kind; jit sorts the names."""
    return {name.rpartition("/")[2]: record for name, record in seen.items()}


def plain(record):
    return jax.tree.map(lambda leaf: leaf.tolist(), record)


def unchanged(fn, *args, eagerly=None, **options):
    """Observes, under jit and if asked outside, and asserts that value and gradient stay; returns the records.

    What runs outside jit is the same whether records are merged, so by default it runs where they are not.
    """

    def loss(*args):
        out = fn(*args)
        return sum((leaf**2).sum() for leaf in jax.tree.leaves(out)), out

    def observed_loss(*args):
        out, seen = observe(fn, count, **options)(*args)
        return sum((leaf**2).sum() for leaf in jax.tree.leaves(out)), (out, seen)

    def results(loss):
        return jax.jit(jax.value_and_grad(loss, argnums=range(len(args)), has_aux=True))(*args)

    (value, out), gradient = results(loss)
    (observed_value, (observed, seen)), observed_gradient = results(observed_loss)
    assert same_bits((value, out, gradient), (observed_value, observed, observed_gradient))
    if eagerly or (eagerly is None and "merge" not in options):
        eager, seen_eagerly = observe(fn, count, **options)(*args)
        assert same_bits(fn(*args), eager)
        assert jax.tree.structure(seen_eagerly) == jax.tree.structure(seen)
    return seen


def same_bits(one, other):
    return jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), one, other))


def layer(x, w):
    return jax.nn.relu(x @ w) - 0.25


def steps(x, w, n):
    """The pre-activations of `n` layers, one after the other."""
    found = []
    for _ in range(n):
        found.append(x @ w)
        x = layer(x, w)
    return found


def looped(x, w, n):
    return lax.fori_loop(0, n, lambda _, c: layer(c, w), x)

"""What the tests of the constructs share: a record, its NumPy counterpart, and the check that nothing changed."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_leaky._tracing import observe

# Small fractions of two: every product and sum is exact, so that no choice of XLA's (which operations it fuses into
# one loop changes how a product of small matrices is rounded) can hide or feign a difference.
KEYS = jax.random.split(jax.random.key(1), 2)
X = jax.random.randint(KEYS[0], (4, 6), -8, 9) / 4
W = jax.random.randint(KEYS[1], (6, 6), -2, 3) / 4


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
    return {name.replace("/", " ").split(" ")[-1]: record for name, record in seen.items()}


def plain(record):
    return jax.tree.map(lambda leaf: leaf.tolist(), record)


def unchanged(fn, *args, eagerly=True, **options):
    """Observes, under jit and if asked outside, and asserts that value and gradient stay; returns the records."""

    def loss(*args):
        return sum((leaf**2).sum() for leaf in jax.tree.leaves(fn(*args)))

    def observed_loss(*args):
        out, seen = observe(fn, count, **options)(*args)
        return sum((leaf**2).sum() for leaf in jax.tree.leaves(out)), seen

    out, (observed, seen) = jax.jit(fn)(*args), jax.jit(observe(fn, count, **options))(*args)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), out, observed))
    gradient = jax.jit(jax.grad(loss, argnums=range(len(args))))(*args)
    observed_gradient, seen_too = jax.jit(jax.grad(observed_loss, argnums=range(len(args)), has_aux=True))(
        *args
    )
    assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), gradient, observed_gradient))
    assert plain(seen) == plain(seen_too)
    if not eagerly:
        return seen
    eager, seen_eagerly = observe(fn, count, **options)(*args)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), fn(*args), eager))
    assert jax.tree.structure(seen_eagerly) == jax.tree.structure(seen)
    return seen


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

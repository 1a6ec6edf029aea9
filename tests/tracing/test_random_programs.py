"""Random programs out of every piece: observed they give the same bits, and their records are those of a plain loop.

A program is a list of pieces, drawn from a seed. It is built twice: in JAX, with scan, cond, remat, jit, vmap, while
and custom rules, and in NumPy, where the same pieces are Python loops that write down each pre-activation. Weights
are whole and every layer's result is brought back to quarters below 8, so that both are exact.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax_leaky import leaky_relu
from jax_leaky._tracing import Reached, list_sites, observe, swap

UNITS = 4


@jax.custom_vjp
def ruled(x):
    return jax.nn.relu(x) - 0.25


ruled.defvjp(lambda x: (ruled(x), x), lambda x, g: (g * jnp.where(x > -1, 1.0, 0.5),))


def settle(x):
    """x on a grid, with the derivative of x."""
    return x + lax.stop_gradient(jnp.clip(jnp.round(4 * x) / 4, -8, 8) - x)


def np_settle(x):
    return np.clip(np.round(4 * x) / 4, -8, 8)


@dataclasses.dataclass(frozen=True)
class Activation:
    kind: str
    in_jax: Callable
    in_numpy: Callable


def _np_leaky(slope):
    return lambda z: np.where(z > 0, z, slope * z)


ACTIVATIONS = [
    Activation("relu", jax.nn.relu, _np_leaky(0.0)),
    Activation("relu", lambda z: jnp.maximum(0, z), _np_leaky(0.0)),
    Activation("relu", lambda z: jnp.where(z <= 0, 0, z), _np_leaky(0.0)),
    Activation("relu", lambda z: z * (z > 0), _np_leaky(0.0)),
    Activation("leaky_relu", lambda z: jax.nn.leaky_relu(z, 0.5), _np_leaky(0.5)),
    Activation("leaky_relu", lambda z: leaky_relu(z, 0.25), _np_leaky(0.25)),
    Activation("leaky_relu", lambda z: jnp.maximum(z, 0.5 * z), _np_leaky(0.5)),
    Activation("leaky_relu", lambda z: lax.select(z > 0, z, 0.25 * z), _np_leaky(0.25)),
    Activation("relu6", jax.nn.relu6, lambda z: np.clip(z, 0, 6)),
    Activation("hard_tanh", jax.nn.hard_tanh, lambda z: np.clip(z, -1, 1)),
    Activation("hard_tanh", lambda z: jnp.clip(z, -1, 1), lambda z: np.clip(z, -1, 1)),
]
WRAPPERS = [
    "none",
    "jit",
    "remat",
    "vmap",
    "scan",
    "scan merged twice",
    "cond",
    "fori",
    "while",
    "rule",
    "decoy",
]


@dataclasses.dataclass(frozen=True)
class Piece:
    wrapper: str
    activation: Activation
    weights: np.ndarray
    steps: int

    def layer(self, x):
        """z -> a - 0.25 in JAX."""
        return settle(self.activation.in_jax(x @ jnp.asarray(self.weights)) - 0.25)

    def in_jax(self, x):
        if self.wrapper == "jit":
            return jax.jit(self.layer)(x)
        if self.wrapper == "remat":
            return jax.checkpoint(self.layer)(x)
        if self.wrapper == "vmap":
            return jax.vmap(self.layer)(x)
        if self.wrapper == "scan":
            return lax.scan(lambda c, _: (self.layer(c), None), x, None, length=self.steps)[0]
        if self.wrapper == "scan merged twice":
            inner = lambda c: lax.scan(lambda d, _: (self.layer(d), None), c, None, length=2)[0]  # noqa: E731 a body
            return lax.scan(lambda c, _: (inner(c), None), x, None, length=self.steps)[0]
        if self.wrapper == "cond":
            return lax.cond(x.sum() > 0, self.layer, lambda y: self.layer(-y), x)
        if self.wrapper == "fori":
            return lax.fori_loop(0, self.steps, lambda _, c: self.layer(c), x)
        if self.wrapper == "while":
            return lax.while_loop(
                lambda s: s[0] < self.steps, lambda s: (s[0] + 1, self.layer(s[1])), (0, x)
            )[1]
        if self.wrapper == "rule":
            return settle(ruled(x @ jnp.asarray(self.weights)) + jax.jit(ruled)(x))
        if self.wrapper == "decoy":
            x = jnp.where(jnp.arange(UNITS) % 2 == 0, x, 0) + jnp.minimum(x, 0) + jnp.clip(x, -2, 1)
        return self.layer(x)

    def in_numpy(self, x, visits):
        """The same; `visits` gains one list of pre-activations for each site."""
        seen = []
        times = {
            "scan": self.steps,
            "fori": self.steps,
            "while": self.steps,
            "scan merged twice": 2 * self.steps,
        }
        if self.wrapper == "rule":
            # ruled as a whole is no known activation; the relu in it is seen each time it is called.
            visits += [("relu", [x @ self.weights]), ("relu", [x])]
            return np_settle(np.maximum(x @ self.weights, 0) - 0.25 + np.maximum(x, 0) - 0.25)
        if self.wrapper == "decoy":
            x = np.where(np.arange(UNITS) % 2 == 0, x, 0) + np.minimum(x, 0) + np.clip(x, -2, 1)
        sign = -1 if self.wrapper == "cond" and x.sum() <= 0 else 1
        for _ in range(times.get(self.wrapper, 1)):
            seen.append(sign * x @ self.weights)
            x = np_settle(self.activation.in_numpy(seen[-1]) - 0.25)
        if self.wrapper == "cond":  # the branch for False comes first
            visits += [(self.activation.kind, branch) for branch in ((seen, []) if sign < 0 else ([], seen))]
        else:
            visits.append((self.activation.kind, seen))
        return x


def draw(seed, differentiable=True):
    rng = np.random.default_rng(seed)
    wrappers = [w for w in WRAPPERS if not (differentiable and w == "while")]
    pieces = [
        Piece(
            str(rng.choice(wrappers)),
            ACTIVATIONS[rng.integers(len(ACTIVATIONS))],
            rng.integers(-1, 2, (UNITS, UNITS)).astype(np.float32),
            int(rng.integers(1, 4)),
        )
        for _ in range(4)
    ]
    x = (rng.integers(-8, 9, (3, UNITS)) / 4).astype(np.float32)

    def program(x):
        for piece in pieces:
            x = piece.in_jax(x)
        return x

    return pieces, program, x


def record(_, z):
    return {"fired": (z > 0).sum(0), "sum": z.sum(0), "n": jnp.int32(len(z))}


def merge(older, newer):
    return jax.tree.map(jnp.add, older, newer)


def expected_records(pieces, x):
    visits = []
    for piece in pieces:
        x = piece.in_numpy(x, visits)
    return x, visits


def assert_records(sites, seen, visits):
    assert [site.kind for site in sites] == [kind for kind, _ in visits]
    for site, (_, zs) in zip(sites, visits, strict=True):
        got = seen[site.name]
        assert isinstance(got, Reached) == site.conditional
        if isinstance(got, Reached):
            assert got.times == len(zs)
            got = got.record
        z = np.concatenate([np.zeros((0, UNITS), np.float32), *zs])
        assert got["n"] == len(z)
        assert got["fired"].tolist() == (z > 0).sum(0).tolist()
        np.testing.assert_array_equal(got["sum"], z.sum(0, dtype=np.float64))


def seeds(fast, slow):
    """The first `fast` seeds on every run, the others with `pytest -m slow`."""
    return [*range(fast), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(fast, fast + slow))]


@pytest.mark.parametrize("seed", seeds(4, 30))
def test_records_of_a_random_program(seed):
    pieces, program, x = draw(seed, differentiable=False)
    sites = list_sites(program, jnp.asarray(x))
    expected, visits = expected_records(pieces, x)
    out, seen = jax.jit(observe(program, record, merge=merge))(jnp.asarray(x))
    np.testing.assert_array_equal(out, expected)
    assert_records(sites, seen, visits)


@pytest.mark.parametrize("seed", seeds(1, 15))
def test_value_and_gradient_of_a_random_program(seed):
    _, program, x = draw(seed)
    for merging in (None, merge):
        observed = observe(program, record, merge=merging)

        def loss(x):
            out = program(x)
            return (out**2).sum(), out

        def observed_loss(x, observed=observed):
            out, seen = observed(x)
            return (out**2).sum(), (out, seen)

        (_, out), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(jnp.asarray(x))
        (_, (out_too, _)), gradient_too = jax.jit(jax.value_and_grad(observed_loss, has_aux=True))(
            jnp.asarray(x)
        )
        assert out.tobytes() == out_too.tobytes()
        assert gradient.tobytes() == gradient_too.tobytes()


@pytest.mark.parametrize("seed", seeds(1, 15))
def test_a_random_program_under_vmap_and_swapped(seed):
    pieces, program, x = draw(seed, differentiable=False)
    several = jnp.stack([x, -x, 2 * x])
    out, seen = jax.jit(jax.vmap(observe(program, record, merge=merge)))(several)
    assert out.tobytes() == jax.jit(jax.vmap(program))(several).tobytes()
    sites = list_sites(program, jnp.asarray(x))
    for i, one in enumerate(np.asarray(several)):
        assert_records(sites, jax.tree.map(lambda leaf, i=i: leaf[i], seen), expected_records(pieces, one)[1])
    free = [site for site in sites if not site.fixed]
    doubled = Activation("relu", lambda z: 2 * z, lambda z: 2 * z)
    if free:
        edited = [dataclasses.replace(p, activation=doubled) if p.wrapper != "rule" else p for p in pieces]
        expected, _ = expected_records(edited, x)
        kinds = dict.fromkeys((site.kind for site in free), doubled.in_jax)
        swapped = swap(program, kinds, sites=[site.name for site in free])
        np.testing.assert_array_equal(jax.jit(swapped)(jnp.asarray(x)), expected)

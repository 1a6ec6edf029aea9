"""Whether replay works with the JAX at hand, for a version on which the tests have not run.

A program that holds every construct is replayed and compared with itself, value, gradient and records. If it
fails, nothing is observed: a function runs as it is and is listed as opaque as a whole.
"""

import functools
import warnings

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._plan import Planner
from jax_leaky._tracing._program import Scope
from jax_leaky._tracing._replay import replay
from jax_leaky._tracing._visitor import Visitor


@functools.cache
def replay_works() -> bool:
    """True on a tested version; on another warns, once, and tries."""
    if internals.is_tested_version():
        return True
    works = _rehearse()
    low, high = (".".join(map(str, version)) for version in internals.TESTED)
    outcome = (
        "what it does not understand runs unobserved and is listed as opaque"
        if works
        else "replay does not work with it, so functions run unobserved"
    )
    warnings.warn(
        f"jax_leaky._tracing has been tested with JAX from {low} up to, not including, {high}; this is JAX "
        f"{jax.__version__}: {outcome}.",
        stacklevel=5,
    )
    return works


def _program(x: Array) -> Array:
    x = jax.jit(lambda x: jax.nn.relu(x) - 0.5)(x)
    x, _ = lax.scan(lambda x, _: (jnp.where(x > 0, x, 0.1 * x) + 0.1, None), x, None, length=2)
    x = jax.checkpoint(lambda x: jax.nn.silu(x) - 0.1)(x)
    return lax.cond(x.sum() > 0, jax.nn.gelu, jnp.tanh, x)


def _rehearse() -> bool:
    x = jnp.array([-1.0, -0.25, 0.5, 2.0])
    try:
        plan = Planner().plan(jax.make_jaxpr(_program)(x), Scope())
        visitor = Visitor(record=lambda _, visit: (visit.z > 0).sum())

        def replayed(x: Array) -> tuple[Array, dict[str, Array]]:
            (out,), records = replay(plan, visitor, [x])
            return out, records

        (out, records), pullback = jax.vjp(jax.jit(replayed), x)
        true_out, true_pullback = jax.vjp(jax.jit(_program), x)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jax.dtypes.float0), records)
        same_value = bool(jnp.all(out == true_out))
        same_gradient = bool(jnp.all(pullback((out, zeros))[0] == true_pullback(out)[0]))
        return same_value and same_gradient and len(records) == 5
    except Exception:
        return False

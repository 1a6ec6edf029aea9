"""Transformations that leave a function of every element as it is, and their composition."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

# Each takes a function of a dict of arrays (rows, ...), of which x is one, and gives an equal one.


def scan(f):
    def run(given):
        rows = lambda carry, row: (carry + 1, f(one_row(row))[0])  # noqa: E731  beside its only use
        return lax.scan(rows, 0.0, given)[1]

    return run


def fori_loop(f):
    def run(given):
        x = given["x"]
        row = lambda i, y: y.at[i].set(f(one_row(at(given, i)))[0])  # noqa: E731  beside its only use
        return lax.fori_loop(0, x.shape[0], row, jnp.zeros_like(x))

    return run


def while_loop(f):
    def run(given):
        x = given["x"]

        def row(carry):
            i, y = carry
            return i + 1, y.at[i].set(f(one_row(at(given, i)))[0])

        return lax.while_loop(lambda carry: carry[0] < x.shape[0], row, (0, jnp.zeros_like(x)))[1]

    return run


def shard_map(f):
    """A share of the rows for each device, or all for each: under a vmap there may be one row."""

    def run(given):
        mesh = jax.make_mesh((jax.device_count(),), ("devices",), axis_types=(AxisType.Auto,))
        spec = P("devices") if given["x"].shape[0] % jax.device_count() == 0 else P()
        return jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=spec)(given)

    return run


def cond(f):
    return lambda given: lax.cond(given["x"].sum() > 0, f, lambda given: f(given), given)


def switch(f):
    def run(given):
        branches = [f, lambda given: given["x"], f]  # the second is never taken
        return lax.switch(jnp.where(given["x"].sum() > 0, 0, 2), branches, given)

    return run


def over_last_axis(f):
    return lambda given: jax.vmap(f, in_axes=-1, out_axes=-1)(broadcast(given))


def transpose(f):
    def run(given):
        return jnp.swapaxes(f({name: jnp.swapaxes(a, 0, -1) for name, a in broadcast(given).items()}), 0, -1)

    return run


def ravel(f):
    def run(given):
        return f({name: a.ravel() for name, a in broadcast(given).items()}).reshape(given["x"].shape)

    return run


TRANSFORMATIONS = {
    "jit": jax.jit,
    "vmap": jax.vmap,
    "vmap over the last axis": over_last_axis,
    "remat": jax.checkpoint,
    "remat by name": lambda f: jax.checkpoint(
        f, policy=jax.checkpoint_policies.save_only_these_names("leaky_relu_residual")
    ),
    "map": lambda f: lambda given: lax.map(f, given),
    "scan": scan,
    "fori_loop": fori_loop,
    "while_loop": while_loop,
    "cond": cond,
    "switch": switch,
    "shard_map": shard_map,
    "transpose": transpose,
    "ravel": ravel,
}
FORWARD_ONLY = {"while_loop"}  # whose number of turns JAX does not know
ONCE = {"shard_map"}  # within itself it would want another name for its axis


def one_row(row):
    return {name: a[None] for name, a in row.items()}


def at(given, i):
    return {name: a[i] for name, a in given.items()}


def broadcast(given):
    """Every array of the shape of x."""
    return {name: jnp.broadcast_to(a, given["x"].shape) for name, a in given.items()}


def in_two_axes(f):
    """What vmap and map take away, and the next one may want, is given back."""

    def run(given):
        x = given["x"]
        missing = tuple(range(2 - x.ndim))
        return f({name: jnp.expand_dims(a, missing) for name, a in given.items()}).reshape(x.shape)

    return run


def compose(names, op, number=None):
    """op(x, slope) under the transformations, the last one outermost.

    The slope is the number, if there is one; else the second argument: a scalar, over which the function closes, or
    an array (rows, 1), which is transformed with x.
    """

    def run(x, slope=number):
        mapped = number is None and slope.ndim > 0
        f = lambda given: op(given["x"], given["slope"] if mapped else slope)  # noqa: E731  is rebound below
        for name in names:
            f = TRANSFORMATIONS[name](in_two_axes(f))
        return f({"x": x, "slope": slope} if mapped else {"x": x})

    return run

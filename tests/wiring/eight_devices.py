"""Units are reset on a mesh of eight devices as on one: `python -m tests.wiring.eight_devices Auto` (or Explicit)."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_leaky import observe, remedies, wiring
from tests.wiring.networks import relu

STEPS = 12
WIDTHS = {"in": (6, 8), "bias": (8,), "between": (8, 16), "shift": (16,), "out": (16, 2), "offset": (2,)}
SPECS = {
    "in": P(None, "model"), "bias": P("model"), "between": P("model"), "shift": P(), "out": P(None, "model"),
    "offset": P("model"),
}  # fmt: skip
REMEDIES = {
    "redo": {"every": 3, "threshold": 0.1},
    "continual_backprop": {"replacement_rate": 0.043, "maturity": 2},
    "self_normalized_resets": {"every": 4, "longest": 6},
}


def initialize(key):
    keys = jax.random.split(key, len(WIDTHS))
    return {name: jax.random.normal(k, WIDTHS[name]) / 2 for name, k in zip(WIDTHS, keys, strict=True)}


def loss_on(out_sharding):
    def loss(p, x, y):
        h = relu("one", x @ p["in"] + p["bias"])
        h = relu("two", jnp.matmul(h, p["between"], out_sharding=out_sharding) + p["shift"])
        return jnp.square(h @ p["out"] + p["offset"] - y).mean()

    return loss


def resets(wires, params, fresh, gradient, masks):
    """What `recycle` and `dead_by_bounds` give outside of jit, and `recycle`, `restart` and `entries` in it."""
    adam = optax.adam(0.1)
    _, state = adam.update(gradient, adam.init(params), params)

    def both(params, state, masks, fresh):
        after = wires.recycle(params, masks, fresh)
        return after, wires.restart(adam, state, after, masks), wires.entries(params, masks)

    certain = wires.dead_by_bounds(params, -1.0, 1.0)
    return wires.recycle(params, masks, fresh), *jax.jit(both)(params, state, masks, fresh), certain


def life(name, loss, params, x, y):
    """A training with a remedy: the parameters and the state at its end, and which units each step has reset."""
    wires = wiring(loss, params, x[0], y[0])
    optimizer = getattr(remedies, name)(
        remedies.entrywise_adam(0.01), wires, initialize, jax.random.key(1), **REMEDIES[name]
    )

    def step(carry, batch):
        params, state = carry
        observed = observe(loss, lambda _, z: jax.nn.relu(z))
        (_, outputs), gradients = jax.value_and_grad(observed, has_aux=True)(params, *batch)
        updates, state = optimizer.update(gradients, state, params, outputs=outputs)
        return (optax.apply_updates(params, updates), state), state.reset

    (params, state), reset = jax.jit(lambda *given: jax.lax.scan(step, *given))(
        (params, optimizer.init(params)), (x, y)
    )
    return params, state._replace(key=jax.random.key_data(state.key)), reset


def main(kind):
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_disable_most_optimizations", True)  # it takes longer to compile than to run
    rng = np.random.default_rng(0)
    params, fresh, gradient = (
        {name: jnp.asarray(rng.normal(size=s) / 2, jnp.float32) for name, s in WIDTHS.items()} for _ in "abc"
    )
    params["bias"] = params["bias"].at[2].set(-9.0)
    params["shift"] = params["shift"].at[3:6].set(-9.0)
    x, y = (jnp.asarray(rng.normal(size=(STEPS, 16, n)), jnp.float32) for n in (6, 2))
    masks = {"one/relu": jnp.arange(8) % 3 == 0, "two/relu": jnp.arange(16) > 12}
    wires = wiring(loss_on(None), params, x[0], y[0])
    one = resets(wires, params, fresh, gradient, masks)
    alone = {name: life(name, loss_on(None), params, x, y) for name in REMEDIES}

    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType[kind],) * 2)
    loss = loss_on(P("data") if kind == "Explicit" else None)
    place = lambda leaf, spec: jax.device_put(leaf, NamedSharding(mesh, spec))  # noqa: E731 a formula in one line
    spread = lambda tree: {name: place(leaf, SPECS[name]) for name, leaf in tree.items()}  # noqa: E731 a formula in one line
    by_units = {name: place(mask, P("model")) for name, mask in masks.items()}
    many = resets(wires, *map(spread, (params, fresh, gradient)), by_units)
    with jax.set_mesh(mesh):
        batches = [place(part, P(None, "data")) for part in (x, y)]
        lives = {name: life(name, loss, spread(params), *batches) for name in REMEDIES}
    assert [tree["in"].sharding.spec for tree in many[:2]] == [SPECS["in"]] * 2
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_array_equal(a, b)
    for name, expected in alone.items():
        assert all(reset.any() for reset in expected[2].values()), name
        for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(lives[name]), strict=True):
            if jnp.issubdtype(a.dtype, jnp.floating):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=name)
            else:
                np.testing.assert_array_equal(a, b, err_msg=name)


if __name__ == "__main__":
    main(sys.argv[1])

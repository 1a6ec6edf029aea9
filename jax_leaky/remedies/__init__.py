"""Remedies for dead units as wrappers around an optax optimiser; `import jax_leaky.remedies` imports optax.

A wrapper has optax's contract. Its `update` takes one more keyword: `outputs`, what each activation gave in this step,
which `observe` finds where it is given the network's own activation (in the example relu). With the updates that it
returns, `optax.apply_updates` gives parameters in which the chosen units are reset: their outgoing entries are 0, and
their incoming entries those of `initialize(key)`, within the rounding of one addition in float32 (the updates of 16-bit
parameters are float32). The inner optimiser's state is reset for these entries (`Wiring.restart`). Where
`Wiring.reasons` says that the units of a site cannot be told from others, as those of an output, they are left alone.

Parameters that the inner optimiser freezes are reset like all others. No update brings a parameter back from NaN: of a
layer with an output that is not finite, no unit is helped.

Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from jax_leaky import observe, remedies, wiring
    >>> def initialize(key):
    ...     one, two = jax.random.split(key)
    ...     return {"in": jax.random.normal(one, (3, 8)), "bias": jnp.zeros(8), "out": jax.random.normal(two, (8, 1))}
    >>> def loss(params, x, y):
    ...     with jax.named_scope("hidden"):
    ...         h = jax.nn.relu(x @ params["in"] + params["bias"])
    ...     return jnp.square(h @ params["out"] - y).mean()
    >>> params = initialize(jax.random.key(0))
    >>> params["bias"] = params["bias"].at[2].set(-100.0)  # unit 2 is dead
    >>> x, y = jnp.ones((4, 3)), jnp.ones((4, 1))
    >>> wires = wiring(loss, params, x, y)
    >>> optimizer = remedies.redo(optax.adam(1e-3), wires, initialize, jax.random.key(1), every=5, threshold=0.0)
    >>> state = optimizer.init(params)
    >>> @jax.jit
    ... def step(params, state, x, y):
    ...     observed = observe(loss, lambda site, z: jax.nn.relu(z))
    ...     (value, outputs), gradients = jax.value_and_grad(observed, has_aux=True)(params, x, y)
    ...     updates, state = optimizer.update(gradients, state, params, outputs=outputs)
    ...     return optax.apply_updates(params, updates), state, value
    >>> for _ in range(5):
    ...     params, state, value = step(params, state, x, y)
    >>> bool(state.reset["hidden/relu"][2]), params["bias"][2].item(), params["out"][2].item()
    (True, 0.0, 0.0)
"""

from jax_leaky.remedies._continual_backprop import continual_backprop as continual_backprop
from jax_leaky.remedies._entrywise_adam import EntrywiseAdamState as EntrywiseAdamState
from jax_leaky.remedies._entrywise_adam import entrywise_adam as entrywise_adam
from jax_leaky.remedies._redo import redo as redo
from jax_leaky.remedies._resets import ResetState as ResetState
from jax_leaky.remedies._self_normalized_resets import self_normalized_resets as self_normalized_resets

"""ReDo: dormant units are reset.

References:
    Sokar, Agarwal, Castro and Evci: The dormant neuron phenomenon in deep reinforcement learning, ICML 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

Params = dict[str, dict[str, Array]]


def restart(params: Params, fresh: Params, masks: Sequence[Array]) -> Params:
    """The parameters after some hidden units have been reset.

    A reset unit takes its incoming weights and its bias from `fresh`, and its outgoing weights become 0, so that the
    network's output changes only by what the unit gave.

    Args:
        params: parameters of the network, {"Dense_0": {"kernel": (in, units), "bias": (units,)}, ...}.
        fresh: newly drawn parameters of the same shapes.
        masks: for each hidden layer, whether a unit is reset, (units,).
    """
    after = {name: dict(layer) for name, layer in params.items()}
    for place, mask in enumerate(masks):
        here, following = after[f"Dense_{place}"], after[f"Dense_{place + 1}"]
        for name in ("kernel", "bias"):
            here[name] = jnp.where(mask, fresh[f"Dense_{place}"][name], here[name])
        following["kernel"] = jnp.where(mask[:, None], 0.0, following["kernel"])
    return after

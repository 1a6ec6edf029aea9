"""ReDo: units that have become dormant begin again.

References:
    Sokar, Agarwal, Castro and Evci: The dormant neuron phenomenon in deep reinforcement learning, ICML 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

Params = dict[str, dict[str, Array]]


def restart(params: Params, fresh: Params, masks: Sequence[Array]) -> Params:
    """The parameters with some hidden units begun anew.

    Such a unit takes its incoming weights and its bias from `fresh`, and its outgoing weights become 0, so that the
    network's output changes only by what the unit gave.

    Args:
        params: {"Dense_0": {"kernel": (in, units), "bias": (units,)}, ...}.
        fresh: newly drawn ones.
        masks: for each hidden layer (units,), whether a unit begins anew.
    """
    after = {name: dict(layer) for name, layer in params.items()}
    for place, mask in enumerate(masks):
        here, following = after[f"Dense_{place}"], after[f"Dense_{place + 1}"]
        for name in ("kernel", "bias"):
            here[name] = jnp.where(mask, fresh[f"Dense_{place}"][name], here[name])
        following["kernel"] = jnp.where(mask[:, None], 0.0, following["kernel"])
    return after

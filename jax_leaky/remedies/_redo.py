"""ReDo: units that give little beside the others of their layer are reset every so many steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jax import Array

from jax_leaky._wiring import Wiring
from jax_leaky.remedies._resets import Remedy, check_between, mean_over_samples, wrapped


def redo(
    inner: optax.GradientTransformation,
    wires: Wiring,
    initialize: Callable[[Array], Any],
    key: Array,
    *,
    every: int = 1000,
    threshold: float = 0.025,
) -> optax.GradientTransformationExtraArgs:
    """ReDo around an optimiser: every so many updates, dormant units are reset.

    A unit i of a layer is dormant where s_i = mean |h_i| / (mean over units of mean |h| + 1e-9) <= threshold; h are its
    outputs on the samples of that update. With threshold 0 these are the units that gave 0 on all of them.

    Adam's one count for all entries goes on, so that the steps of a unit that was reset late in training are up to 6.6
    times the learning rate for a while (`Wiring.restart`); `entrywise_adam` as the inner optimiser avoids that.

    Args:
        inner: optimiser to be wrapped.
        wires: wiring of the network.
        initialize: function from a key to newly initialised parameters (or an NNX module), as the network's own `init`.
        key: key from which new parameters are drawn.
        every: number of updates from one choice of units to the next.
        threshold: greatest score of a dormant unit.

    Returns:
        The optimiser, whose `update(gradients, state, params, outputs=...)` takes the outputs of each activation:
        (..., units) by the site's name, lengths of scans over layers in front. Its state is a `ResetState`. It must be
        the outermost transformation: an `optax.scale(0.5)` behind it in an `optax.chain` would halve a reset.

    Raises:
        TypeError: `inner` is no optimiser, `wires` no wiring, `initialize` no function, or `key` no key; from `update`:
            `outputs` is no dictionary, or `state` none of its own.
        ValueError: no site of `wires` has units that can be told from others, `every` or `threshold` is out of range;
            from `init`: `initialize` gives other parameters; from `update`: `outputs` or `params` is missing or of
            another shape.

    References:
        Sokar, Agarwal, Castro and Evci: The dormant neuron phenomenon in deep reinforcement learning, ICML 2023.
    """
    check_between("redo", "every", every, 1, math.inf)
    check_between("redo", "threshold", threshold, 0, math.inf)

    def choose(
        kept: dict[str, Any], outputs: dict[str, Array], params: Any, step: Array
    ) -> tuple[dict[str, Array], dict[str, Any], dict[str, Array]]:
        del params
        masks = {}
        for site, h in outputs.items():
            size = mean_over_samples(wires.units[site], jnp.abs(h))
            score = size / (size.mean(axis=-1, keepdims=True) + 1e-9)
            masks[site] = (score <= threshold) & (step % every == 0)
        return masks, kept, {}

    return wrapped(Remedy("redo", lambda _: (), choose), inner, wires, initialize, key)

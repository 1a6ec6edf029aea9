"""Continual backprop: in every step a small share of the units, those of the least use, is reset."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from jax_leaky._wiring import Wiring
from jax_leaky._wiring._sums import incoming_magnitudes, outgoing_magnitudes
from jax_leaky.remedies._resets import Remedy, check_between, mean_over_samples, wrapped


class UnitUse(NamedTuple):
    """What continual backprop keeps of the units of a site.

    Attributes:
        age: (units,), number of updates since a unit was begun.
        utility: (units,), running average of each unit's use, not corrected for its age.
        mean_output: (units,), running average of each unit's output, not corrected for its age.
        due: (), number of units to be reset, a fraction until it reaches 1; by layer in a scan over layers.
    """

    age: Array
    utility: Array
    mean_output: Array
    due: Array


def continual_backprop(
    inner: optax.GradientTransformation,
    wires: Wiring,
    initialize: Callable[[Array], Any],
    key: Array,
    *,
    replacement_rate: float = 1e-4,
    decay: float = 0.99,
    maturity: int = 100,
    adaptable: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Continual backprop around an optimiser: the least useful units are reset, a few at a time.

    The use of a unit is y = mean |w_out| mean |h|, with h its outputs on the samples of the update and w_out all the
    entries that read it. Running averages are corrected for the unit's age: u <- decay u + (1 - decay) y is compared as
    u / (1 - decay^age). In every update a layer gains replacement_rate times its units older than `maturity`, and as
    many of these as make up a whole number, those of the least use, are reset.

    The adaptable contribution, which the authors' experiments on permuted images use, is y = mean |w_out|
    mean |h - hbar| / mean |w_in|. Here hbar is the running average of h, corrected for age, and w_in are the kernel
    entries that feed the unit: a constant output is of no use, and large weights are slow to change.

    What such a unit gave on average is added to the bias of what reads it, where that is a bias behind the kernel
    itself (in front of a norm it would change nothing). This keeps the mean of what is read, but for padding at the
    border of an image and for what changes the mean on the way, such as max pooling.

    Args:
        inner: optimiser to be wrapped; with `entrywise_adam` a unit that is reset has counts of its own, as in
            the paper's experiments.
        wires: wiring of the network.
        initialize: function from a key to newly initialised parameters (or an NNX module), as the network's own `init`.
        key: key from which new parameters are drawn.
        replacement_rate: share of the mature units that each update resets, 1e-4 to 1e-6 in the paper.
        decay: factor of the running averages.
        maturity: number of updates that a unit is left alone after its beginning.
        adaptable: whether the use of a unit is its adaptable contribution.

    Returns:
        The optimiser, as of `redo`, and likewise the outermost transformation: an `optax.scale(0.5)` behind it in an
        `optax.chain` would halve a reset.

    Raises:
        TypeError: as for `redo`.
        ValueError: as for `redo`; `replacement_rate`, `decay` or `maturity` is out of range.

    References:
        Dohare, Hernandez-Garcia, Lan, Rahman, Mahmood and Sutton: Loss of plasticity in deep continual learning,
        Nature 632, 2024. Adaptable contribution: Dohare, Sutton and Mahmood: Continual backprop: stochastic gradient
        descent with persistent randomness, arXiv 2108.06325.
    """
    check_between("continual_backprop", "replacement_rate", replacement_rate, 0, 1)
    if not 0 <= decay < 1:
        raise ValueError(f"continual_backprop: decay must be at least 0 and less than 1, got {decay:g}.")
    check_between("continual_backprop", "maturity", maturity, 0, math.inf)

    def begin(shape: tuple[int, ...]) -> UnitUse:
        zeros = jnp.zeros(shape)
        return UnitUse(jnp.zeros(shape, jnp.int32), zeros, zeros, jnp.zeros(shape[:-1]))

    def choose(
        kept: dict[str, UnitUse], outputs: dict[str, Array], params: Any, step: Array
    ) -> tuple[dict[str, Array], dict[str, Any], dict[str, Array]]:
        del step
        magnitudes = outgoing_magnitudes(wires, params, outputs)
        slowness = incoming_magnitudes(wires, params, outputs) if adaptable else {}
        masks, after, given = {}, {}, {}
        for site, h in outputs.items():
            shape, old = wires.units[site], kept[site]
            age = old.age + 1
            mean_output = decay * old.mean_output + (1 - decay) * mean_over_samples(shape, h)
            correction = 1 - jnp.power(decay, age.astype(mean_output.dtype))
            if adaptable:
                layers = shape[:-1]
                usual = jnp.reshape(
                    mean_output / correction, (*layers, *[1] * (h.ndim - len(shape)), shape[-1])
                )
                use = magnitudes[site] * mean_over_samples(shape, jnp.abs(h - usual))
                # A unit that no weight feeds is constant, and so of no use.
                slow = slowness[site]
                use = jnp.where(slow > 0, use / jnp.where(slow > 0, slow, 1), 0)
            else:
                use = magnitudes[site] * mean_over_samples(shape, jnp.abs(h))
            utility = decay * old.utility + (1 - decay) * use
            mature = age > maturity
            due = old.due + replacement_rate * mature.sum(axis=-1)
            least = jnp.argsort(jnp.where(mature, utility / correction, jnp.inf), axis=-1)
            mask = mature & (jnp.argsort(least, axis=-1) < jnp.floor(due)[..., None])
            masks[site], given[site] = mask, jnp.where(mask, mean_output / correction, 0)
            # The averages are reset only now that `given` has been taken from them.
            after[site] = UnitUse(
                jnp.where(mask, 0, age),
                jnp.where(mask, 0, utility).astype(old.utility.dtype),
                jnp.where(mask, 0, mean_output).astype(old.utility.dtype),
                (due - jnp.floor(due)).astype(old.due.dtype),
            )
        return masks, after, given

    return wrapped(Remedy("continual_backprop", begin, choose), inner, wires, initialize, key)

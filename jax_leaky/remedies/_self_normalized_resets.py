"""Self-normalised resets: a unit is reset once it is silent for longer than is usual for itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jax_leaky._wiring import Wiring
from jax_leaky.remedies._resets import Remedy, check_between, sample_axes, wrapped


class UnitSilence(NamedTuple):
    """What self-normalised resets keep of the units of a site.

    Attributes:
        age: (units,), number of updates in a row in which a unit has been silent.
        runs: (units, longest + 1), number of runs of silence of each length that have ended since the last estimate.
        limit: (units,), number of silent updates in a row after which a unit is reset.
    """

    age: Array
    runs: Array
    limit: Array


def self_normalized_resets(
    inner: optax.GradientTransformation,
    wires: Wiring,
    initialize: Callable[[Array], Any],
    key: Array,
    *,
    rejection: float = 0.01,
    every: int = 1000,
    longest: int = 1000,
) -> optax.GradientTransformationExtraArgs:
    """Self-normalised resets around an optimiser: units silent for longer than is usual for them are reset.

    A unit is silent in an update in which none of its outputs is above 0. A run of silence ends when the unit fires or
    is reset, which it is after `limit` silent updates in a row. Every so many updates the limit of each unit is
    estimated again: the (1 - rejection) quantile of the lengths of its own runs that have ended since the last estimate
    where that is less than its limit, otherwise twice the limit, at most `longest`. A unit none of whose runs has ended
    keeps its limit.

    Time is counted in updates, as the authors' code does (in multiples of the batch size), and updates in which the
    unit fires are no runs of length 0.

    Args:
        inner: optimiser to be wrapped.
        wires: wiring of the network.
        initialize: function from a key to newly initialised parameters (or an NNX module), as the network's own `init`.
        key: key from which new parameters are drawn.
        rejection: share of a unit's usual runs of silence that would have it reset.
        every: number of updates from one estimate of the limits to the next.
        longest: greatest limit, and every unit's first one; a histogram of this length is kept for each unit.

    Returns:
        The optimiser, as of `redo`, and likewise the outermost transformation: an `optax.scale(0.5)` behind it in an
        `optax.chain` would halve a reset.

    Raises:
        TypeError: as for `redo`.
        ValueError: as for `redo`; `rejection`, `every` or `longest` is out of range.

    References:
        Farias and Jozefiak: Self-normalized resets for plasticity in continual learning, ICLR 2025.
    """
    name = "self_normalized_resets"
    check_between(name, "rejection", rejection, 0, 1)
    check_between(name, "every", every, 1, math.inf)
    check_between(name, "longest", longest, 1, math.inf)

    def begin(shape: tuple[int, ...]) -> UnitSilence:
        runs = jnp.zeros((*shape, longest + 1), jnp.int32)
        return UnitSilence(jnp.zeros(shape, jnp.int32), runs, jnp.full(shape, longest, jnp.int32))

    def choose(
        kept: dict[str, UnitSilence], outputs: dict[str, Array], params: Any, step: Array
    ) -> tuple[dict[str, Array], dict[str, Any], dict[str, Array]]:
        del params
        masks, after = {}, {}
        for site, h in outputs.items():
            old = kept[site]
            fires = (h > 0).any(axis=sample_axes(wires.units[site], h))
            silent = jnp.where(fires, old.age, old.age + 1)
            masks[site] = ~fires & (silent >= old.limit)
            ended = ((fires & (old.age > 0)) | masks[site]).astype(jnp.int32)
            runs = _added(old.runs, silent, ended)
            runs, limit = jax.lax.cond(
                step % every == 0,
                lambda runs, limit: (jnp.zeros_like(runs), _estimate(runs, limit, rejection)),
                lambda runs, limit: (runs, limit),
                runs,
                old.limit,
            )
            after[site] = UnitSilence(jnp.where(fires | masks[site], 0, silent), runs, limit)
        return masks, after, {}

    return wrapped(Remedy(name, begin, choose), inner, wires, initialize, key)


def _added(runs: Array, length: Array, number: Array) -> Array:
    """The histograms with so many runs of a length more for each unit."""
    flat = runs.reshape(-1, runs.shape[-1])
    added = flat.at[jnp.arange(len(flat)), jnp.ravel(length)].add(jnp.ravel(number))
    return added.reshape(runs.shape)


def _estimate(runs: Array, limit: Array, rejection: float) -> Array:
    """The limits after a look at the lengths of the runs that have ended."""
    total = runs.sum(axis=-1)
    # The least length that no more than this share of the runs exceeds.
    longer = total[..., None] - jnp.cumsum(runs, axis=-1)
    quantile = jnp.argmax(longer <= rejection * total[..., None], axis=-1)
    quantile = jnp.maximum(quantile, 1).astype(limit.dtype)
    estimated = jnp.where(quantile < limit, quantile, jnp.minimum(2 * limit, runs.shape[-1] - 1))
    return jnp.where(total > 0, estimated, limit)

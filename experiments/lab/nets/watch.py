"""A network's units watched over time: their measures at each look, and who died or revived since the last."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from experiments.lab.nets.mlp import Look
from experiments.lab.run import store
from jax_leaky import units

MEASURES = (
    "never_active",
    "dead",
    "rare",
    "mean_slope",
    "grad_dead",
)  # shares of a layer's units; slope is their mean
COUNTS = ("died", "revived")  # units since the last look
OVERLAP = "overlap"  # the share of the never-active units that were so at step 0


class Masks(NamedTuple):
    """Which units were never active, per hidden layer, as 1, 0 and NaN.

    Attributes:
        before: at the last look.
        initial: at step 0.
    """

    before: tuple[Array, ...]
    initial: tuple[Array, ...]


def unwatched(hidden: tuple[int, ...]) -> Masks:
    """Before the first look."""
    unknown = tuple(jnp.full(width, jnp.nan) for width in hidden)
    return Masks(unknown, unknown)


def watch(
    seen: Look, negative_slope: ArrayLike, masks: Masks, at_start: ArrayLike
) -> tuple[dict[str, Array], Masks]:
    """The measures of each hidden layer, (layers,) each, NaN in a layer with a non-finite value; and the next masks.

    Args:
        seen: the look at the network.
        negative_slope: of its activation.
        masks: what the last look returned, or `unwatched`.
        at_start: whether this is the look at step 0, with which later ones are compared.
    """
    summaries = [
        units.summarize(
            units.update(units.init(z.shape[1]), z, negative_slope=negative_slope, gradient=gradient)
        )
        for z, gradient in zip(seen.z, seen.gradients, strict=True)
    ]
    now = tuple(summary.per_unit["never_active"] for summary in summaries)
    before, initial = (
        jax.tree.map(lambda new, old: jnp.where(at_start, new, old), now, mask) for mask in masks
    )
    changes = [units.transitions(*layer) for layer in zip(before, now, initial, strict=True)]
    layers = {name: jnp.stack([summary.layer[name] for summary in summaries]) for name in MEASURES}
    layers |= {name: jnp.stack([getattr(change, name) for change in changes]) for name in (*COUNTS, OVERLAP)}
    return layers, Masks(now, initial)


def recorded_steps(steps: int) -> list[int]:
    """0, 1, 2, 4, 8, ... and the last."""
    return [0, *(2**power for power in range(steps.bit_length()) if 2**power < steps), steps]


def layers_to_json(layers: dict[str, np.ndarray]) -> dict[str, list[Any]]:
    """A list with a value per layer for each measure; None where there is none."""
    lists: dict[str, list[Any]] = {
        name: store.numbers(layers[name]) for name in (*MEASURES, *COUNTS, OVERLAP)
    }
    return lists | {name: [None if count is None else int(count) for count in lists[name]] for name in COUNTS}

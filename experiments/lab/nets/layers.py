"""What a training records of each hidden layer: measures from a census, and the changes between evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.lab.run import store
from jax_leaky import Census, units

MEASURES = ("never_active", "dead", "rare", "mean_slope", "grad_dead")  # means over a layer's units
COUNTS = ("died", "revived")  # numbers of units since the last evaluation
OVERLAP = "overlap"  # share of the never-active units that were never active at step 0


def measures_of(census: Census) -> dict[str, Array]:
    """The measures of each layer, (layers,) each; NaN in a layer with a value that is not finite."""
    return {name: jnp.stack([site.summary.layer[name] for site in census]) for name in MEASURES}


def never_active_of(census: Census) -> tuple[Array, ...]:
    """For each layer, which units are never active, (units,), as 1, 0 or NaN."""
    return tuple(site.summary.per_unit["never_active"] for site in census)


def changes_of(never_active: Iterable[Array]) -> dict[str, Array]:
    """Counts and overlap of each layer at each evaluation, (evaluations, layers) each.

    Args:
        never_active: for each layer, which units are never active at each evaluation, (evaluations, units).
    """
    layers = []
    for now in never_active:
        before = jnp.concatenate([now[:1], now[:-1]])
        layers.append(jax.vmap(units.transitions, in_axes=(0, 0, None))(before, now, now[0]))
    return {name: jnp.stack([getattr(layer, name) for layer in layers], 1) for name in (*COUNTS, OVERLAP)}


def layers_to_json(layers: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
    """A list with a value per layer for each measure of one evaluation; None where there is none."""
    lists: dict[str, list[Any]] = {
        name: store.numbers(layers[name]) for name in (*MEASURES, *COUNTS, OVERLAP)
    }
    return lists | {name: [None if count is None else int(count) for count in lists[name]] for name in COUNTS}

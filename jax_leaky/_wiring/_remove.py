"""Cutting units out of the arrays of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jax_leaky._wiring._verdict import Verdict, Wires


def check(
    verdict: Verdict, masks: Mapping[str, Any], names: Sequence[str], units_of: Callable[..., Any]
) -> None:
    """Refuses what would leave a network whose arrays do not fit each other.

    Raises:
        ValueError: units that are multiplied by each other are not removed together, or a parameter cannot lose
            single units.
    """
    for site, mask in masks.items():
        if mask.all():
            raise ValueError(f"remove: all units of {site} would go; at least one has to stay.")
        if mask.any() and verdict.scaled[site]:
            scaled = ", ".join(verdict.scaled[site])
            raise ValueError(
                f"remove: {scaled} scales units of {site} together with others, and cannot lose one."
            )
        for leaf, planes in verdict.wires[site].outgoing.items():
            if verdict.grouped[leaf] and np.any([units_of(mask, plane).any() for plane in planes]):
                raise ValueError(
                    f"remove: {names[leaf]} reads {site} in groups, so that no single unit can be cut out of it."
                )
    for units in verdict.coupled:
        gone = {name for name, unit in units if name in masks and masks[name].ravel()[unit]}
        if gone and len(gone) < len(units):
            sites = " and ".join(sorted({name for name, _ in units}))
            raise ValueError(
                f"remove: the units of {sites} are multiplied by each other: remove them together."
            )


def cut(name: str, array: Any, mask: Any) -> Any:
    """An array without the masked entries, which must make up whole slices.

    Raises:
        ValueError: they do not.
    """
    if not mask.any():
        return array
    kept = []
    covered = np.zeros_like(mask)
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        slices = mask.all(axis=others)
        along = [1] * mask.ndim
        along[axis] = -1
        covered |= slices.reshape(along)
        kept.append(np.flatnonzero(~slices))
    if not np.array_equal(covered, mask):
        raise ValueError(f"remove: the entries of {name} to be cut are no whole slices of it.")
    array = array if isinstance(array, jax.core.Tracer) else np.asarray(array)
    return jax.numpy.asarray(array[np.ix_(*kept)])


def check_left(
    wires: Mapping[str, Wires],
    masks: Mapping[str, Any],
    gone: Sequence[Any],
    names: Sequence[str],
) -> None:
    """Refuses to take all entries of a parameter from a unit that stays.

    Raises:
        ValueError: a unit would lose them.
    """
    for site, own in wires.items():
        for leaf, planes in own.incoming.items():
            for plane in planes:
                full = np.broadcast_to(plane, gone[leaf].shape)
                left = np.zeros(int(np.prod(own.shape)) + 1, bool)
                left[full[~gone[leaf]]] = True
                stays = ~masks[site].ravel() if site in masks else np.ones(int(np.prod(own.shape)), bool)
                fed = np.zeros_like(left)
                fed[full] = True
                if (stays & fed[:-1] & ~left[:-1]).any():
                    raise ValueError(
                        f"remove: a unit of {site} that stays would lose all its entries of {names[leaf]}."
                    )

"""Sums over the entries that read each unit, and over those that a bias is added to, which remedies ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_leaky._wiring._wiring import Wiring


def outgoing_magnitudes(wires: Wiring, params: Any, sites: Mapping[str, Any]) -> dict[str, Any]:
    """The mean absolute value of the entries that read each unit, (units,) by site."""
    return {
        site: _magnitudes(params, wires._wires[site].shape, wires._wires[site].outgoing) for site in sites
    }


def incoming_magnitudes(wires: Wiring, params: Any, sites: Mapping[str, Any]) -> dict[str, Any]:
    """The mean absolute value of the kernel entries that feed each unit, (units,) by site.

    Biases and the scales of norms do not count, unless a unit is fed by nothing else.
    """
    means = {}
    for site in sites:
        own = wires._wires[site]
        kernels = {leaf: planes for leaf, planes in own.incoming.items() if wires._verdict.multiplied[leaf]}
        means[site] = _magnitudes(params, own.shape, kernels or own.incoming)
    return means


def _magnitudes(params: Any, shape: tuple[int, ...], entries: Mapping[int, Sequence[Any]]) -> Any:
    leaves, units = jax.tree.leaves(params), math.prod(shape)
    total: Any = 0
    count: Any = 0
    for leaf, planes in entries.items():
        array = jnp.abs(leaves[leaf])
        for plane in planes:
            total += _sums(array, plane, units)
            copies = array.size // plane.size
            count += np.bincount(_bins(plane, units), minlength=units + 1)[:units] * copies
    return (total / np.maximum(count, 1)).reshape(shape)


def absorbed(wires: Wiring, params: Any, outputs: Mapping[str, Any]) -> Any:
    """The parameters with what some units give added to the biases of what reads them.

    Args:
        wires: wiring of the parameters.
        params: pytree of parameters.
        outputs: constant output of each unit that the biases take over, (units,) by site.
    """
    leaves = jax.tree.leaves(params)
    after = list(leaves)
    for site, values in outputs.items():
        padded = jnp.append(jnp.ravel(values), 0)  # a plane holds -1 where it reads no unit
        for leaf, planes in wires._wires[site].outgoing.items():
            for bias, offsets in wires._verdict.offsets[leaf].items():
                for plane in planes:
                    given = leaves[leaf] * padded[plane]
                    gain = _sums(given, offsets, leaves[bias].size).reshape(leaves[bias].shape)
                    after[bias] = after[bias] + gain.astype(leaves[bias].dtype)
    return jax.tree.unflatten(jax.tree.structure(params), after)


def _sums(array: Any, plane: Any, count: int) -> Any:
    """The sums of an array's elements by the number in the same place of a plane, (count,); -1 is left out."""
    alike = tuple(axis for axis in range(plane.ndim) if plane.shape[axis] == 1)
    kept = jnp.sum(array, axis=alike).ravel() if alike else jnp.ravel(array)
    return jnp.zeros(count + 1, kept.dtype).at[_bins(plane, count)].add(kept)[:count]


def _bins(plane: Any, count: int) -> Any:
    return np.where(plane < 0, count, plane).ravel()

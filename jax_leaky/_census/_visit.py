"""From a traced function to the records of its sites."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from jax_leaky._census._packed import pack
from jax_leaky._census._site import RECTIFIERS, Record, SiteInfo
from jax_leaky._census._tally import append, tally
from jax_leaky.tracing import Opaque, Reached, Site, SiteList, Traced, Visit, Visitor

_Tallied = tuple[Any, Array | None]  # the counts, and the slope where it is no number in the program


def choose(who: str, traced: Traced, patterns: str | Sequence[str] | None) -> SiteList:
    """The sites to count.

    Raises:
        ValueError: there is none, a pattern matches none, or one that is named has an input without units.
    """
    if not traced.sites:
        raise ValueError(f"{who}: {traced.sites.vocabulary()}; list_sites shows what it sees of a function.")
    chosen = traced.sites if patterns is None else traced.sites.select(patterns)
    names = {patterns} if isinstance(patterns, str) else set(patterns or ())
    unitless = [site for site in chosen if not site.shape]
    if unitless and (len(unitless) == len(chosen) or any(site.name in names for site in unitless)):
        raise ValueError(
            f"{who}: the input of {unitless[0].name} is a single number, which has no units: leave it out."
        )
    left_out = [Opaque(site.name, "its input is a single number", site.source) for site in unitless]
    return SiteList([site for site in chosen if site.shape], [*chosen.opaque, *left_out])


def run(traced: Traced, chosen: SiteList, *, lean: bool = False, tap: Any = None) -> tuple[Any, list[Record]]:
    """The function's result, and the records of the chosen sites.

    Args:
        traced: the function.
        chosen: of its sites.
        lean: whether only the figures are counted that a training step can afford.
        tap: as in `Visitor`.
    """
    names = frozenset(chosen.names)
    visitor = Visitor(
        wants=lambda site: site.name in names,
        record=functools.partial(_record, lean=lean),
        merge=_merge,
        stacks=lambda loop: loop.over_layers,
        tap=tap,
    )
    result, found = traced.run(visitor)
    return result, [_settled(site, found[site.name]) for site in chosen]


def _record(site: Site, visit: Visit, lean: bool) -> _Tallied:
    slope = None
    if visit.parameter is not None and site.kind in RECTIFIERS:
        slope = _slope_of_units(visit.parameter, site.shape)
    z = visit.a if lean and _tells_z(site) else visit.z
    return tally(z, None if site.kind == "relu" else visit.a, lean=lean), slope


def _tells_z(site: Site) -> bool:
    """Whether the output tells all that a lean count asks of z.

    A step keeps the output for the next layer, but not z: XLA would write that down for the count alone, as 8.5 MB
    beside the 104 MB of a small CNN (experiments/results/benchmark_tracing.md has what it is this way).
    """
    return site.kind == "relu" or (site.kind == "leaky_relu" and (site.negative_slope or 0) > 0)


def _slope_of_units(parameter: Array, shape: tuple[int, ...]) -> Array | None:
    """The slope as (units,); None where it differs within a unit."""
    units = shape[-1]
    if parameter.size == 1:
        return jnp.broadcast_to(parameter.reshape(()), (units,)).astype(jnp.float32)
    if parameter.size == units and parameter.shape[-1] == units:
        return parameter.reshape(units).astype(jnp.float32)
    return None


def _merge(older: _Tallied, newer: _Tallied) -> _Tallied:
    return append(older[0], newer[0]), newer[1]


def _settled(site: Site, record: Any) -> Record:
    if isinstance(record, Reached):
        never = record.times == 0
        counts, slope = record.record
        never = never[..., None]
        # A record that was never made is all zeros, which no minimum is.
        counts = counts._replace(
            z_min=jnp.where(never, jnp.inf, counts.z_min), z_max=jnp.where(never, -jnp.inf, counts.z_max)
        )
    else:
        counts, slope = record
    return Record(pack(counts), slope, SiteInfo(site.name, site.kind, site.negative_slope, site.source))

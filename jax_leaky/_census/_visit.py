"""From a traced function to the records of its sites."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jax_leaky._census import _slopes
from jax_leaky._census._axes import LAST, UnitAxis, unit_axes
from jax_leaky._census._packed import pack
from jax_leaky._census._site import RECTIFIERS, Record, SiteInfo
from jax_leaky._census._slopes import Slopes
from jax_leaky._census._tally import append, tally
from jax_leaky._tracing import Opaque, Reached, Site, SiteList, Traced, Visit, Visitor

_Tallied = tuple[Any, Slopes | None]  # the counts, and the slopes where they are no number in the program


class Chosen(NamedTuple):
    """The sites to count, and by name the axis of each one's input that holds its units."""

    sites: SiteList
    axes: dict[str, int]

    def units(self, site: Site) -> int:
        """How many units a site has."""
        return site.shape[self.axes[site.name]]


def choose(
    who: str, traced: Traced, patterns: str | Sequence[str] | None, unit_axis: UnitAxis = LAST
) -> Chosen:
    """The sites to count.

    Raises:
        TypeError: `unit_axis` holds no integer.
        ValueError: there is none, a pattern matches none, one that is named has an input without units, or
            `unit_axis` is no axis of an input.
    """
    if not traced.sites:
        raise ValueError(f"{who}: {traced.sites.vocabulary()}; list_sites shows what it sees of a function.")
    chosen = traced.sites if patterns is None else traced.sites.select(patterns)
    names = {patterns} if isinstance(patterns, str) else set(patterns or ())
    axes = unit_axes(who, traced.sites, chosen, unit_axis)
    unitless = {site.name: reason for site in chosen if (reason := _unitless(site, axes))}
    for name, reason in unitless.items():
        if len(unitless) == len(chosen) or name in names:
            raise ValueError(f"{who}: the input of {name} {reason}, which has no units: leave it out.")
    left_out = [
        Opaque(s.name, f"its input {unitless[s.name]}", s.source) for s in chosen if s.name in unitless
    ]
    counted = [site for site in chosen if site.name not in unitless]
    return Chosen(SiteList(counted, [*chosen.opaque, *left_out]), axes)


def _unitless(site: Site, axes: dict[str, int]) -> str:
    """Why a site has no units, "" if it has."""
    if not site.shape:
        return "is a single number"
    return f"has the shape {site.shape}" if site.shape[axes[site.name]] == 0 else ""


def run(traced: Traced, chosen: Chosen, *, lean: bool = False, tap: Any = None) -> tuple[Any, list[Record]]:
    """The function's result, and the records of the chosen sites.

    Args:
        traced: the function.
        chosen: of its sites, with their axes.
        lean: whether only the figures are counted that a training step can afford.
        tap: as in `Visitor`.
    """
    result, state, records = run_pure(traced, chosen, lean=lean, tap=tap)
    traced.write_back(state)
    return result, records


def run_pure(
    traced: Traced, chosen: Chosen, *, lean: bool = False, tap: Any = None
) -> tuple[Any, Any, list[Record]]:
    """As `run`, with the state of NNX modules in the middle, which is not written back yet."""
    names = frozenset(chosen.sites.names)
    visitor = Visitor(
        wants=lambda site: site.name in names,
        record=functools.partial(_record, axes=chosen.axes, lean=lean),
        merge=_merge,
        stacks=lambda loop: loop.over_layers,
        tap=tap,
    )
    result, state, found = traced.run_pure(visitor)
    return result, state, [_settled(site, found[site.name], chosen.axes[site.name]) for site in chosen.sites]


def _record(site: Site, visit: Visit, axes: dict[str, int], lean: bool) -> _Tallied:
    axis = axes[site.name]
    z = visit.a if lean and _tells_z(site) else visit.z
    a = None if site.kind == "relu" else visit.a
    if axis != LAST:
        z, a = (x if x is None else jnp.moveaxis(x, axis, LAST) for x in (z, a))
    counts = tally(z, a, lean=lean)
    if visit.parameter is None or site.kind not in RECTIFIERS:
        return counts, None
    slope = _slope_of_units(visit.parameter, site.shape, axis)
    return counts, None if slope is None else _slopes.met(slope, counts)


def _tells_z(site: Site) -> bool:
    """Whether the output tells all that a lean count asks of z.

    A step keeps the output for the next layer, but not z: XLA would write that down for the count alone, as 8.5 MB
    beside the 104 MB of a small CNN (experiments/benchmark/results/tracing.md has what it is this way).
    """
    return site.kind == "relu" or (site.kind == "leaky_relu" and (site.negative_slope or 0) > 0)


def _slope_of_units(parameter: Array, shape: tuple[int, ...], axis: int) -> Array | None:
    """The slope as (units,); None where it differs within a unit."""
    units, from_the_back = shape[axis], axis % len(shape) - len(shape)
    if parameter.size == 1:
        return jnp.broadcast_to(parameter.reshape(()), (units,)).astype(jnp.float32)
    if (
        parameter.size == units
        and parameter.ndim >= -from_the_back
        and parameter.shape[from_the_back] == units
    ):
        return parameter.reshape(units).astype(jnp.float32)
    return None


def _merge(older: _Tallied, newer: _Tallied) -> _Tallied:
    slopes = None if older[1] is None or newer[1] is None else older[1].append(newer[1])
    return append(older[0], newer[0]), slopes


def _settled(site: Site, record: Any, axis: int) -> Record:
    if isinstance(record, Reached):
        never = record.times == 0
        counts, slopes = record.record
        never = never[..., None]
        # A record that was never made is all zeros, which no minimum is, and no slope.
        counts = counts._replace(
            z_min=jnp.where(never, jnp.inf, counts.z_min), z_max=jnp.where(never, -jnp.inf, counts.z_max)
        )
        if slopes is not None:
            least, greatest = (jnp.where(never, jnp.nan, slope) for slope in slopes[:2])
            slopes = slopes._replace(least=least, greatest=greatest)
    else:
        counts, slopes = record
    info = SiteInfo(site.name, site.kind, site.negative_slope, site.source, axis)
    return Record(pack(counts), slopes, info)

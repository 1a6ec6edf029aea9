"""From a traced function to the records of its sites, and the gradient that reaches each unit.

The gradient is counted sample by sample. A probe is put on z: the identity, whose derivative rule counts the cotangent
dL/dz as it passes and hands the figures on as the "gradient" of an array of zeros beside it. That needs no memory
beyond O(units), works through jit, scan, remat and custom rules, and nobody has to say with respect to what the loss
is differentiated. In a sum or mean over samples that do not meet each other, dL/dz of a sample is that of the sample's
own loss, times a number.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jax_leaky._census._site import LAST, RECTIFIERS, Record, SiteInfo
from jax_leaky._tracing import Opaque, Reached, Site, SiteList, Traced, Visit, Visitor
from jax_leaky.units import UnitCounts, init
from jax_leaky.units._counts import append
from jax_leaky.units._tally import tally
from jax_leaky.units._wide import Pair, Wide

UnitAxis = int | Mapping[str, int]

_FIGURES = 5
# The "gradient" of float32 zeros is float32, exact to 2^24: counts travel in two parts, so that steps of a scan add up.
_PART = 12


class Chosen(NamedTuple):
    """The sites to count.

    Attributes:
        sites: the sites, and what is opaque.
        axes: by name the axis of each site's input that holds its units: `LAST`, or its number from the front.
    """

    sites: SiteList
    axes: dict[str, int]


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
    axes = _unit_axes(who, traced.sites, chosen, unit_axis)
    unitless = {site.name: reason for site in chosen if (reason := _unitless(site, axes))}
    for name, reason in unitless.items():
        if len(unitless) == len(chosen) or name in names:
            raise ValueError(f"{who}: the input of {name} {reason}, which has no units: leave it out.")
    left_out = [
        Opaque(s.name, f"its input {unitless[s.name]}", s.source) for s in chosen if s.name in unitless
    ]
    counted = [site for site in chosen if site.name not in unitless]
    return Chosen(SiteList(counted, [*chosen.opaque, *left_out]), axes)


def _unit_axes(who: str, sites: SiteList, chosen: SiteList, unit_axis: Any) -> dict[str, int]:
    if isinstance(unit_axis, Mapping):
        axes: dict[str, Any] = {}
        for pattern, axis in unit_axis.items():
            axes |= dict.fromkeys(sites.select(pattern).names, axis)
    else:
        axes = dict.fromkeys(sites.names, unit_axis)
    return {site.name: _unit_axis(who, site, axes.get(site.name, LAST)) for site in chosen if site.shape}


def _unit_axis(who: str, site: Site, axis: Any) -> int:
    try:
        axis = operator.index(axis)
    except TypeError:
        raise TypeError(
            f"{who}: unit_axis={axis!r} is no integer, nor a dict from sites to integers."
        ) from None
    axes = len(site.shape)
    if not -axes <= axis < axes:
        raise ValueError(
            f"{who}: unit_axis={axis} is no axis of the input of {site.name}, whose shape is {site.shape}: give one "
            "from the front or from the back, or a dict with an axis for each site that differs."
        )
    return LAST if axis % axes == axes - 1 else axis % axes


def _unitless(site: Site, axes: dict[str, int]) -> str:
    """Why a site has no units, "" if it has."""
    if not site.shape:
        return "is a single number"
    return f"has the shape {site.shape}" if site.shape[axes[site.name]] == 0 else ""


def run(
    traced: Traced, chosen: Chosen, *, gradients: bool = False, lean: bool = False
) -> tuple[Any, list[Record]]:
    """The function's result, and the records of the chosen sites.

    Args:
        traced: the function.
        chosen: the sites to count, with the axes of their units.
        gradients: whether the gradients are counted too.
        lean: whether only the figures are counted that a training step can afford.

    Raises:
        TypeError: gradients are wanted of a function that returns no loss.
        ValueError: gradients are wanted, and the function has no derivative.
    """
    count = _run_with_gradients if gradients else _run
    result, state, counts = count(traced, chosen, lean)
    traced.write_back(state)
    records = [
        Record(counts[site.name], SiteInfo(site.name, site.kind, site.source, chosen.axes[site.name]))
        for site in chosen.sites
    ]
    return result, records


def _run(
    traced: Traced, chosen: Chosen, lean: bool, tap: Any = None
) -> tuple[Any, Any, dict[str, UnitCounts]]:
    names = frozenset(chosen.sites.names)
    visitor = Visitor(
        wants=lambda site: site.name in names,
        record=functools.partial(_count, axes=chosen.axes, lean=lean),
        merge=append,
        stacks=lambda loop: loop.over_layers,
        tap=tap,
    )
    result, state, found = traced.run_pure(visitor)
    return result, state, {site.name: _settled(found[site.name]) for site in chosen.sites}


def _count(site: Site, visit: Visit, axes: dict[str, int], lean: bool) -> UnitCounts:
    axis = axes[site.name]
    z = visit.a if lean and _tells_z(site) else visit.z
    a = None if site.kind == "relu" else visit.a
    slope = _slope(site, visit, axis)
    if axis != LAST:
        z, a = (x if x is None else jnp.moveaxis(x, axis, LAST) for x in (z, a))
    return tally(z, a, slope, lean=lean)


def _tells_z(site: Site) -> bool:
    """Whether the output tells all that a lean count asks of z.

    A step keeps the output for the next layer, but not z: XLA would write that down for the count alone, as 8.5 MB
    beside the 104 MB of a small CNN (experiments/benchmark/results/tracing.md has what it is this way).
    """
    return site.kind == "relu" or (site.kind == "leaky_relu" and (site.negative_slope or 0) > 0)


def _slope(site: Site, visit: Visit, axis: int) -> Array | None:
    """The slope below 0, as (units,) where it is one within each unit, else as z with the units last."""
    if site.kind not in RECTIFIERS or site.kind == "relu":
        return None
    units, from_the_back = site.shape[axis], axis % len(site.shape) - len(site.shape)
    if visit.parameter is None:
        return jnp.full(units, jnp.nan if site.negative_slope is None else site.negative_slope, jnp.float32)
    parameter = visit.parameter.astype(jnp.float32)
    if parameter.size == 1:
        return jnp.broadcast_to(parameter.reshape(()), (units,))
    along = parameter.shape[from_the_back] if parameter.ndim >= -from_the_back else 1
    if parameter.size == units == along:
        return parameter.reshape(units)
    return jnp.moveaxis(jnp.broadcast_to(parameter, visit.z.shape), axis, LAST)


def _settled(record: Any) -> UnitCounts:
    """The counts of a record; those of no sample for a record that was never made, which is all zeros."""
    if not isinstance(record, Reached):
        counts: UnitCounts = record
        return counts
    counts = record.record
    return UnitCounts(
        *(
            jnp.where(record.times.reshape(*record.times.shape, *[1] * start.ndim) == 0, start, stack)
            for start, stack in zip(init(counts.shape[-1]), counts, strict=True)
        )
    )


def _run_with_gradients(traced: Traced, chosen: Chosen, lean: bool) -> tuple[Any, Any, dict[str, UnitCounts]]:
    def loss(zeros: dict[str, Array]) -> tuple[Array, tuple[Any, Any, dict[str, UnitCounts]]]:
        def tap(site: Site, z: Array, steps: tuple[Array, ...]) -> Array:
            layer = tuple(step for loop, step in zip(site.loops, steps, strict=True) if loop.over_layers)
            return _probe(chosen.axes[site.name], z, zeros[site.name][layer])

        seen = _run(traced, chosen, lean, tap)
        return _scalar(traced.who, seen[0]), seen

    zeros = {
        site.name: jnp.zeros(_shape(site, chosen.axes), jnp.float32)
        for site in chosen.sites
        if not site.fixed
    }
    try:
        figures, (result, state, counts) = jax.grad(loss, has_aux=True)(zeros)
    except ValueError as error:
        if "everse-mode differentiation" not in str(error):
            raise
        raise ValueError(
            f"{traced.who}: gradients=True needs the derivative of the loss, and there is none through a while loop: "
            "use lax.scan, or a fori_loop with a number of steps that is known."
        ) from error
    # A function of whose result a derivative is taken has no derivative through what is counted.
    for name, figure in jax.lax.stop_gradient(figures).items():
        counts[name] = _with_gradient(counts[name], figure)
    return result, state, counts


def _shape(site: Site, axes: dict[str, int]) -> tuple[int, ...]:
    layers = (loop.length for loop in site.loops if loop.over_layers)
    return *layers, site.shape[axes[site.name]], _FIGURES


def _scalar(who: str, result: Any) -> Array:
    loss = result[0] if isinstance(result, tuple) and len(result) == 2 else result
    if not (isinstance(loss, jax.Array) and jnp.issubdtype(loss.dtype, jnp.floating)):
        kind = f"an array of {loss.dtype}" if isinstance(loss, jax.Array) else f"a {type(loss).__name__}"
        raise TypeError(
            f"{who}: gradients=True takes fn for a loss, but it returned {kind}: return a scalar, one value per "
            "sample, or (loss, auxiliary)."
        )
    return jnp.sum(loss)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _probe(axis: int, z: Array, zeros: Array) -> Array:
    del axis, zeros
    return z


def _forward(axis: int, z: Array, zeros: Array) -> tuple[Array, Array]:
    del axis, zeros
    return z, jnp.isfinite(z)


def _backward(axis: int, finite: Array, cotangent: Array) -> tuple[Array, Array]:
    # Where z is not finite, the sample is counted as that already.
    g = jnp.moveaxis(jnp.where(finite, cotangent, jnp.zeros_like(cotangent)), axis, LAST)
    counts = tally(g, g, None, lean=True)  # of g in place of an output: how many are not 0, and their sum
    figures = [*_parts(counts.nonzero.low), *_parts(counts.nonfinite.low), counts.abs_sum.high]
    return cotangent, jnp.stack(figures, axis=-1)


_probe.defvjp(_forward, _backward)


def _parts(count: Array) -> tuple[Array, Array]:
    return (count >> _PART).astype(jnp.float32), (count & ((1 << _PART) - 1)).astype(jnp.float32)


def _whole(high: Array, low: Array) -> Wide:
    high, low = high.astype(jnp.uint32), low.astype(jnp.uint32)
    return Wide(high >> (32 - _PART), high << _PART) + low


def _with_gradient(counts: UnitCounts, figures: Array) -> UnitCounts:
    total = figures[..., 4]
    return counts.replaced(
        grad_n=counts.n,
        grad_nonzero=_whole(figures[..., 0], figures[..., 1]),
        grad_sum=Pair(total, jnp.zeros_like(total)),
        nonfinite=counts.nonfinite + _whole(figures[..., 2], figures[..., 3]),
    )

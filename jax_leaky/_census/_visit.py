"""From a traced function to the records of its sites, and the gradient that reaches each unit.

The gradient is counted sample by sample. A probe is put on z: the identity, whose derivative rule counts the cotangent
dL/dz as it passes and hands the figures on as the "gradient" of an array of zeros beside it. That needs no memory
beyond O(units), works through jit, scan, remat and custom rules, and nobody has to say with respect to what the loss
is differentiated. In a sum or mean over samples that do not meet each other, dL/dz of a sample is that of the sample's
own loss, times a number.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jax_leaky._census._site import LAST, RECTIFIERS, Axes, Record, SiteInfo
from jax_leaky._tracing import Opaque, Reached, Site, SiteList, Traced, Visit, Visitor
from jax_leaky._tracing._jax_internals import as_varying, varying_axes
from jax_leaky._tracing._program import Spot
from jax_leaky.units import UnitCounts, init
from jax_leaky.units._counts import append
from jax_leaky.units._inputs import unit_axes, units_last
from jax_leaky.units._tally import Seen, completed, tally
from jax_leaky.units._wide import Pair, Wide

_Count = Callable[[Site, Visit], Any]
UnitAxis = int | Sequence[int] | Mapping[str, int | Sequence[int]]

_FIGURES = 5
_GRADIENT = "gradient"
# The "gradient" of float32 zeros is float32, exact to 2^24: counts travel in two parts, so that steps of a scan add up.
_PART = 12


class Chosen(NamedTuple):
    """The sites to count.

    Attributes:
        sites: the sites, and what is opaque.
        axes: by name the axis of each site's input that holds its units, or several: `LAST`, or numbers from the front.
    """

    sites: SiteList
    axes: dict[str, Axes]


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


def _unit_axes(who: str, sites: SiteList, chosen: SiteList, unit_axis: Any) -> dict[str, Axes]:
    if isinstance(unit_axis, Mapping):
        axes: dict[str, Any] = {}
        for pattern, axis in unit_axis.items():
            axes |= dict.fromkeys(sites.select(pattern).names, axis)
    else:
        axes = dict.fromkeys(sites.names, unit_axis)
    return {site.name: _unit_axis(who, site, axes.get(site.name, LAST)) for site in chosen if site.shape}


def _unit_axis(who: str, site: Site, axis: Any) -> Axes:
    try:
        axes = unit_axes(axis, len(site.shape))
    except TypeError as error:
        raise TypeError(f"{who}: unit_axis={axis!r} {error}, nor a dict from sites to these.") from None
    except ValueError as error:
        raise ValueError(
            f"{who}: unit_axis={axis} {error} of the input of {site.name}, whose shape is {site.shape}: give axes "
            "from the front or from the back, or a dict with those of each site that differs."
        ) from None
    return axes if len(axes) > 1 else LAST if axes[0] == len(site.shape) - 1 else axes[0]


def _numbers(site: Site, axis: Axes) -> tuple[int, ...]:
    """The axes of a site's units, from the front."""
    return unit_axes(axis, len(site.shape))


def _unit_shape(site: Site, axis: Axes) -> tuple[int, ...]:
    return tuple(site.shape[number] for number in _numbers(site, axis))


def _unitless(site: Site, axes: dict[str, Axes]) -> str:
    """Why a site has no units, "" if it has."""
    if not site.shape:
        return "is a single number"
    return f"has the shape {site.shape}" if 0 in _unit_shape(site, axes[site.name]) else ""


def run(
    traced: Traced,
    chosen: Chosen,
    *,
    gradients: bool = False,
    lean: bool = False,
    whole: bool = True,
    where: Any = None,
) -> tuple[Any, list[Record]]:
    """The function's result, and the records of the chosen sites.

    Args:
        traced: the function.
        chosen: the sites to count, with the axes of their units.
        gradients: whether the gradients are counted too.
        lean: whether only the figures are counted that a training step can afford.
        whole: whether each record holds `UnitCounts`. Otherwise those of sites that are reached once hold what had to
            be counted, and `completed_record` makes the counts of it outside of the program.
        where: which samples are counted, bool along the first axes of every input; all if None.

    Raises:
        TypeError: gradients are wanted of a function that returns no loss, or `where` is not bool.
        ValueError: gradients are wanted, and the function has no derivative.
    """
    if where is not None:
        where = jnp.asarray(where)
        if where.dtype != jnp.bool_:
            raise TypeError(
                f"{traced.who}: where gives the dtype {where.dtype}: give bool, False for padding."
            )
    assert traced.plan is not None  # there are sites
    once = frozenset(spot.site.name for spot in traced.plan.all_spots if not whole and _is_met_once(spot))
    record = functools.partial(_count, traced.who, axes=chosen.axes, lean=lean, where=where, once=once)
    result, state, counts = (
        _run_with_gradients(traced, chosen, record, where) if gradients else _run(traced, chosen, record)
    )
    traced.write_back(state)
    return result, [Record(counts[site.name], _info(site, chosen.axes[site.name])) for site in chosen.sites]


def _info(site: Site, axis: Axes) -> SiteInfo:
    shape = _unit_shape(site, axis) if isinstance(axis, tuple) else ()
    return SiteInfo(site.name, site.kind, site.source, axis, shape, _layers(site))


def _layers(site: Site) -> tuple[int, ...]:
    return tuple(loop.length for loop in site.loops if loop.over_layers)


def _is_met_once(spot: Spot) -> bool:
    """Whether nothing has to be merged into a site's record: neither steps, nor shards, nor a branch not taken."""
    return not spot.site.conditional and not spot.apart and all(loop.over_layers for loop in spot.site.loops)


def _run(traced: Traced, chosen: Chosen, record: _Count, tap: Any = None) -> tuple[Any, Any, dict[str, Any]]:
    names = frozenset(chosen.sites.names)
    visitor = Visitor(
        wants=lambda site: site.name in names,
        record=record,
        merge=append,
        stacks=lambda loop: loop.over_layers,
        tap=tap,
    )
    result, state, found = traced.run_pure(visitor)
    return result, state, {site.name: _settled(found[site.name]) for site in chosen.sites}


def _count(
    who: str,
    site: Site,
    visit: Visit,
    axes: dict[str, Axes],
    lean: bool,
    where: Array | None,
    once: frozenset[str],
) -> UnitCounts | Seen:
    numbers = _numbers(site, axes[site.name])
    z = visit.a if lean and _tells_z(site) else visit.z
    a = None if site.kind == "relu" else visit.a
    slope = _slope(site, visit, numbers)
    z, a = jax.tree.map(lambda x: units_last(x, numbers), (z, a))
    keep = _kept(who, site, where, z.shape[:-1])
    counts: UnitCounts | Seen = tally(z, a, slope, keep=keep, lean=lean, whole=site.name not in once)
    return counts


def _kept(who: str, site: Site, where: Array | None, samples: tuple[int, ...]) -> Array | None:
    """Which samples of a site are counted, of their shape."""
    if where is None:
        return None
    if where.ndim > 1 and len(samples) == 1 and samples[0] == where.size:  # (batch, length) made one axis
        where = where.reshape(-1)
    try:
        return jnp.broadcast_to(where.reshape(*where.shape, *[1] * (len(samples) - where.ndim)), samples)
    except ValueError:
        raise ValueError(
            f"{who}: where gives the shape {where.shape}, but the samples of {site.name} have the shape {samples}, "
            "which does not begin with that: choose other sites by sites=, or axes by unit_axis=."
        ) from None


def _tells_z(site: Site) -> bool:
    """Whether the output tells all that a lean count asks of z.

    A step keeps the output for the next layer, but not z: XLA would write that down for the count alone, as 8.5 MB
    beside the 104 MB of a small CNN (experiments/benchmark/results/tracing.md has what it is this way).
    """
    return site.kind == "relu" or (site.kind == "leaky_relu" and (site.negative_slope or 0) > 0)


def _slope(site: Site, visit: Visit, axes: tuple[int, ...]) -> Array | None:
    """The slope below 0: (1,) if it is a number, (units,) if it is one within each unit, else as z, units last."""
    if site.kind not in RECTIFIERS or site.kind == "relu":
        return None
    if visit.parameter is None:
        number = site.negative_slope
        return None if number is None else jnp.full(1, number, jnp.float32)
    shape = visit.z.shape
    lengths = [size if axis in axes else 1 for axis, size in enumerate(shape)]
    slope = visit.parameter.astype(jnp.float32)
    slope = slope.reshape(*[1] * (len(shape) - slope.ndim), *slope.shape)
    if all(slope.shape[axis] == 1 for axis in range(len(shape)) if axis not in axes):
        return units_last(jnp.broadcast_to(slope, lengths), axes).reshape(-1)
    return units_last(jnp.broadcast_to(slope, shape), axes)


def _settled(record: Any) -> UnitCounts | Seen:
    """What a record holds; the counts of no sample if it was never made, which is all zeros."""
    if not isinstance(record, Reached):
        settled: UnitCounts | Seen = record
        return settled
    counts: UnitCounts = record.record
    return UnitCounts(
        *(
            jnp.where(record.times.reshape(*record.times.shape, *[1] * start.ndim) == 0, start, stack)
            for start, stack in zip(init(counts.shape[-1]), counts, strict=True)
        )
    )


def _run_with_gradients(
    traced: Traced, chosen: Chosen, record: _Count, where: Array | None
) -> tuple[Any, Any, dict[str, Any]]:
    assert traced.plan is not None  # there are sites
    places = {spot.site.name: _place(spot) for spot in traced.plan.all_spots}

    def loss(zeros: dict[str, Array]) -> tuple[Array, tuple[Any, Any, dict[str, Any]]]:
        def tap(site: Site, z: Array, steps: tuple[Array, ...]) -> Array:
            layer = tuple(step for loop, step in zip(site.loops, steps, strict=True) if loop.over_layers)
            own = _counted_once(zeros[site.name][layer], places[site.name].copies)
            axes = _numbers(site, chosen.axes[site.name])
            samples = tuple(size for axis, size in enumerate(z.shape) if axis not in axes)
            keep = _kept(traced.who, site, where, samples)
            return _probe(axes, z, as_varying(own, varying_axes(jax.typeof(z))), keep)

        found = _run(traced, chosen, record, tap)
        return _scalar(traced.who, found[0]), found

    zeros = {
        site.name: as_varying(jnp.zeros(_shape(site, chosen.axes), jnp.float32), places[site.name].around)
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
        seen = counts[name]
        counts[name] = seen | {_GRADIENT: figure} if isinstance(seen, dict) else _with_gradient(seen, figure)
    return result, state, counts


class _Place(NamedTuple):
    """The mesh axes along which a site's values differ by their type.

    Attributes:
        around: axes of a shard_map around the whole function: each device counts its own share.
        copies: axes of a shard_map inside the function along which all shards hold the same.
    """

    around: frozenset[str]
    copies: frozenset[str]


def _place(spot: Spot) -> _Place:
    inside = spot.scope.mesh_sizes.keys()
    return _Place(spot.axes - inside, (spot.axes & inside) - spot.apart - {spot.units or ""})


def _counted_once(zeros: Array, copies: frozenset[str]) -> Array:
    """The zeros through whose derivative figures are summed over shards; of copies, over the first one alone."""
    for axis in sorted(copies):
        zeros = zeros * (lax.axis_index(axis) == 0)
    return zeros


def _shape(site: Site, axes: dict[str, Axes]) -> tuple[int, ...]:
    return *_layers(site), math.prod(_unit_shape(site, axes[site.name])), _FIGURES


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
def _probe(axes: tuple[int, ...], z: Array, zeros: Array, keep: Array | None) -> Array:
    del axes, zeros, keep
    return z


def _forward(axes: tuple[int, ...], z: Array, zeros: Array, keep: Array | None) -> tuple[Array, Any]:
    del axes, zeros
    return z, (jnp.isfinite(z), keep)


def _backward(
    axes: tuple[int, ...], kept: tuple[Array, Array | None], cotangent: Array
) -> tuple[Array, Array, None]:
    finite, keep = kept
    # Where z is not finite, the sample is counted as that already.
    g = units_last(jnp.where(finite, cotangent, jnp.zeros_like(cotangent)), axes)
    # Of g in place of an output: how many are not 0, and their sum.
    seen = tally(g, g, None, keep=keep, lean=True, whole=False)
    figures = [*_parts(seen["nonzero"]), *_parts(seen["nonfinite"]), seen["abs_sum"]]
    return cotangent, as_varying(jnp.stack(figures, axis=-1), varying_axes(jax.typeof(cotangent))), None


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
        grad_sum=Pair(total, (np if isinstance(total, np.ndarray) else jnp).zeros_like(total)),
        nonfinite=counts.nonfinite + _whole(figures[..., 2], figures[..., 3]),
    )


def completed_record(record: Record) -> Record:
    """A record on the host, whose counts may be what `run` was told to leave open."""
    seen: Any = record.counts
    if not isinstance(seen, dict):
        return record
    with np.errstate(all="ignore"):
        counts = completed({name: figure for name, figure in seen.items() if name != _GRADIENT})
        if _GRADIENT in seen:
            counts = _with_gradient(counts, seen[_GRADIENT])
    return Record(counts, record.info)

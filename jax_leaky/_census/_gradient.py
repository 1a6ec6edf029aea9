"""The gradient that reaches each unit, counted sample by sample.

A probe is put on z: the identity, whose derivative rule counts the cotangent dL/dz as it passes and hands the
figures on as the "gradient" of an array of zeros beside it. That needs no memory beyond O(units), works through
jit, scan, remat and custom rules, and nobody has to say with respect to what the loss is differentiated. In a sum
or mean over samples that do not meet each other, dL/dz of a sample is that of the sample's own loss, times a number.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jax_leaky._census import _visit
from jax_leaky._census._packed import pack
from jax_leaky._census._site import Record
from jax_leaky._tracing import Site, Traced
from jax_leaky.units import Pair, Wide

_FIGURES = 5
# The "gradient" of float32 zeros is float32, exact to 2^24: counts travel in two parts, so that steps of a scan add up.
_PART = 12


def run(traced: Traced, chosen: _visit.Chosen, *, lean: bool = False) -> tuple[Any, list[Record]]:
    """The function's result, and the records of the chosen sites with what their gradients are.

    Args:
        traced: the function.
        chosen: the sites to count, with the axes of their units.
        lean: as for `_visit.run`.
    """

    def loss(zeros: dict[str, Array]) -> tuple[Array, tuple[Any, Any, list[Record]]]:
        def tap(site: Site, z: Array, steps: tuple[Array, ...]) -> Array:
            layer = tuple(step for loop, step in zip(site.loops, steps, strict=True) if loop.over_layers)
            return _probe(chosen.axes[site.name], z, zeros[site.name][layer])

        seen = _visit.run_pure(traced, chosen, lean=lean, tap=tap)
        return _scalar(traced.who, seen[0]), seen

    shapes = {site.name: _shape(site, chosen.units(site)) for site in chosen.sites if not site.fixed}
    zeros = {name: jnp.zeros(shape, jnp.float32) for name, shape in shapes.items()}
    try:
        figures, (result, state, records) = jax.grad(loss, has_aux=True)(zeros)
    except ValueError as error:
        if "everse-mode differentiation" not in str(error):
            raise
        raise ValueError(
            f"{traced.who}: gradients=True needs the derivative of the loss, and there is none through a while loop: "
            "use lax.scan, or a fori_loop with a number of steps that is known."
        ) from error
    traced.write_back(state)
    # A function of whose result a derivative is taken has no derivative through what is counted.
    figures = jax.lax.stop_gradient(figures)
    return result, [_with_gradient(r, figures[r.info.name]) if r.info.name in figures else r for r in records]


def _shape(site: Site, units: int) -> tuple[int, ...]:
    layers = (loop.length for loop in site.loops if loop.over_layers)
    return *layers, units, _FIGURES


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
    samples = tuple(place for place in range(cotangent.ndim) if place != axis % cotangent.ndim)
    g = cotangent.astype(jnp.float32)
    counted = finite & jnp.isfinite(g)
    nonzero = jnp.sum(counted & (cotangent != 0), axis=samples, dtype=jnp.uint32)
    nonfinite = jnp.sum(finite & ~jnp.isfinite(g), axis=samples, dtype=jnp.uint32)
    magnitude = jnp.sum(jnp.where(counted, jnp.abs(g), 0), axis=samples)
    return cotangent, jnp.stack([*_parts(nonzero), *_parts(nonfinite), magnitude], axis=-1)


_probe.defvjp(_forward, _backward)


def _parts(count: Array) -> tuple[Array, Array]:
    return (count >> _PART).astype(jnp.float32), (count & ((1 << _PART) - 1)).astype(jnp.float32)


def _whole(high: Array, low: Array) -> Wide:
    high, low = high.astype(jnp.uint32), low.astype(jnp.uint32)
    return Wide(high >> (32 - _PART), high << _PART) + low


def _with_gradient(record: Record, figures: Array) -> Record:
    nonzero, nonfinite = _whole(figures[..., 0], figures[..., 1]), _whole(figures[..., 2], figures[..., 3])
    old = record.counts
    counts = old._replace(
        grad_n=old.n,
        grad_nonzero=nonzero,
        grad_sum=Pair(figures[..., 4], jnp.zeros_like(figures[..., 4])),
        nonfinite=old.nonfinite + Wide(nonfinite.high, nonfinite.low),
    )
    return Record(pack(counts), record.slopes, record.info)

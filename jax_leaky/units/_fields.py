"""What is remembered of a layer: one table of the figures, and the arrays that hold them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jax_leaky.units._wide import Pair, Wide, add, maximum, sum_pairs

_HALF = 0xFFFF

LARGEST = float(np.finfo(np.float32).max)
"""The greatest float32. Where no sample was seen, extremes are the wrong way round, +LARGEST to -LARGEST; where they
were not counted, -LARGEST to +LARGEST, which no merge narrows. An infinity would stop a program under `jax_debug_infs`,
NaN one under `jax_debug_nans`."""

NO_NUMBERS = (
    "these counts are not what samples gave: psum, pmean, pmax, zeros_like or an arithmetic of jax.tree.map went over "
    "their arrays, but counts, extremes and positions each merge in a way of their own. Bring the shares of devices "
    "together by all_reduce (of jax_leaky.units, or of the Census), add counts by units.merge or `+`, and begin with "
    "units.init."
)
SIDE_BY_SIDE = (
    "these counts are those of several devices side by side, as out_specs=P(axis) of shard_map and a tiled all_gather "
    "put them: bring the shares together by all_reduce (of jax_leaky.units, or of the Census) inside shard_map, and "
    "return them with out_specs=P()."
)


class Field(NamedTuple):
    """A kind of figure.

    Attributes:
        holds: `Wide` or `Pair`, which take two rows, or None for one row.
        start: the figure's value before the first sample.
        merge: the figure of two sets of samples from those of each.
        over_devices: the figure of all devices along a mesh axis, from this device's and the axis' name.
    """

    holds: type[Wide | Pair] | None
    start: float
    merge: Callable[[Any, Any], Any]
    over_devices: Callable[[Any, Any], Any]


def _parts(count: Wide) -> tuple[Array, ...]:
    # A sum of uint32 limbs would lose its carries. A sum of 16-bit parts cannot overflow 32 bits; its own
    # upper half is the carry into the next part.
    return count.low & _HALF, count.low >> 16, count.high & _HALF, count.high >> 16


def _carried(sums: tuple[Array, ...]) -> Wide:
    second = sums[1] + (sums[0] >> 16)
    third = sums[2] + (second >> 16)
    fourth = sums[3] + (third >> 16)
    return Wide((fourth << 16) | (third & _HALF), (second << 16) | (sums[0] & _HALF))


def _total(count: Wide, axis_name: Hashable) -> Wide:
    return _carried(lax.psum(_parts(count), axis_name))


def gathered(x: Array, axis_name: Hashable) -> Array:
    """An array of all devices, (devices, ...), in the order of the axis."""
    # Each device puts its own in a row of zeros, so that this psum rounds nothing; and unlike all_gather it is known to
    # shard_map to be replicated.
    devices, device = lax.axis_size(axis_name), lax.axis_index(axis_name)
    return lax.psum(jnp.zeros((devices, *x.shape), x.dtype).at[device].set(x), axis_name)


def total_before(count: Wide, axis_name: Hashable) -> Wide:
    """The sum over the devices that come before this one in the order of the axis."""
    parts = tuple(gathered(part, axis_name) for part in _parts(count))
    devices = jnp.arange(parts[0].shape[0]).reshape(-1, *[1] * count.low.ndim)
    before = devices < lax.axis_index(axis_name)
    return _carried(tuple(jnp.sum(jnp.where(before, part, 0), axis=0, dtype=part.dtype) for part in parts))


def _latest(count: Wide, axis_name: Hashable) -> Wide:
    high = lax.pmax(count.high, axis_name)
    return Wide(high, lax.pmax(jnp.where(count.high == high, count.low, jnp.uint32(0)), axis_name))


def _total_pair(pair: Pair, axis_name: Hashable) -> Pair:
    # psum would add the floats without their errors.
    return sum_pairs(jax.tree.map(lambda x: gathered(x, axis_name), pair))


def _least(first: Any, second: Any) -> Any:
    return (jnp if isinstance(first, jax.Array) else np).minimum(first, second)


def _greatest(first: Any, second: Any) -> Any:
    return (jnp if isinstance(first, jax.Array) else np).maximum(first, second)


def _both_unfired(first: Array, second: Array) -> Array:
    return first + second + np.uint32(1)


def _all_unfired(unfired: Array, axis_name: Hashable) -> Array:
    return lax.psum(unfired + np.uint32(1), axis_name) - np.uint32(1)


COUNT = Field(Wide, 0, Wide.__add__, _total)
LATEST = Field(Wide, 0, maximum, _latest)
SUM = Field(Pair, 0, add, _total_pair)
LEAST = Field(None, LARGEST, _least, lax.pmin)
GREATEST = Field(None, -LARGEST, _greatest, lax.pmax)
UNFIRED = Field(None, 0xFFFFFFFF, _both_unfired, _all_unfired)

FIELDS: dict[str, Field] = {
    "n": COUNT,
    "nonfinite": COUNT,
    "fired": COUNT,
    "nonzero": COUNT,
    "abs_sum": SUM,
    "positive_sum": SUM,
    "z_min": LEAST,
    "z_max": GREATEST,
    "end": LATEST,
    "last_fired": LATEST,
    "grad_n": COUNT,
    "grad_nonzero": COUNT,
    "grad_sum": SUM,
    "slope_min": LEAST,
    "slope_max": GREATEST,
    "slope_sum": SUM,
    "unfired": UNFIRED,
}
"""Every figure of `UnitCounts`, in the order of its documentation."""

SCALARS = frozenset({"n", "end", "grad_n"})
"""The figures that a layer has once, and not once for each unit."""

_WHOLE, _REAL, _SCALARS = range(3)


def _stack_of(name: str) -> int:
    field = FIELDS[name]
    return _SCALARS if name in SCALARS else _WHOLE if field.holds is Wide or field is UNFIRED else _REAL


def _places() -> tuple[dict[str, tuple[int, int]], list[int]]:
    places: dict[str, tuple[int, int]] = {}
    taken = [0, 0, 0]
    for name, field in FIELDS.items():
        stack = _stack_of(name)
        places[name] = stack, taken[stack]
        taken[stack] += 1 if field.holds is None else 2
    return places, taken


_PLACES, _ROWS = _places()


class _Stacks(NamedTuple):
    whole: Array
    real: Array
    scalars: Array


class UnitCounts(_Stacks):
    """All that is remembered of a layer: O(units) numbers, however many samples were seen.

    Integers are exact to 2^64, and any split of the samples and any order of merging gives the same bits. The
    four float sums are kept as compensated pairs, so that the order shows only below 2^-40 of their value.
    Samples with a non-finite value enter `n` and `nonfinite` and nothing else of their unit.

    It is a pytree of three arrays: each array that a compiled step returns costs it some microseconds, and two dozen
    small ones cost 1 % of the step of a small network with four layers. Each figure is an attribute that takes its
    rows out of them: in jit XLA removes the detour; outside of jit it holds NumPy arrays (one, or the two of a `Wide`
    or a `Pair`), since every slice of a JAX array would be compiled by itself.

    They are no numbers to add: where a psum, a pmax or `jax.tree.map(jnp.add, ...)` went over them, a figure raises on
    the host, and in a trace `summarize` gives no measure.

    Attributes:
        n: samples seen. (), as are `grad_n` and `end`; all others have the shape (units,).
        nonfinite: samples whose z, a or gradient is not finite (in float32, the widest that is accumulated).
        fired: samples with z > 0.
        nonzero: samples with a != 0.
        abs_sum: the sum of abs(a).
        positive_sum: the sum of max(z, 0).
        z_min: the least z, float32; the greatest float32 before the first sample, and minus that if not counted.
        z_max: the greatest z, float32; minus the greatest float32 before the first sample, and that if not counted.
        end: the position in the stream of samples after the last one seen.
        last_fired: 1 + the position of the last sample with z > 0; 0 when there was none.
        grad_n: samples seen with a gradient.
        grad_nonzero: samples with dL/dz != 0.
        grad_sum: the sum of abs(dL/dz).
        slope_min: the least slope below 0 that a sample met, float32; the greatest float32 where none is known.
        slope_max: the greatest slope below 0 that a sample met, float32; minus that where none is known.
        slope_sum: the sum of that slope over the samples that did not fire: `(fired + slope_sum) / n` is the mean of
            the activation's derivative.
        unfired: `-1 - fired` modulo 2^32, uint32; any other number once something went over the arrays as if they were
            plain numbers. A sum, a mean or an extreme of both keeps that only where all that it saw were the same.
    """

    __slots__ = ()

    n: Wide
    nonfinite: Wide
    fired: Wide
    nonzero: Wide
    abs_sum: Pair
    positive_sum: Pair
    z_min: Array
    z_max: Array
    end: Wide
    last_fired: Wide
    grad_n: Wide
    grad_nonzero: Wide
    grad_sum: Pair
    slope_min: Array
    slope_max: Array
    slope_sum: Pair
    unfired: Array

    def __getattr__(self, name: str) -> Any:
        """A figure of the table, from its rows.

        Raises:
            ValueError: the arrays were taken for plain numbers, or those of several devices lie side by side.
        """
        if name not in FIELDS:
            raise AttributeError(f"UnitCounts has no {name!r}: there are {', '.join(FIELDS)}.")
        if [self.whole.shape[-2], self.real.shape[-2], self.scalars.shape[-1]] != _ROWS:
            raise ValueError(SIDE_BY_SIDE)
        if self.whole.dtype != np.uint32 or not (
            isinstance(self.whole, jax.core.Tracer) or np.all(are_numbers_of_samples(self))
        ):
            raise ValueError(NO_NUMBERS)
        return self._figure(name)

    def _figure(self, name: str) -> Any:
        stack, row = _PLACES[name]
        rows = self[stack] if isinstance(self[stack], jax.core.Tracer) else np.asarray(self[stack])

        def take(row: int) -> Any:
            return rows[..., row] if stack == _SCALARS else rows[..., row, :]

        holds = FIELDS[name].holds
        return take(row) if holds is None else holds(take(row), take(row + 1))

    def __repr__(self) -> str:
        if len(getattr(self.whole, "shape", ())) < 2:
            return super().__repr__()  # JAX builds trees of other things than arrays
        units = f"<UnitCounts: {' x '.join(map(str, self.shape))} units"
        known = all(isinstance(x, np.ndarray | Array) and not isinstance(x, jax.core.Tracer) for x in self)
        if len(self.shape) > 1 or not known:
            return f"{units}>"
        try:
            return f"{units}, n = {int(self.n):,}>"
        except (ValueError, RuntimeError):  # taken for plain numbers, or donated
            return f"{units}>"

    @property
    def shape(self) -> tuple[int, ...]:
        """(units,), behind the axes of a stack of layers."""
        return (*self.whole.shape[:-2], self.whole.shape[-1])

    def to_dict(self) -> dict[str, Any]:
        """The figures by name: integers and sums as `Wide` and `Pair`, extremes as arrays."""
        return {name: getattr(self, name) for name in FIELDS}

    @classmethod
    def of(cls, figures: Mapping[str, Any]) -> UnitCounts:
        """Counts from all of their figures."""
        stacks: list[list[Any]] = [[], [], []]
        for name in FIELDS:
            stacks[_stack_of(name)] += jax.tree.leaves(figures[name])
        arrays = [
            np if all(isinstance(row, np.ndarray | np.generic) for row in rows) else jnp for rows in stacks
        ]
        return cls(
            *(
                xp.stack(rows, axis=-1 if stack == _SCALARS else -2)
                for stack, (xp, rows) in enumerate(zip(arrays, stacks, strict=True))
            )
        )

    def replaced(self, **figures: Any) -> UnitCounts:
        """The same with other values of some figures."""
        return UnitCounts.of(self.to_dict() | figures)


def are_numbers_of_samples(counts: UnitCounts) -> Any:
    """Of which units the counts are what samples gave, as far as `unfired` tells."""
    return counts._figure("fired").low + counts._figure("unfired") == np.uint32(0xFFFFFFFF)

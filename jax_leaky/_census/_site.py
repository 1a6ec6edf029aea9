"""What the census holds of one site, and what it tells about it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jax_leaky.units as units
from jax_leaky.units import Summary, UnitCounts, init
from jax_leaky.units._counts import all_append, append
from jax_leaky.units._fields import SIDE_BY_SIDE

RECTIFIERS = frozenset({"relu", "leaky_relu", "prelu"})
"""The kinds whose slope is the same on all of z < 0, so that they have a mean slope."""

Axes = int | tuple[int, ...]
LAST = -1
"""The last axis of an input, as the axis of its units; any other, and each of several, is counted from the front."""


@dataclasses.dataclass(frozen=True)
class SiteInfo:
    """What is known of a site without running it.

    Attributes:
        name: the site's name, as in `jax_leaky.Site`.
        kind: the activation: "relu", "leaky_relu", "gelu", ...
        source: the line of the model.
        unit_axis: axis of the input that holds the units, or several, counted from the front; -1 for the last one.
        unit_shape: lengths of these axes where they are several, else ().
        layers: lengths of the axes in front of the counts for the layers of scans.
    """

    name: str
    kind: str
    source: str
    unit_axis: Axes = LAST
    unit_shape: tuple[int, ...] = ()
    layers: tuple[int, ...] = ()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """The counts of a site; of a site in a scan over layers, stacked in front.

    Attributes:
        counts: what was counted.
        info: what is known without counting; static.
    """

    counts: UnitCounts
    info: SiteInfo = dataclasses.field(metadata={"static": True})

    def append(self, newer: Record) -> Record:
        """This and the samples that came after."""
        shape, other = self.counts.shape, newer.counts.shape
        if self.info.kind != newer.info.kind or shape != other:
            raise ValueError(
                f"{self.info.name} is a {self.info.kind} of {_units(shape)} in one census and a "
                f"{newer.info.kind} of {_units(other)} in the other: only censuses of the same model add up; "
                "use compare for two models."
            )
        if (self.info.unit_axis, self.info.unit_shape) != (newer.info.unit_axis, newer.info.unit_shape):
            raise ValueError(
                f"the units of {self.info.name} lie along {along(self.info)} of its input in one census and along "
                f"{along(newer.info)} in the other: take both with the same unit_axis."
            )
        return Record(append(self.counts, newer.counts), self.info)

    def summed(self) -> Record:
        """The samples of all steps along the first axis, in order."""
        start = jax.tree.map(lambda leaf: leaf[0], self).empty()
        return jax.lax.scan(lambda total, newer: (total.append(newer), None), start, self)[0]

    def empty(self) -> Record:
        """The same of no sample; the arrays of this one may be shapes alone."""
        start = init(self.counts.shape[-1])
        stacks = (jnp.broadcast_to(one, like.shape) for one, like in zip(start, self.counts, strict=True))
        return Record(UnitCounts(*stacks), self.info)

    def all_reduce(self, axis_name: Hashable) -> Record:
        """This and the samples of all other devices along a mesh axis."""
        return Record(all_append(self.counts, axis_name), self.info)

    def layers(self) -> Iterator[tuple[str, Record]]:
        """Each step of a scan over layers by itself, named `site[step]`."""
        layers = self.counts.shape[-1 - len(self.info.layers) : -1]
        if layers != self.info.layers:
            raise ValueError(SIDE_BY_SIDE)
        if isinstance(self.counts.whole, jax.core.Tracer):
            host = self
        else:
            self._refuse_other_copies()
            host = jax.device_get(self)
        for index in np.ndindex(*self.counts.shape[:-1]):
            name = f"{self.info.name}[{','.join(map(str, index))}]" if index else self.info.name
            yield name, jax.tree.map(lambda leaf, at=index: leaf[at], host)

    def _refuse_other_copies(self) -> None:
        """Without its check, shard_map believes that what devices counted by themselves is one array's copies."""
        for stack in self.counts:
            if not isinstance(stack, jax.Array) or not stack.is_fully_replicated:
                continue
            first, *others = (np.asarray(shard.data) for shard in stack.addressable_shards)
            if not all(np.array_equal(first, other, equal_nan=True) for other in others):
                raise ValueError(
                    f"the counts of {self.info.name} differ from device to device, though out_specs or out_axes says "
                    "that they do not: bring the shares together by all_reduce inside shard_map or pmap."
                )


def along(site: SiteInfo | SiteCensus) -> str:
    """The axes of a site's units in words."""
    if not isinstance(site.unit_axis, tuple):
        return f"axis {site.unit_axis}"
    lengths = " x ".join(map(str, site.unit_shape))
    return f"axes {' and '.join(map(str, site.unit_axis))} ({lengths})"


def _units(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) + " units"


class SiteCensus:
    """One site's share of a `Census`; of a site in a scan over layers, one layer's.

    Attributes:
        name: the name of the site, with the step of the scan in brackets where there is one.
        kind: the activation: "relu", "leaky_relu", "gelu", ...
        source: the line of the model.
        unit_axis: axis of the input along which units lie, or several, counted from the front; -1 for the last one.
        unit_shape: shape of the units, (units,), or the lengths of the axes where these are several.
        counts: all that was counted.
    """

    def __init__(self, name: str, record: Record, rare_below: float) -> None:
        self.name = name
        self.kind = record.info.kind
        self.source = record.info.source
        self.counts = record.counts
        self.unit_axis = record.info.unit_axis
        self.unit_shape = record.info.unit_shape or (self.units,)
        self._rare_below = rare_below

    @property
    def units(self) -> int:
        """The number of units: the length of `unit_axis` of the site's z, for a convolution its channels.

        Units along several axes are numbered in C order, in the counts and the summary too.
        """
        return self.counts.shape[-1]

    @property
    def n(self) -> int:
        """The number of samples counted; every position of a feature map is one."""
        self._refuse_tracers()
        return int(self.counts.n)

    @property
    def negative_slope(self) -> float | np.ndarray | None:
        """The slope below 0: a number, or (units,) where units differ.

        None for a kind without one, and where samples of a unit met different ones (`counts.slope_min` and
        `counts.slope_max` hold their range).
        """
        self._refuse_tracers()
        least, greatest = np.asarray(self.counts.slope_min), np.asarray(self.counts.slope_max)
        if not np.all(least == greatest):  # neither is NaN, nor unknown
            return None
        return float(str(least.flat[0])) if np.all(least == least.flat[0]) else least

    @functools.cached_property
    def summary(self) -> Summary:
        """Every measure, per unit and of the layer, as `jax_leaky.units.summarize` defines them.

        In a trace its arrays are traced, so that a compiled program can return them.
        """
        return units.summarize(self.counts, rare_below=self._rare_below)

    def to_dict(self) -> dict[str, Any]:
        """The site and its layer's measures as plain values; None where there is none, and `notes` says why."""
        slope = self.negative_slope
        about = {
            "name": self.name,
            "kind": self.kind,
            "source": self.source,
            "negative_slope": [float(str(part)) for part in slope]
            if isinstance(slope, np.ndarray)
            else slope,
            "units": self.units,
            "unit_axis": list(self.unit_axis) if isinstance(self.unit_axis, tuple) else self.unit_axis,
            "unit_shape": list(self.unit_shape),
        }
        return about | self.measures

    @functools.cached_property
    def measures(self) -> dict[str, Any]:
        """The layer's measures as plain values; None where there is none, and `notes` says why."""
        self._refuse_tracers()
        row = self.summary.to_dict()
        notes = row["notes"]
        if "mean_slope" in notes:
            notes["mean_slope"] = f"n/a: {self.kind} has no one slope below 0"
        elif np.any(self.counts.slope_min < self.counts.slope_max):
            notes["mean_slope"] = (
                "the slope below 0 differs between samples: the mean takes each sample's own"
            )
        return row

    @property
    def invalid(self) -> str:
        """Why the site has no measures, "" if it has: non-finite values, or no sample."""
        return str(self.measures["notes"].get("layer", ""))

    def per_unit(self, measure: str) -> np.ndarray:
        """A measure of every unit, NaN where there is none: "act_freq", "never_active", "grad_score", ...

        Its shape is `unit_shape`: (units,), or (heads, features) where `unit_axis` has two axes.

        Raises:
            ValueError: there is no such measure, or none of gradients in a census that counted none.
            TypeError: the census is still a part of a trace.
        """
        self._refuse_tracers()
        if measure not in self.summary.per_unit:
            raise ValueError(
                f"no measure is called {measure!r}: there are {', '.join(self.summary.per_unit)}."
            )
        if measure.startswith("grad_") and not int(self.counts.grad_n):
            none = (
                "no gradient was counted; take the census with gradients=True, which leaves out sites that are fixed "
                "in a derivative (Site.fixed says why)"
            )
            why = none if self.n else self.invalid
            raise ValueError(f"{self.name} has no {measure}: {why}.")
        return np.asarray(self.summary.per_unit[measure]).reshape(self.unit_shape)

    def where(self, property_: str) -> np.ndarray:
        """The indices of the units that have a property: "never_active", "dead", "rare", "dormant@0.025", ...

        (found,), or with units along several axes the index in each of them, (found, axes).

        Raises:
            ValueError: there is no such property, or the site cannot tell: it is invalid, or the property does not
                apply to it.
        """
        values = self.per_unit(property_)
        if np.isnan(values).any():
            reason = self.invalid or self.measures["notes"].get(property_, "not known")
            raise ValueError(f"{self.name} cannot tell which units are {property_}: {reason}.")
        if not np.isin(values, (0.0, 1.0)).all():
            raise ValueError(f"{property_} is a number, no property: use per_unit({property_!r}).")
        return np.argwhere(values) if isinstance(self.unit_axis, tuple) else np.flatnonzero(values)

    def _refuse_tracers(self) -> None:
        if isinstance(self.counts.n.low, jax.core.Tracer):
            raise TypeError(
                f"{self.name} has no numbers while it is traced: return the census from the jitted function, or what "
                "Census.scalars(), .summary.layer and .summary.per_unit give, which are arrays."
            )

    def __repr__(self) -> str:
        return f"SiteCensus({self.name!r}, {self.kind}, {self.units} units)"

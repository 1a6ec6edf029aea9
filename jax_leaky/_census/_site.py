"""What the census holds of one site, and what it tells about it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jax_leaky.units as units
from jax_leaky._census import _slopes
from jax_leaky._census._axes import LAST
from jax_leaky._census._packed import Packed, pack, unpack
from jax_leaky._census._slopes import Slopes
from jax_leaky._census._tally import append
from jax_leaky.units import Summary, UnitCounts

RECTIFIERS = frozenset({"relu", "leaky_relu", "prelu"})
"""The kinds whose slope is the same on all of z < 0, so that they have a mean slope."""


@dataclasses.dataclass(frozen=True)
class SiteInfo:
    """What is known of a site without running it.

    Attributes:
        name: as `jax_leaky._tracing.Site.name`.
        kind: "relu", "leaky_relu", "gelu", ...
        negative_slope: where it is a number in the program, else None.
        source: the line.
        unit_axis: of its input, counted from the front; -1 for the last one.
    """

    name: str
    kind: str
    negative_slope: float | None
    source: str
    unit_axis: int = LAST


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """The counts of a site; of a site in a scan over layers, stacked in front.

    Attributes:
        packed: what was counted.
        slopes: that the samples met, of an activation whose slope is no number in the program, else None.
        info: static.
    """

    packed: Packed
    slopes: Slopes | None
    info: SiteInfo = dataclasses.field(metadata={"static": True})

    @property
    def counts(self) -> UnitCounts:
        """What was counted."""
        return unpack(self.packed)

    @property
    def shape(self) -> tuple[int, ...]:
        """(units,), behind the steps of scans over layers."""
        return self.packed.whole.shape[:-2] + self.packed.whole.shape[-1:]

    def append(self, newer: Record) -> Record:
        """This and the samples that came after."""
        if self.info.kind != newer.info.kind or self.shape != newer.shape:
            raise ValueError(
                f"{self.info.name} is a {self.info.kind} of {_units(self.shape)} in one census and a "
                f"{newer.info.kind} of {_units(newer.shape)} in the other: only censuses of the same model add up; "
                "use compare for two models."
            )
        if self.info.unit_axis != newer.info.unit_axis:
            raise ValueError(
                f"the units of {self.info.name} lie along axis {self.info.unit_axis} of its input in one census and "
                f"along axis {newer.info.unit_axis} in the other: take both with the same unit_axis."
            )
        info, slopes = self.info, None
        if not (self.has_number and newer.has_number and info.negative_slope == newer.info.negative_slope):
            info = dataclasses.replace(info, negative_slope=None)
            mine, theirs = self._as_slopes(), newer._as_slopes()
            slopes = None if mine is None or theirs is None else _slopes.append(mine, theirs)
        return Record(_appended(self.packed, newer.packed), slopes, info)

    @property
    def has_number(self) -> bool:
        """Whether one number of the program, or none at all for a kind without a slope, says all of the slope."""
        return self.slopes is None and (
            self.info.negative_slope is not None or self.info.kind not in RECTIFIERS
        )

    def _as_slopes(self) -> Slopes | None:
        number = self.info.negative_slope
        return self.slopes if self.slopes is not None or number is None else _slopes.met(number, self.counts)

    def rows(self) -> Iterator[tuple[str, Record]]:
        """Each step of a scan by itself, named `site[step]`."""
        stack = self.packed.scalars.shape[:-1]
        host = self if isinstance(self.packed.whole, jax.core.Tracer) else jax.device_get(self)
        for index in np.ndindex(*stack):
            name = f"{self.info.name}[{','.join(map(str, index))}]" if index else self.info.name
            yield name, jax.tree.map(lambda leaf, at=index: leaf[at], host)


@jax.jit  # at once, outside of jit too: it is some hundred operations
def _appended(older: Packed, newer: Packed) -> Packed:
    return pack(append(unpack(older), unpack(newer)))


def _units(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) + " units"


class SiteCensus:
    """One site's share of a `Census`; of a site in a scan over layers, one layer's.

    Attributes:
        name: of the site, with the step of the scan in brackets where there is one.
        kind: "relu", "leaky_relu", "gelu", ...
        source: the line of the model.
        unit_axis: the axis of its input along which units lie, counted from the front; -1 for the last one.
        counts: all that was counted.
    """

    def __init__(self, name: str, record: Record, rare_below: float) -> None:
        self.name = name
        self.kind = record.info.kind
        self.source = record.info.source
        self.counts = record.counts
        self.unit_axis = record.info.unit_axis
        self._number, self._slopes = record.info.negative_slope, record.slopes
        self._rare_below = rare_below

    @property
    def units(self) -> int:
        """How many units the site has: the length of `unit_axis` of its z, for a convolution its channels."""
        return int(self.counts.fired.low.shape[0])

    @property
    def n(self) -> int:
        """Samples counted; every position of a feature map is one."""
        return int(self.counts.n)

    @property
    def negative_slope(self) -> float | np.ndarray | None:
        """The slope below 0: a number, (units,) where units differ.

        None for a kind without one, where it differs within a unit, and where samples met different ones
        (`slope_range`).
        """
        if self.kind not in RECTIFIERS or self.slope_range is None:
            return None
        least, greatest = self.slope_range
        if not np.all(least == greatest):  # neither is NaN
            return None
        return float(str(least.flat[0])) if np.all(least == least.flat[0]) else least

    @property
    def slope_range(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The least and the greatest slope below 0 that the samples of each unit met, (units,) both; None if unknown.

        NaN where there was no sample.
        """
        if self._slopes is not None:
            return np.asarray(self._slopes.least), np.asarray(self._slopes.greatest)
        if self._number is None:
            return None
        slopes = np.full(self.units, self._number, np.float32)
        return slopes, slopes

    @functools.cached_property
    def summary(self) -> Summary:
        """Every measure, per unit and of the layer, as `jax_leaky.units.summarize` defines them. Works in jit."""
        slopes = self._slopes
        if self.kind not in RECTIFIERS:
            summary = units.summarize(self.counts, rare_below=self._rare_below)
            return _with_mean_slope(summary, jnp.full(self.units, jnp.nan))
        if slopes is None:
            number = jnp.nan if self._number is None else self._number
            return units.summarize(self.counts, negative_slope=number, rare_below=self._rare_below)
        one = jnp.where(slopes.differ, jnp.nan, slopes.least)
        summary = units.summarize(self.counts, negative_slope=one, rare_below=self._rare_below)
        # By jnp: NumPy would warn of 0 / 0 where there was no sample.
        mean = summary.per_unit["act_freq"] + jnp.divide(slopes.below.high, self.counts.n.to_float())
        return _with_mean_slope(summary, jnp.where(slopes.differ, mean, summary.per_unit["mean_slope"]))

    @functools.cached_property
    def row(self) -> dict[str, Any]:
        """The layer's measures as plain values; None where there is none, and `notes` says why."""
        row = self.summary.to_row()
        notes = row["notes"]
        if self.kind not in RECTIFIERS and not notes.get("layer"):
            notes["mean_slope"] = f"n/a: {self.kind} has no one slope below 0"
        elif self._slopes is None and self._number is None:
            notes["mean_slope"] = notes["dead"] = "n/a: the slope differs within a unit"
        elif self._slopes is not None and np.any(self._slopes.least < self._slopes.greatest):
            notes["mean_slope"] = (
                "the slope below 0 differs between samples: the mean takes each sample's own"
            )
        return row

    @property
    def invalid(self) -> str:
        """Why the site has no measures, "" if it has: non-finite values, or no sample."""
        return str(self.row["notes"].get("layer", ""))

    def per_unit(self, measure: str) -> np.ndarray:
        """A measure of every unit, (units,), NaN where there is none: "act_freq", "never_active", "grad_score", ...

        Raises:
            ValueError: there is no such measure.
        """
        if measure not in self.summary.per_unit:
            raise ValueError(
                f"no measure is called {measure!r}: there are {', '.join(self.summary.per_unit)}."
            )
        return np.asarray(self.summary.per_unit[measure])

    def where(self, property_: str) -> np.ndarray:
        """The indices of the units that have a property: "never_active", "dead", "rare", "dormant@0.025", ...

        Raises:
            ValueError: there is no such property, or the site cannot tell: it is invalid, or the property does not
                apply to it.
        """
        values = self.per_unit(property_)
        if np.isnan(values).any():
            reason = self.invalid or self.row["notes"].get(property_, "not known")
            raise ValueError(f"{self.name} cannot tell which units are {property_}: {reason}.")
        if not np.isin(values, (0.0, 1.0)).all():
            raise ValueError(f"{property_} is a number, no property: use per_unit({property_!r}).")
        return np.flatnonzero(values)

    def __repr__(self) -> str:
        return f"SiteCensus({self.name!r}, {self.kind}, {self.units} units)"


def _with_mean_slope(summary: Summary, slope: Any) -> Summary:
    return summary._replace(
        per_unit=summary.per_unit | {"mean_slope": slope},
        layer=summary.layer | {"mean_slope": jnp.mean(slope)},
    )

"""What the census holds of one site, and what it tells about it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jax_leaky.units as units
from jax_leaky._census._packed import Packed, pack, unpack
from jax_leaky._census._tally import append
from jax_leaky.units import Summary, UnitCounts

RECTIFIERS = frozenset({"relu", "leaky_relu", "prelu"})
"""The kinds whose slope is the same on all of z < 0, so that they have a mean slope."""


@dataclasses.dataclass(frozen=True)
class SiteInfo:
    """What is known of a site without running it.

    Attributes:
        name: as `jax_leaky.tracing.Site.name`.
        kind: "relu", "leaky_relu", "gelu", ...
        negative_slope: where it is a number in the program, else None.
        source: the line.
    """

    name: str
    kind: str
    negative_slope: float | None
    source: str


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """The counts of a site; of a site in a scan over layers, stacked in front.

    Attributes:
        packed: what was counted.
        slope: (units,), of an activation whose slope is no number in the program, else None.
        info: static.
    """

    packed: Packed
    slope: Array | None
    info: SiteInfo = dataclasses.field(metadata={"static": True})

    @property
    def counts(self) -> UnitCounts:
        """What was counted."""
        return unpack(self.packed)

    def append(self, newer: Record) -> Record:
        """This and the samples that came after."""
        mine, theirs = (
            record.packed.whole.shape[:-2] + record.packed.whole.shape[-1:] for record in (self, newer)
        )
        if self.info.kind != newer.info.kind or mine != theirs:
            raise ValueError(
                f"{self.info.name} is a {self.info.kind} of {_units(mine)} in one census and a {newer.info.kind} of "
                f"{_units(theirs)} in the other: only censuses of the same model add up; use compare for two models."
            )
        return Record(_appended(self.packed, newer.packed), newer.slope, self.info)

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
        counts: all that was counted.
    """

    def __init__(self, name: str, record: Record, rare_below: float) -> None:
        self.name = name
        self.kind = record.info.kind
        self.source = record.info.source
        self.counts = record.counts
        self._slope = record.info.negative_slope if record.slope is None else record.slope
        self._rare_below = rare_below

    @property
    def units(self) -> int:
        """How many units the site has: the last axis of its z, a convolution's channels."""
        return int(self.counts.fired.low.shape[0])

    @property
    def n(self) -> int:
        """Samples counted; every position of a feature map is one."""
        return int(self.counts.n)

    @property
    def negative_slope(self) -> float | np.ndarray | None:
        """The slope below 0: a number, (units,) where units differ, None for a kind without one."""
        if self.kind not in RECTIFIERS or self._slope is None:
            return None
        slope = np.asarray(self._slope, np.float32)
        return float(str(slope.flat[0])) if np.all(slope == slope.flat[0]) else slope

    @functools.cached_property
    def summary(self) -> Summary:
        """Every measure, per unit and of the layer, as `jax_leaky.units.summarize` defines them. Works in jit."""
        if self.kind in RECTIFIERS:
            slope = jnp.nan if self._slope is None else self._slope
            return units.summarize(self.counts, negative_slope=slope, rare_below=self._rare_below)
        summary = units.summarize(self.counts, rare_below=self._rare_below)
        no_slope = {"slope": jnp.full(self.units, jnp.nan)}
        return summary._replace(
            per_unit=summary.per_unit | no_slope, layer=summary.layer | {"slope": jnp.float32(jnp.nan)}
        )

    @functools.cached_property
    def row(self) -> dict[str, Any]:
        """The layer's measures as plain values; None where there is none, and `notes` says why."""
        row = self.summary.to_row()
        if self.kind not in RECTIFIERS and not row["notes"].get("layer"):
            row["notes"]["slope"] = f"n/a: {self.kind} has no one slope below 0"
        elif self._slope is None:
            row["notes"]["slope"] = row["notes"]["dead"] = "n/a: the slope differs within a unit"
        return row

    @property
    def invalid(self) -> str:
        """Why the site has no measures, "" if it has: non-finite values, or no sample."""
        return str(self.row["notes"].get("layer", ""))

    def per_unit(self, measure: str) -> np.ndarray:
        """A measure of every unit, (units,), NaN where there is none: "act_freq", "always_negative", "grad_score", ...

        Raises:
            ValueError: there is no such measure.
        """
        if measure not in self.summary.per_unit:
            raise ValueError(
                f"no measure is called {measure!r}: there are {', '.join(self.summary.per_unit)}."
            )
        return np.asarray(self.summary.per_unit[measure])

    def where(self, property_: str) -> np.ndarray:
        """The indices of the units that have a property: "always_negative", "dead", "rare", "dormant@0.025", ...

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

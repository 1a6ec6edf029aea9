"""A census as strict JSON and back: measures for others to read, and the exact counts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from jax_leaky._census._axes import LAST
from jax_leaky._census._packed import pack
from jax_leaky._census._site import Record, SiteCensus, SiteInfo
from jax_leaky._census._slopes import Slopes, met
from jax_leaky._tracing import Opaque
from jax_leaky.units import Pair, UnitCounts, Wide

if TYPE_CHECKING:
    from jax_leaky._census._result import Census

_FORMAT = "jax_leaky.census 2"
_FORMER = "jax_leaky.census 1"  # which knew of one slope for all samples, and of units on the last axis alone
# What null stands for before the first finite sample; JSON has neither infinity nor NaN.
_EMPTY = {"z_min": math.inf, "z_max": -math.inf}


def dumps(census: Census, records: Iterable[Record]) -> str:
    """The whole census; a float32 is written so that it reads back as the same bits."""
    whole = {
        "format": _FORMAT,
        "rare_below": census.rare_below,
        "opaque": [{"what": part.what, "why": part.why, "source": part.source} for part in census.opaque],
        "sites": [site_row(site) for site in census],
        "records": [_record(record) for record in records],
    }
    return json.dumps(whole, allow_nan=False)


def site_row(site: SiteCensus) -> dict[str, Any]:
    """A site's measures as plain values."""
    slope = site.negative_slope
    about = {
        "name": site.name,
        "kind": site.kind,
        "source": site.source,
        "negative_slope": _numbers(slope) if isinstance(slope, np.ndarray) else slope,
        "units": site.units,
        "unit_axis": site.unit_axis,
    }
    return about | site.row


def loads(text: str) -> tuple[list[Record], list[Opaque], float]:
    """The records, what is opaque, and the bound of `rare`.

    Raises:
        ValueError: the text is not what `dumps` wrote.
    """
    try:
        whole = json.loads(text)
        if whole["format"] not in (_FORMAT, _FORMER):
            raise ValueError(f"unknown format {whole['format']!r}")
        records = [_read(record) for record in whole["records"]]
        return records, [Opaque(**part) for part in whole["opaque"]], float(whole["rare_below"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"text is not the JSON of a census ({error}): give what Census.to_json wrote."
        ) from error


def _record(record: Record) -> dict[str, Any]:
    counts = {name: _plain(value) for name, value in record.counts._asdict().items()}
    slopes = record.slopes
    info = record.info
    return {
        "name": info.name,
        "kind": info.kind,
        "source": info.source,
        "negative_slope": info.negative_slope,
        "unit_axis": info.unit_axis,
        "slopes": None
        if slopes is None
        else {name: _plain(value) for name, value in slopes._asdict().items()},
        "counts": counts,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Wide):
        return value.to_numpy().tolist()
    if isinstance(value, Pair):
        return {"high": _numbers(value.high), "low": _numbers(value.low)}
    return _numbers(value)


def _numbers(array: Any) -> Any:
    """Nested lists; by way of the shortest decimal that float32 reads back."""
    array = np.asarray(array, np.float32)
    if array.ndim:
        return [_numbers(part) for part in array]
    return float(str(array)) if np.isfinite(array) else None


def _read(record: dict[str, Any]) -> Record:
    fields: dict[str, Any] = {}
    for name in UnitCounts._fields:
        value = record["counts"][name]
        if name.endswith("_sum"):
            fields[name] = Pair(_floats(value["high"]), _floats(value["low"]))
        elif name in _EMPTY:
            # A unit whose samples are all non-finite has no extremes either.
            seen = np.asarray(record["counts"]["n"])[..., None] > np.asarray(record["counts"]["nonfinite"])
            fields[name] = jnp.where(seen, _floats(value), _EMPTY[name])
        else:
            whole = np.asarray(value, np.uint64)
            fields[name] = Wide(
                jnp.asarray(whole >> 32, jnp.uint32), jnp.asarray(whole & 0xFFFFFFFF, jnp.uint32)
            )
    counts = UnitCounts(**fields)
    axis = int(record.get("unit_axis", LAST))
    info = SiteInfo(record["name"], record["kind"], record["negative_slope"], record["source"], axis)
    return Record(pack(counts), _read_slopes(record, counts), info)


def _read_slopes(record: dict[str, Any], counts: UnitCounts) -> Slopes | None:
    if "slope" in record:  # of the former format
        return None if record["slope"] is None else met(_floats(record["slope"]), counts)
    slopes = record["slopes"]
    if slopes is None:
        return None
    below = Pair(_floats(slopes["below"]["high"]), _floats(slopes["below"]["low"]))
    return Slopes(_floats(slopes["least"]), _floats(slopes["greatest"]), below)


def _floats(value: Any) -> Any:
    return jnp.asarray(np.asarray(value, np.float32))  # which takes None for NaN


def write(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text beside its place, then moves it there."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read(path: str | os.PathLike[str]) -> str:
    """The text of a file."""
    return Path(path).read_text(encoding="utf-8")

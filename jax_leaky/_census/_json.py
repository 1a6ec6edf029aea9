"""A census as strict JSON and back: measures for others to read, and the exact counts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jax_leaky._census._site import Record, SiteCensus, SiteInfo
from jax_leaky._tracing import Opaque
from jax_leaky.units import UnitCounts
from jax_leaky.units._fields import FIELDS
from jax_leaky.units._wide import Pair, Wide

_FORMAT = "jax_leaky.census 5"


def dumps(
    records: Iterable[Record], sites: Iterable[SiteCensus], opaque: Sequence[Opaque], rare_below: float
) -> str:
    """The whole census; a float32 is written so that it reads back as the same bits."""
    whole = {
        "format": _FORMAT,
        "rare_below": rare_below,
        "opaque": [{"what": part.what, "why": part.why, "source": part.source} for part in opaque],
        "sites": [site.to_dict() for site in sites],
        "records": [_record(record) for record in records],
    }
    return json.dumps(whole, allow_nan=False)


def loads(text: str | bytes, source: str = "text") -> tuple[list[Record], list[Opaque], float]:
    """The records, what is opaque, and the bound of `rare`.

    Args:
        text: what `dumps` wrote.
        source: name of the text in errors.

    Raises:
        ValueError: the text is not what `dumps` wrote.
    """
    try:
        whole = json.loads(text)
        if whole["format"] != _FORMAT:
            raise ValueError(f"its format is {whole['format']!r}, that of this version is {_FORMAT!r}")
        records = [_read(record) for record in whole["records"]]
        return records, [Opaque(**part) for part in whole["opaque"]], float(whole["rare_below"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ValueError(
            f"{source} is not the JSON of a census that this version of jax_leaky reads ({why}): give what its "
            "Census.to_json wrote."
        ) from error


def _record(record: Record) -> dict[str, Any]:
    info = record.info
    return {
        "name": info.name,
        "kind": info.kind,
        "source": info.source,
        "unit_axis": info.unit_axis,
        "unit_shape": info.unit_shape,
        "layers": info.layers,
        "counts": {
            name: _plain(value) for name, value in record.counts.to_dict().items() if name != "unfired"
        },
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Wide):
        return value.to_numpy().tolist()
    if isinstance(value, Pair):
        return {"high": _numbers(value.high), "low": _numbers(value.low)}
    return _numbers(value)


def _numbers(array: Any) -> Any:
    """Nested lists; by way of the shortest decimal that float32 reads back. JSON has neither infinity nor NaN."""
    array = np.asarray(array, np.float32)
    if array.ndim:
        return [_numbers(part) for part in array]
    return float(str(array)) if np.isfinite(array) else str(array)


def _read(record: dict[str, Any]) -> Record:
    counts: dict[str, Any] = {
        name: _figure(field.holds, record["counts"][name])
        for name, field in FIELDS.items()
        if name != "unfired"
    }
    counts["unfired"] = ~counts["fired"].low
    axis = record["unit_axis"]
    axes = tuple(map(int, axis)) if isinstance(axis, list) else int(axis)
    shape = tuple(map(int, record["unit_shape"]))
    info = SiteInfo(
        record["name"], record["kind"], record["source"], axes, shape, tuple(map(int, record["layers"]))
    )
    return Record(UnitCounts.of(counts), info)


def _figure(holds: Any, value: Any) -> Any:
    parts: Any
    if holds is Wide:
        whole = np.asarray(value, np.uint64)
        parts = (whole >> np.uint64(32)).astype(np.uint32), (whole & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        return Wide(*parts)
    if holds is Pair:
        parts = (np.asarray(value[part], np.float32) for part in ("high", "low"))
        return Pair(*parts)
    return np.asarray(value, np.float32)


def write(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text beside its place, then moves it there."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}.") from None
    finally:
        unfinished.unlink(missing_ok=True)


def read(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file; what is no text is refused as no census by `loads`."""
    return Path(path).read_bytes()

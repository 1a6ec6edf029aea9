"""What dead units cost: the parameters and the multiplications that a network would lose with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class SiteWaste:
    """What the dead units of one site cost.

    Attributes:
        dead: number of dead units.
        units: number of units.
        parameters: number of parameter entries that feed or read dead units.
        multiplications: number of multiplications by these entries in a forward pass.
        reason: reason why this is not known, "" if it is; the numbers are 0 then.
        by_bounds: number of dead units that give 0 on all data in a range; None where no range was asked for.
    """

    dead: int
    units: int
    parameters: int
    multiplications: int
    reason: str = ""
    by_bounds: int | None = None


@dataclasses.dataclass(frozen=True)
class Waste:
    """What dead units cost a network; printed, a table.

    What two dead units share, such as the weight from one to the other, counts once in the numbers of the whole
    network, so that these are less than the sums over the sites. Sites whose cost is not known add nothing to them.

    Attributes:
        sites: what the dead units of each site cost, by the site's name.
        parameters: number of parameter entries that feed or read dead units.
        all_parameters: number of parameter entries of the network.
        multiplications: number of multiplications by these entries in a forward pass.
        all_multiplications: number of multiplications of data by weights in a forward pass.
    """

    sites: Mapping[str, SiteWaste]
    parameters: int
    all_parameters: int
    multiplications: int
    all_multiplications: int

    def __str__(self) -> str:
        bounds = any(own.by_bounds is not None for own in self.sites.values())
        rows: list[tuple[str, ...]] = [
            ("site", "dead", *["by bounds"] * bounds, "parameters", "multiplications", "reason")
        ]
        for name, own in self.sites.items():
            numbers = [
                f"{own.dead} of {own.units}",
                *["-" if own.by_bounds is None else f"{own.by_bounds}"] * bounds,
            ]
            numbers += [f"{own.parameters:,}", f"{own.multiplications:,}"]
            rows.append((name, *(["-"] * len(numbers) if own.reason else numbers), own.reason))
        parameters = _share(self.parameters, self.all_parameters)
        multiplications = _share(self.multiplications, self.all_multiplications)
        rows.append(("in all", "", *[""] * bounds, parameters, multiplications, ""))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
        return "\n".join(lines)

    __repr__ = __str__


def masks_of(dead: Any, units: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, Any], dict[str, str]]:
    """The dead units of each site from a census, and for other sites the reason why they are not known.

    Raises:
        TypeError: `dead` is neither a census nor a dictionary of masks.
        ValueError: the census has other units than the wiring.
    """
    if isinstance(dead, Mapping):
        return dict(dead), {}
    if not hasattr(dead, "sites"):
        raise TypeError(f"waste: dead must be a census or a dictionary of masks, got {type(dead).__name__}.")
    masks, reasons = {}, {}
    for name, shape in units.items():
        rows = []
        for index in np.ndindex(*shape[:-1]):
            row = f"{name}[{','.join(map(str, index))}]" if index else name
            if row not in dead.sites:
                reasons[name] = "the census has no such site"
                break
            site = dead.sites[row]
            values = site.per_unit("dead")
            if np.isnan(values).any():
                reasons[name] = site.invalid or site.measures["notes"].get("dead", "not known")
                break
            rows.append(values == 1)
        if name in reasons or not shape:
            continue
        if any(row.shape != shape[-1:] for row in rows):
            raise ValueError(
                f"waste: {name} has {rows[0].size} units in the census and {shape[-1]} in the wiring: take both with "
                "the same unit_axis."
            )
        masks[name] = np.reshape(rows, shape)
    return masks, reasons


def union(parts: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """The entries of a parameter that any of some parts holds; a part may be None."""
    held = [np.asarray(part) for part in parts if part is not None]
    return np.logical_or.reduce([np.zeros(shape, bool), *held])


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / whole:.1%})" if whole else f"{part:,} of {whole:,}"

"""A census folded by module: a row for each, where one for each activation would be too many to read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from jax_leaky._census._show import NOT_KNOWN, share, text_table
from jax_leaky._census._site import SiteCensus
from jax_leaky.units._summary import plain

_SHARES = ("act_freq", "never_active", "dead", "rare", "always_active", "linear", "mean_slope", "grad_dead")


@dataclasses.dataclass(frozen=True)
class ModuleCensus:
    """The sites of one module.

    Attributes:
        name: path of the module, as the names of its sites begin; "" for sites outside of any.
        sites: sites of the module and of the modules inside it that are folded into it, in the order of the program.
    """

    name: str
    sites: tuple[SiteCensus, ...]

    @property
    def units(self) -> int:
        """The number of units of all sites."""
        return sum(site.units for site in self.sites)

    def to_dict(self) -> dict[str, Any]:
        """The module's measures as plain values, each the mean over the units of all its sites.

        None stands where a site has no value for a unit: a mean over the others alone would not be that of the module.
        `invalid` names the sites with non-finite values or without a sample.
        """
        row: dict[str, Any] = {
            "name": self.name,
            "sites": len(self.sites),
            "units": self.units,
            "nonfinite": sum(site.measures["nonfinite"] for site in self.sites),
            "invalid": [site.name for site in self.sites if site.invalid],
        }
        for measure in _SHARES:
            values = np.concatenate([site.summary.per_unit[measure] for site in self.sites])
            row[measure] = plain(np.mean(values, dtype=np.float64))
        return row


class Modules(tuple[ModuleCensus, ...]):
    """The modules of a census in the order of the program, from `Census.by_module`; printed, a table."""

    __slots__ = ()

    def to_dicts(self) -> list[dict[str, Any]]:
        """The modules as plain values, a dict for each."""
        return [module.to_dict() for module in self]

    def __str__(self) -> str:
        head = ("module", "sites", "units", "never active", "dead", "rare", "always active", "mean slope")
        lines = [head, *(_cells(row) for row in self.to_dicts())]
        table = text_table(lines, [True] + [False] * (len(head) - 1))
        invalid = [
            f"{site.name} is {site.invalid}" for module in self for site in module.sites if site.invalid
        ]
        return "\n".join([*table, *invalid])


def by_module(sites: Iterable[SiteCensus], depth: int | None) -> Modules:
    """The sites folded by the first `depth` parts of the path of their module, by all parts if None."""
    if depth is not None and depth < 1:
        raise ValueError(f"by_module: depth={depth} is not a number of parts of a path: give 1 or more.")
    folded: dict[str, list[SiteCensus]] = {}
    for site in sites:
        path, _, activation = site.name.rpartition("/")
        # Where no module has a name, a site is named by its line: "model.py:12 relu".
        place = path or activation.rpartition(" ")[0]
        folded.setdefault("/".join(place.split("/")[:depth]), []).append(site)
    return Modules(ModuleCensus(name, tuple(of_module)) for name, of_module in folded.items())


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    head = (row["name"] or NOT_KNOWN, str(row["sites"]), f"{row['units']:,}")
    if row["invalid"]:
        return (*head, "invalid", *[NOT_KNOWN] * 4)
    shares = (share(row[measure]) for measure in ("never_active", "dead", "rare", "always_active"))
    return (*head, *shares, NOT_KNOWN if row["mean_slope"] is None else f"{row['mean_slope']:.3f}")

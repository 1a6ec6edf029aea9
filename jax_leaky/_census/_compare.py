"""Two censuses of a model, or of two variants of it: which units died, which revived."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from jax_leaky import units
from jax_leaky._census._show import share, slope, text_table
from jax_leaky._census._site import SiteCensus
from jax_leaky.units import Transitions


@dataclasses.dataclass(frozen=True)
class SiteChange:
    """What changed at one site.

    Attributes:
        before: the site in the first census.
        after: counts of the site in the second census.
        transitions: died, revived and their shares; NaN where a side is invalid.
    """

    before: SiteCensus
    after: SiteCensus
    transitions: Transitions

    def to_dict(self) -> dict[str, Any]:
        """The change as plain values; None where there is none."""
        about = {"before": self.before.name, "after": self.after.name, "units": self.after.units}
        measures = {
            f"{name}_{when}": site.measures[name]
            for name in ("never_active", "mean_slope")
            for when, site in (("before", self.before), ("after", self.after))
        }
        return about | self.transitions.to_dict() | measures


@dataclasses.dataclass(frozen=True, repr=False)
class Changes:
    """What `Census.compare` found; printed, a table.

    Attributes:
        sites: what changed at the sites that both hold.
        only_before: names of the sites that only the first holds.
        only_after: names of the sites that only the second holds.
    """

    sites: tuple[SiteChange, ...]
    only_before: tuple[str, ...] = ()
    only_after: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Changes at {len(self.sites)} site{'s' * (len(self.sites) != 1)}>"

    def to_dicts(self) -> list[dict[str, Any]]:
        """The changes as plain values, a dict per site."""
        return [site.to_dict() for site in self.sites]

    def __str__(self) -> str:
        lines = [("site", "slope", "units", "never active", "died", "revived", "mean slope")]
        for site in self.sites:
            row = site.to_dict()
            negative = _arrow(*(share(row[f"never_active_{when}"]) for when in ("before", "after")))
            steepness = _arrow(*(_number(row[f"mean_slope_{when}"]) for when in ("before", "after")))
            slopes = _arrow(slope(site.before), slope(site.after))
            lines.append(
                (
                    row["before"],
                    slopes,
                    f"{row['units']:,}",
                    negative,
                    _count(row["died"]),
                    _count(row["revived"]),
                    steepness,
                )
            )
        table = text_table(lines, [True] * len(lines[0]))
        renamed = dict.fromkeys(
            _renamed(site.before.name, site.after.name)
            for site in self.sites
            if site.before.name != site.after.name
        )
        notes = [f"after: {after} in the place of {before}" for before, after in renamed]
        notes += [f"only before: {name}" for name in self.only_before]
        return "\n".join([*table, *notes, *(f"only after: {name}" for name in self.only_after)])


def changes(before: Mapping[str, SiteCensus], after: Mapping[str, SiteCensus]) -> Changes:
    """What changed between the sites of two censuses; `Census.compare` says how they are paired.

    Raises:
        ValueError: the two have no site in common.
    """
    if [site.units for site in before.values()] == [site.units for site in after.values()]:
        pairs = list(zip(before.values(), after.values(), strict=True))
    else:
        pairs = [
            (site, after[name])
            for name, site in before.items()
            if name in after and after[name].units == site.units
        ]
    if not pairs:
        raise ValueError("compare: the two censuses have no site in common: give two of the same model.")
    old, new = {one.name for one, _ in pairs}, {two.name for _, two in pairs}
    return Changes(
        tuple(SiteChange(one, two, _transitions(one, two)) for one, two in pairs),
        tuple(name for name in before if name not in old),
        tuple(name for name in after if name not in new),
    )


def _transitions(before: SiteCensus, after: SiteCensus) -> Transitions:
    masks = [site.summary.per_unit["never_active"] for site in (before, after)]
    return units.transitions(*masks)


def _renamed(before: str, after: str) -> tuple[str, str]:
    """What differs between two names, where it is the word before their number: relu and leaky_relu of a/relu_1."""
    (parent, kind, number), (new_parent, new_kind, new_number) = (
        re.fullmatch(r"(.*/)?(.*?)(_\d+)?", name, re.DOTALL).groups()  # type: ignore[union-attr] # any name matches
        for name in (before, after)
    )
    return (kind, new_kind) if (parent, number) == (new_parent, new_number) else (before, after)


def _arrow(before: str, after: str) -> str:
    return before if before == after else f"{before} -> {after}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"

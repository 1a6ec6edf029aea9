"""Two looks at a model, or at two variants of it: which units died, which revived."""

from __future__ import annotations

import dataclasses
from typing import Any

from jax_leaky import units
from jax_leaky._census._result import Census
from jax_leaky._census._show import share, slope
from jax_leaky._census._site import SiteCensus
from jax_leaky.units import Transitions


@dataclasses.dataclass(frozen=True)
class SiteChange:
    """What changed at one site.

    Attributes:
        before: the site in the first census.
        after: the same in the second.
        transitions: died, revived and their shares; NaN where a side is invalid.
    """

    before: SiteCensus
    after: SiteCensus
    transitions: Transitions

    def row(self) -> dict[str, Any]:
        """The change as plain values; None where there is none."""
        about = {"before": self.before.name, "after": self.after.name, "units": self.after.units}
        measures = {
            f"{name}_{when}": site.row[name]
            for name in ("never_active", "mean_slope")
            for when, site in (("before", self.before), ("after", self.after))
        }
        return about | self.transitions.to_row() | measures


@dataclasses.dataclass(frozen=True)
class Changes:
    """What `compare` found; printed, a table.

    Attributes:
        sites: what changed at the sites that both hold.
        only_before: names of the sites that only the first holds.
        only_after: names of the sites that only the second holds.
    """

    sites: tuple[SiteChange, ...]
    only_before: tuple[str, ...] = ()
    only_after: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """The changes as plain values, a dict per site."""
        return [site.row() for site in self.sites]

    def __str__(self) -> str:
        lines = [("site", "slope", "units", "never active", "died", "revived", "mean slope")]
        for site in self.sites:
            row = site.row()
            name = row["after"] if row["before"] == row["after"] else f"{row['before']} -> {row['after']}"
            negative = _arrow(*(share(row[f"never_active_{when}"]) for when in ("before", "after")))
            steepness = _arrow(*(_number(row[f"mean_slope_{when}"]) for when in ("before", "after")))
            slopes = _arrow(slope(site.before), slope(site.after))
            lines.append(
                (
                    name,
                    slopes,
                    f"{row['units']:,}",
                    negative,
                    _count(row["died"]),
                    _count(row["revived"]),
                    steepness,
                )
            )
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        table = [
            "  ".join(cell.ljust(width) for cell, width in zip(c, widths, strict=True)).rstrip()
            for c in lines
        ]
        alone = [f"only before: {name}" for name in self.only_before]
        return "\n".join([*table, *alone, *(f"only after: {name}" for name in self.only_after)])


def compare(before: Census, after: Census) -> Changes:
    """Which units died and which revived between two censuses: of a model at two times, or of two variants of it.

    A unit died that was alive before and is never active now. Sites are paired in the order of the program where
    both censuses hold as many sites with the same numbers of units, so that a model is also compared with one whose
    activations were swapped; otherwise by name. Both should have seen the same samples.

    Raises:
        TypeError: one of the two is no census.
        ValueError: the two have no site in common.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jax_leaky import census, compare
        >>> def layer(bias, x):
        ...     with jax.named_scope("layer"):
        ...         return jax.nn.relu(x + bias)
        >>> x = jnp.zeros((100, 2))
        >>> before, after = (census(layer, [(jnp.array(b), x)]) for b in ([1.0, -1.0], [-1.0, -1.0]))
        >>> row = compare(before, after).rows()[0]
        >>> row["died"], row["revived"], row["never_active_after"]
        (1, 0, 1.0)
    """
    for name, value in (("before", before), ("after", after)):
        if not isinstance(value, Census):
            raise TypeError(f"compare: {name} is of type {type(value).__name__}: give a census.")
    if [site.units for site in before] == [site.units for site in after]:
        pairs = list(zip(before, after, strict=True))
    else:
        pairs = [
            (site, after.sites[site.name])
            for site in before
            if site.name in after.sites and after.sites[site.name].units == site.units
        ]
    if not pairs:
        raise ValueError("compare: the two censuses have no site in common: give two of the same model.")
    old, new = {one.name for one, _ in pairs}, {two.name for _, two in pairs}
    return Changes(
        tuple(SiteChange(one, two, _transitions(one, two)) for one, two in pairs),
        tuple(site.name for site in before if site.name not in old),
        tuple(site.name for site in after if site.name not in new),
    )


def _transitions(before: SiteCensus, after: SiteCensus) -> Transitions:
    masks = [site.summary.per_unit["never_active"] for site in (before, after)]
    return units.transitions(*masks)


def _arrow(before: str, after: str) -> str:
    return before if before == after else f"{before} -> {after}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"

"""Which axis of an activation's input holds the units."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from jax_leaky._tracing import Site, SiteList

UnitAxis = int | Mapping[str, int]
LAST = -1


def unit_axes(who: str, sites: SiteList, chosen: SiteList, unit_axis: Any) -> dict[str, int]:
    """The axis of every chosen site whose input has one: `LAST`, or its number counted from the front.

    Raises:
        TypeError: an axis is no integer.
        ValueError: an axis is not among those of a site's input, or no site has a name that is given.
    """
    if isinstance(unit_axis, Mapping):
        axes: dict[str, Any] = {}
        for pattern, axis in unit_axis.items():
            axes |= dict.fromkeys(sites.select(pattern).names, axis)
    else:
        axes = dict.fromkeys(sites.names, unit_axis)
    return {site.name: _axis(who, site, axes.get(site.name, LAST)) for site in chosen if site.shape}


def _axis(who: str, site: Site, axis: Any) -> int:
    try:
        axis = operator.index(axis)
    except TypeError:
        raise TypeError(
            f"{who}: unit_axis={axis!r} is no integer, nor a dict from sites to integers."
        ) from None
    axes = len(site.shape)
    if not -axes <= axis < axes:
        raise ValueError(
            f"{who}: unit_axis={axis} is no axis of the input of {site.name}, whose shape is {site.shape}: give one "
            "from the front or from the back, or a dict with an axis for each site that differs."
        )
    return LAST if axis % axes == axes - 1 else axis % axes

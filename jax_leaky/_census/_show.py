"""The table of a census: as plain text, and for a terminal."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jax_leaky._census._axes import LAST
from jax_leaky._census._site import RECTIFIERS, SiteCensus
from jax_leaky._tracing import Opaque

if TYPE_CHECKING:
    import rich.table

    from jax_leaky._census._result import Census

NOT_KNOWN = "-"
BY_CONSTRUCTION = "n/a"


class Column(NamedTuple):
    """A column: its head, how a site's cell reads, and whether it holds words."""

    head: str
    cell: Callable[[SiteCensus], str]
    words: bool = False


def columns(census: Census) -> list[Column]:
    """The columns, those of the gradients where gradients were counted."""
    shown = [
        Column("site", lambda site: site.name, True),
        Column("kind", lambda site: site.kind, True),
        Column("slope", slope),
        Column("units", lambda site: f"{site.units:,}"),
        Column("n", lambda site: f"{site.n:,}"),
        Column("never active", _never_active),
        Column("dead", _dead),
        Column("rare", functools.partial(_percent, measure="rare")),
        Column("always active", functools.partial(_percent, measure="always_active")),
        Column("dormant", functools.partial(_percent, measure="dormant@0.025")),
        Column("mean slope", _mean_slope),
    ]
    if any(site.row["grad_dead"] is not None for site in census):
        shown.append(Column("gradient dead", functools.partial(_percent, measure="grad_dead")))
    if any(site.row["nonfinite"] for site in census):
        shown.append(Column("not finite", lambda site: f"{site.row['nonfinite']:,}"))
    return shown


def slope(site: SiteCensus) -> str:
    """The slope below 0 in words: a number, the range over units, or none."""
    negative_slope = site.negative_slope
    if isinstance(negative_slope, float):
        return f"{negative_slope:g}"
    if site.kind not in RECTIFIERS or site.slope_range is None or np.isnan(site.slope_range).any():
        return NOT_KNOWN
    least, greatest = site.slope_range
    return f"{np.min(least):.3g}..{np.max(greatest):.3g}"


def notes(census: Census) -> list[str]:
    """What has to be known to read the figures."""
    lines = [f"{site.name} is {site.invalid}" for site in census if site.invalid]
    counts = sorted({site.n for site in census if site.n})
    if counts:
        least = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
        excluded = " to ".join(_excluded(n) for n in dict.fromkeys((counts[0], counts[-1])))
        lines.append(f"silent on n = {least} samples: active on less than 3/n = {excluded} of all, at 95 %")
    if any(site.row["notes"].get("dead", "").startswith("n/a by construction") for site in census):
        lines.append("dead n/a: by construction, a slope other than 0 leaves no output at 0")
    lines += [
        f"{site.name}: {site.row['notes']['mean_slope']}"
        for site in census
        if "differs between samples" in site.row["notes"].get("mean_slope", "")
    ]
    lines += [
        f"{site.name}: units along axis {site.unit_axis} of its input, which is not the last"
        for site in census
        if site.unit_axis != LAST
    ]
    lines += [opaque_line(part) for part in census.opaque]
    return [*lines, f"{len(census)} site{'' if len(census) == 1 else 's'}, {len(census.opaque)} opaque"]


def _excluded(n: int) -> str:
    """3/n in per cent; of less than three samples, silence excludes nothing."""
    return f"{300 / n:.2g} %" if n > 3 else "100 %"


def opaque_line(part: Opaque) -> str:
    """What is opaque, where, and why."""
    return f"opaque: {part.what}{f' at {part.source}' if part.source else ''}: {part.why}"


def text(census: Census) -> str:
    """The table and its notes as plain text."""
    shown = columns(census)
    lines: list[Sequence[str]] = [[column.head for column in shown]]
    lines += [[column.cell(site) for column in shown] for site in census]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    rows = []
    for cells in lines:
        padded = (
            cell.ljust(width) if column.words else cell.rjust(width)
            for cell, width, column in zip(cells, widths, shown, strict=True)
        )
        rows.append("  ".join(padded).rstrip())
    return "\n".join([*rows, *notes(census)])


def rich_table(census: Census) -> rich.table.Table:
    """The same for a terminal, sites with dead units and invalid ones in colour."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, caption=Text("\n".join(notes(census))), caption_justify="left")
    shown = columns(census)
    for column in shown:
        # The name is kept whole; what does not fit is cut in the middle of no figure.
        table.add_column(column.head, justify="left" if column.words else "right", no_wrap=True)
    for site in census:
        style = "red" if site.invalid else "yellow" if site.row["never_active"] else ""
        # As Text, since rich would take brackets in a name for markup.
        table.add_row(*(Text(column.cell(site), style) for column in shown))
    return table


def share(value: float | None) -> str:
    """A share in per cent; one that is not 0 does not read as 0."""
    if value is None:
        return NOT_KNOWN
    percent = 100 * value
    return "0 %" if percent == 0 else f"{percent:.1f} %" if percent >= 0.05 else "<0.1 %"


def _percent(site: SiteCensus, measure: str) -> str:
    return share(site.row[measure])


def _never_active(site: SiteCensus) -> str:
    if site.invalid:
        return "invalid"
    number = round(site.row["never_active"] * site.units)
    return f"{number:,} ({share(site.row['never_active'])})" if number else "0"


def _dead(site: SiteCensus) -> str:
    if site.invalid:
        return NOT_KNOWN
    return BY_CONSTRUCTION if site.row["dead"] is None else _percent(site, "dead")


def _mean_slope(site: SiteCensus) -> str:
    value: Any = site.row["mean_slope"]
    return NOT_KNOWN if value is None else f"{value:.3f}"

"""A census as a table (plain text, for a terminal, in HTML) and as a picture.

The picture shows how often units are active, a strip per site in the order of depth.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Collection, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jax_leaky._census._site import LAST, SiteCensus, along
from jax_leaky._tracing import Opaque

if TYPE_CHECKING:
    import rich.table
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Sites = Collection[SiteCensus]

_BINS = 40
_INK, _SOFT, _LINE = "#1b1f24", "#5b6570", "#d9dee3"
# Okabe and Ito's palette, which colour-blind readers tell apart: vermilion for never, blue for always.
_NEVER, _BETWEEN, _ALWAYS = "#D55E00", "#8a96a3", "#0072B2"
# Exactly 0 and exactly 1 stand apart from the bins between, as on the two sides of a gap.
_AT_NEVER, _AT_ALWAYS = -0.045, 1.045
_STRIP, _HEAD, _FOOT = 0.44, 0.86, 0.62  # inches
_PICTURE_STYLE: Any = {"font.family": "sans-serif", "font.size": 9, "text.color": _INK, "axes.linewidth": 0.8}

_PAGE_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6570; --line: #d9dee3; --paper: #fff; --card: #f6f8fa;
  --alarm: #b34700 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --soft: #9aa4ae; --line: #343b43; --paper: #14171a;
  --card: #1c2126; --alarm: #ff9a4d } }
body { margin: 0 auto; max-width: 68rem; padding: 2.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 1rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap }
th { border-bottom: 1.5px solid var(--ink); font-weight: 600 }
.text { text-align: left }
tbody tr:hover { background: var(--card) }
tr.never td, tr.invalid td { color: var(--alarm) }
p.note { color: var(--soft); font-size: .9rem; margin: .3rem 0 }
svg { display: block; width: 9rem; height: 1.3rem; border-bottom: 1px solid var(--line) }
"""

NOT_KNOWN = "-"
BY_CONSTRUCTION = "n/a"


class Column(NamedTuple):
    """A column: its head, how a site's cell reads, and whether it holds words."""

    head: str
    cell: Callable[[SiteCensus], str]
    words: bool = False


def columns(sites: Sites) -> list[Column]:
    """The columns of a page, those of the gradients where gradients were counted."""
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
    if any(site.measures["grad_dead"] is not None for site in sites):
        shown.append(Column("gradient dead", functools.partial(_percent, measure="grad_dead")))
    if any(site.measures["nonfinite"] for site in sites):
        shown.append(Column("not finite", lambda site: f"{site.measures['nonfinite']:,}"))
    return shown


def columns_of_terminal(sites: Sites) -> list[Column]:
    """Those that fit into 80 characters: no kind, which most names end in, and no `n` where a note says it."""
    left_out = {"kind"} if len({site.n for site in sites}) > 1 else {"kind", "n"}
    share_only = {"never active": Column("never active", _never_active_share)}
    return [share_only.get(column.head, column) for column in columns(sites) if column.head not in left_out]


def slope(site: SiteCensus) -> str:
    """The slope below 0 in words: a number, the range over units, or none."""
    negative_slope = site.negative_slope
    if isinstance(negative_slope, float):
        return f"{negative_slope:g}"
    least, greatest = np.min(site.counts.slope_min), np.max(site.counts.slope_max)
    return f"{least:.3g}..{greatest:.3g}" if least <= greatest else NOT_KNOWN  # NaN is not known either


def notes(sites: Sites, opaque: Sequence[Opaque]) -> list[str]:
    """What has to be known to read the figures."""
    lines = [f"{site.name} is {site.invalid}" for site in sites if site.invalid]
    counts = sorted({site.n for site in sites if site.n})
    if counts:
        least = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
        excluded = " to ".join(_excluded(n) for n in dict.fromkeys((counts[0], counts[-1])))
        noun = "sample" if least == "1" else "samples"
        lines.append(
            f"never active on n = {least} {noun}: active on less than 3/n = {excluded} of all, at 95 %"
        )
    if any(site.measures["notes"].get("dead", "").startswith("n/a by construction") for site in sites):
        lines.append("dead n/a: by construction, a slope other than 0 leaves no output at 0")
    lines += [
        f"{site.name}: {site.measures['notes']['mean_slope']}"
        for site in sites
        if "differs between samples" in site.measures["notes"].get("mean_slope", "")
    ]
    lines += [
        f"{site.name}: units along {along(site)} of its input"
        + ("" if isinstance(site.unit_axis, tuple) else ", which is not the last")
        for site in sites
        if site.unit_axis != LAST
    ]
    lines += [opaque_line(part) for part in opaque]
    return [*lines, f"{len(sites)} site{'' if len(sites) == 1 else 's'}, {len(opaque)} opaque"]


def _excluded(n: int) -> str:
    """3/n in per cent; three samples or fewer exclude nothing."""
    return f"{300 / n:.2g} %" if n > 3 else "100 %"


def opaque_line(part: Opaque) -> str:
    """What is opaque, where, and why."""
    return f"opaque: {part.what}{f' at {part.source}' if part.source else ''}: {part.why}"


def text(sites: Sites, opaque: Sequence[Opaque]) -> str:
    """The table and its notes as plain text."""
    shown = columns_of_terminal(sites)
    lines = [[column.head for column in shown]]
    lines += [[column.cell(site) for column in shown] for site in sites]
    return "\n".join([*text_table(lines, [column.words for column in shown]), *notes(sites, opaque)])


def text_table(lines: Sequence[Sequence[str]], words: Sequence[bool]) -> list[str]:
    """Aligned lines of text, columns of words to the left, of figures to the right.

    The first line holds the heads, whose words stand below one another where that makes a column narrower.
    """
    heads = [_wrapped(*cells) for cells in zip(*lines, strict=True)]
    above = max(map(len, heads))
    lines = [*zip(*([""] * (above - len(head)) + head for head in heads), strict=True), *lines[1:]]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    padded = (
        [
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(line, widths, words, strict=True)
        ]
        for line in lines
    )
    return ["  ".join(cells).rstrip() for cells in padded]


def _wrapped(head: str, *cells: str) -> list[str]:
    """The head of a column in lines no wider than its cells or its longest word."""
    return textwrap.wrap(head, max(map(len, [*head.split(), *cells])), break_long_words=False)


def rich_table(sites: Sites, opaque: Sequence[Opaque]) -> rich.table.Table:
    """The same for a terminal, sites with dead units and invalid ones in colour."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    caption = Text("\n".join(notes(sites, opaque)))
    shape: Any = {"box": box.SIMPLE_HEAD, "show_edge": False, "pad_edge": False, "padding": (0, 1, 0, 0)}
    table = Table(**shape, caption=caption, caption_justify="left")
    shown = columns_of_terminal(sites)
    for column in shown:
        head = "\n".join(_wrapped(column.head, *map(column.cell, sites)))
        # In a narrow terminal names go on in the next line; figures are never cut.
        narrow: Any = {"overflow": "fold"} if column.words else {"no_wrap": True, "justify": "right"}
        table.add_column(head, vertical="bottom", **narrow)
    for site in sites:
        style = "red" if site.invalid else "yellow" if site.measures["never_active"] else ""
        # As Text, since rich would take brackets in a name for markup.
        table.add_row(*(Text(column.cell(site), style) for column in shown))
    return table


def share(value: float | None) -> str:
    """A share in per cent; only none and all read as 0 % and 100 %."""
    if value is None:
        return NOT_KNOWN
    if value in (0, 1):
        return "100 %" if value else "0 %"
    return "<0.1 %" if value < 0.0005 else ">99.9 %" if value >= 0.9995 else f"{100 * value:.1f} %"


def _percent(site: SiteCensus, measure: str) -> str:
    return share(site.measures[measure])


def _never_active(site: SiteCensus) -> str:
    if site.invalid:
        return "invalid"
    number = round(site.measures["never_active"] * site.units)
    return f"{number:,} ({share(site.measures['never_active'])})" if number else "0"


def _never_active_share(site: SiteCensus) -> str:
    return "invalid" if site.invalid else _percent(site, "never_active")


def _dead(site: SiteCensus) -> str:
    if site.invalid:
        return NOT_KNOWN
    return BY_CONSTRUCTION if site.measures["dead"] is None else _percent(site, "dead")


def _mean_slope(site: SiteCensus) -> str:
    value: Any = site.measures["mean_slope"]
    return NOT_KNOWN if value is None else f"{value:.3f}"


def page(sites: Sites, opaque: Sequence[Opaque]) -> str:
    """A whole page that needs no other file."""
    title = "Census of activations"
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_PAGE_STYLE}</style>"
    )
    body = f"<h1>{title}</h1>{fragment(sites, opaque, strips=True)}"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def fragment(sites: Sites, opaque: Sequence[Opaque], *, strips: bool = False) -> str:
    """The table and its notes, with a histogram in each row if wanted; every text of the user's is escaped."""
    shown = columns(sites)

    def cells(tag: str, texts: list[str], strip: str) -> str:
        row = "".join(
            f"<{tag}{' class=text' if column.words else ''}>{escape(text)}</{tag}>"
            for column, text in zip(shown, texts, strict=True)
        )
        return f"{row}<{tag}>{strip}</{tag}>" if strips else row

    rows = []
    for site in sites:
        state = "invalid" if site.invalid else "never" if site.measures["never_active"] else ""
        strip = _svg(site) if strips and not site.invalid else ""
        rows.append(f"<tr class='{state}'>{cells('td', [column.cell(site) for column in shown], strip)}</tr>")
    head = cells("th", [column.head for column in shown], "units by activity, 0 to 1")
    below = "".join(f"<p class=note>{escape(line)}</p>" for line in notes(sites, opaque))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f"<div class=wide>{table}</div>{below}"


def _svg(site: SiteCensus) -> str:
    """The histogram of a site, as `plot` shows it; matplotlib would draw a tenth of a second at each."""
    never, between, always = _histogram(site)
    tallest = max(never, always, *between)
    # Never and always stand apart, by the width of a bar.
    bars = {_NEVER: [(0, never)], _BETWEEN: enumerate(between, start=2), _ALWAYS: [(_BINS + 3, always)]}
    paths = (
        f'<path fill="{color}" d="{"".join(_bar(x, count / tallest) for x, count in of_color if count)}"/>'
        for color, of_color in bars.items()
    )
    return f'<svg viewBox="0 0 {_BINS + 4} 10" preserveAspectRatio="none">{"".join(paths)}</svg>'


def _bar(x: int, height: float) -> str:
    return f"M{x} 10v{-10 * height:.2g}h.86V10z"


def _histogram(site: SiteCensus) -> tuple[int, list[int], int]:
    """How many units are never active, active on a share of samples in each of the bins, and always active."""
    activity, never, always = (site.per_unit(m) for m in ("act_freq", "never_active", "always_active"))
    between, _ = np.histogram(activity[(never == 0) & (always == 0)], bins=_BINS, range=(0, 1))
    return int(never.sum()), between.tolist(), int(always.sum())


def figure(sites: Sites) -> Figure:
    """The strips under each other.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("Census.plot draws with matplotlib: pip install matplotlib.") from None
    width, height = 9.0, _HEAD + _STRIP * len(sites) + _FOOT
    with matplotlib.rc_context(_PICTURE_STYLE):
        # Without pyplot: no window system, no global state, and nothing to close.
        picture = Figure(figsize=(width, height), facecolor="white")
        longest = max(max(len(site.name), len(_about(site))) for site in sites)
        left, right = min(0.42, 0.03 + 0.0075 * longest), 0.80
        strips = picture.subplots(
            len(sites),
            1,
            sharex=True,
            squeeze=False,
            gridspec_kw={
                "left": left,
                "right": right,
                "top": 1 - _HEAD / height,
                "bottom": _FOOT / height,
                "hspace": 0.28,
            },
        )[:, 0]
        for axes, site in zip(strips, sites, strict=True):
            _strip(axes, site)
        _x_axis(strips[-1])
        title = "How often units are active"
        picture.text(0.02, 1 - 0.16 / height, title, fontsize=13, fontweight="bold", va="top")
        picture.text(0.02, 1 - 0.44 / height, _subtitle(sites), fontsize=9, color=_SOFT, va="top")
    return picture


def _strip(axes: Axes, site: SiteCensus) -> None:
    axes.set_xlim(_AT_NEVER - 0.04, _AT_ALWAYS + 0.04)
    axes.set_ylim(0, 1.06)
    axes.set_yticks([])
    axes.tick_params(length=0, labelbottom=False)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.spines["bottom"].set_color(_LINE)
    axes.text(-0.02, 0.60, site.name, transform=axes.transAxes, ha="right", va="center")
    axes.text(
        -0.02,
        0.14,
        _about(site),
        transform=axes.transAxes,
        ha="right",
        va="center",
        color=_SOFT,
        fontsize=7.5,
    )
    if site.invalid:
        axes.text(0.5, 0.4, site.invalid, transform=axes.transAxes, ha="center", va="center", color=_NEVER)
        return
    never, between, always = _histogram(site)
    tallest, step = max(never, always, *between), 1 / _BINS
    axes.bar((np.arange(_BINS) + 0.5) * step, np.array(between) / tallest, 0.86 * step, color=_BETWEEN)
    axes.bar(_AT_NEVER, never / tallest, 1.3 * step, color=_NEVER)
    axes.bar(_AT_ALWAYS, always / tallest, 1.3 * step, color=_ALWAYS)
    for line, (count, word, color) in enumerate(
        ((never, "never active", _NEVER), (always, "always active", _ALWAYS))
    ):
        words = f"{count:,} {word}, {share(count / site.units)}" if count else f"none {word}"
        axes.text(
            1.02,
            0.64 - 0.48 * line,
            words,
            transform=axes.transAxes,
            va="center",
            color=color if count else _SOFT,
            fontsize=8,
        )


def _x_axis(axes: Axes) -> None:
    axes.tick_params(labelbottom=True, labelcolor=_SOFT)
    ticks = {_AT_NEVER: "never", 0.25: "25 %", 0.5: "50 %", 0.75: "75 %", _AT_ALWAYS: "always"}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xlabel("share of samples on which z > 0", color=_SOFT)


def _about(site: SiteCensus) -> str:
    return f"{site.kind} of {site.units:,} units"


def _subtitle(sites: Sites) -> str:
    counts = sorted({site.n for site in sites})
    n = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    return f"units of each site by activation frequency, input side on top; n = {n} sample{'s' * (n != '1')}"

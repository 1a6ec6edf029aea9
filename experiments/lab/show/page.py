"""A self-contained HTML page: text, tables and pictures in one file that needs no other."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from experiments.lab.show.table import Table

_SIDES = {1: "for", 0: "open", -1: "against"}
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6570; --line: #d9dee3; --paper: #fff; --card: #f6f8fa;
  --for: #0067a3; --against: #b84a00; --open: #7a848e }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --soft: #9aa4ae; --line: #343b43; --paper: #14171a; --card: #1c2126;
    --for: #56b4e9; --against: #ff8a3d; --open: #8d97a1 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 64rem; padding: 2.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .5rem }
p { margin: .4rem 0; max-width: 46rem }
.lead { font-size: 1.08rem }
.note, .facts, figcaption { color: var(--soft); font-size: .9rem }
figure { margin: 1.25rem 0 }
figure img { display: block; width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 8px }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .88rem; margin: .75rem 0;
  font-variant-numeric: tabular-nums }
.title { font-weight: 600; margin-top: 1.25rem }
th { font-weight: 600; vertical-align: bottom; border-bottom: 1.5px solid var(--ink); white-space: pre-line }
th, td { padding: .28rem .6rem; text-align: right }
td { white-space: nowrap }
.text { text-align: left }
tr.section td { border-top: 1px solid var(--line) }
tbody tr:first-child td { border-top: 0 }
tbody tr:hover { background: var(--card) }
.for { --side: var(--for) } .against { --side: var(--against) } .open { --side: var(--open) }
.card { display: grid; grid-template-columns: 2fr 3fr; gap: .15rem 1.5rem; padding: .7rem 1rem; margin: .6rem 0;
  background: var(--card); border-left: 4px solid var(--side); border-radius: 0 8px 8px 0; overflow-wrap: anywhere }
.card p { margin: 0 } .card > p:first-child { font-weight: 600 } .card strong { color: var(--side) }
.axis { max-width: none; display: flex; justify-content: space-between; gap: 1rem; margin: 1.2rem 0 .2rem;
  font-size: .85rem }
.effect { display: grid; grid-template-columns: 15rem 1fr 14rem; gap: 0 1rem; align-items: center; font-size: .85rem;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
.effect > :last-child { text-align: right }
.track { position: relative; height: 1.1rem; min-width: 6rem }
.track i { position: absolute; left: 50%; top: 0; bottom: 0; border-left: 1px solid var(--soft) }
.track b { position: absolute; top: calc(50% - 1px); height: 2px; background: var(--side) }
.track u { position: absolute; top: calc(50% - 4px); width: 8px; height: 8px; margin-left: -4px; border-radius: 50%;
  background: var(--side) }
.track .open u, .open .track u { background: var(--paper); box-shadow: inset 0 0 0 2px var(--side) }
@media (max-width: 46rem) {
  .card { grid-template-columns: 1fr }
  .effect { grid-template-columns: 2fr 3fr; padding: .15rem 0 } .effect .track { grid-row: 2; grid-column: 1 / 3 } }
pre { background: var(--card); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; font-size: .85rem }
"""


class Effect(NamedTuple):
    """One line of a forest plot.

    Attributes:
        label: words for what is compared.
        mean: difference; NaN where there is none.
        half_width: half-width of its interval; NaN where there is none.
        text: difference and interval in words.
        side: 1 in favour, -1 against, 0 where neither is shown.
    """

    label: str
    mean: float
    half_width: float
    text: str
    side: int


class Page:
    """Collects a page's parts in order; what is given as text is escaped."""

    def __init__(self, title: str, lead: str) -> None:
        self._title = title
        self._parts = [f"<h1>{escape(title)}</h1><p class=lead>{escape(lead)}</p>"]

    def heading(self, text: str) -> None:
        """A section's heading."""
        self._parts.append(f"<h2>{escape(text)}</h2>")

    def paragraph(self, text: str, kind: str = "") -> None:
        """A paragraph; kind is a class of the style: note, facts or nothing."""
        self._parts.append(f"<p{f' class={kind}' if kind else ''}>{escape(text)}</p>")

    def listing(self, text: str) -> None:
        """Text as it stands, for commands and configurations."""
        self._parts.append(f"<pre>{escape(text)}</pre>")

    def table(self, table: Table) -> None:
        """A table, which scrolls by itself where the window is too narrow."""
        self._parts.append(f"<div class=wide>{table.to_html()}</div>")

    def card(self, sentence: str, verdict: str, side: int, *details: str) -> None:
        """A sentence and the verdict on it, side by side, or one below the other where the window is narrow."""
        below = "".join(f"<p class=note>{escape(detail)}</p>" for detail in details)
        self._parts.append(
            f"<div class='card {_SIDES[side]}'><p>{escape(sentence)}</p>"
            f"<div><p><strong>{escape(verdict)}</strong></p>{below}</div></div>"
        )

    def forest(self, title: str, effects: Sequence[Effect]) -> None:
        """Differences with their intervals, one below the other on an axis around 0 that they share."""
        ends = [abs(one.mean) + (0 if math.isnan(one.half_width) else one.half_width) for one in effects]
        limit = max((end for end in ends if math.isfinite(end)), default=0.0) or 1.0
        half = 48  # % of the axis' width, so that a dot at its end has room
        scale = f"axis from -{limit:.2g} to {limit:.2g}"
        self._parts.append(f"<p class=axis><strong>{escape(title)}</strong><span>{scale}</span></p>")
        for one in effects:
            marks = "<i></i>"
            if math.isfinite(one.half_width):
                left, width = (
                    50 + half * (one.mean - one.half_width) / limit,
                    2 * half * one.half_width / limit,
                )
                marks += f"<b style='left:{left:.1f}%;width:{width:.1f}%'></b>"
            if math.isfinite(one.mean):
                marks += f"<u style='left:{50 + half * one.mean / limit:.1f}%'></u>"
            self._parts.append(
                f"<div class='effect {_SIDES[one.side]}'><span>{escape(one.label)}</span>"
                f"<span class=track>{marks}</span><span>{escape(one.text)}</span></div>"
            )

    def figure(self, picture: Path, caption: str) -> None:
        """A PNG file, put into the page itself."""
        data = base64.b64encode(picture.read_bytes()).decode()
        image = f'<img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        self._parts.append(f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>")

    def to_html(self, footer: Sequence[str] = ()) -> str:
        """The whole page."""
        end = "".join(f"<p class=facts>{escape(line)}</p>" for line in footer)
        head = (
            '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self._title)}</title><style>{_STYLE}</style>"
        )
        return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{"".join(self._parts)}{end}</body></html>\n'

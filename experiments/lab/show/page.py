"""A self-contained HTML page: text, tables and pictures in one file that needs no other."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from experiments.lab.show.table import Table

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6570; --line: #d9dee3; --paper: #fff; --card: #f6f8fa }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --soft: #9aa4ae; --line: #343b43; --paper: #14171a; --card: #1c2126 } }
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
caption { text-align: left; font-weight: 600; padding-bottom: .5rem }
th { font-weight: 600; vertical-align: bottom; border-bottom: 1.5px solid var(--ink); white-space: pre-line }
th, td { padding: .28rem .6rem; text-align: right }
td { white-space: nowrap }
.text { text-align: left }
tr.section td { border-top: 1px solid var(--line) }
tbody tr:first-child td { border-top: 0 }
tbody tr:hover { background: var(--card) }
pre { background: var(--card); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; font-size: .85rem }
"""


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

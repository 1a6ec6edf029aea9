"""The census as a page by itself, and as a piece of a notebook."""

from __future__ import annotations

import base64
import importlib.util
import io
from html import escape
from typing import TYPE_CHECKING

from jax_leaky._census import _plot
from jax_leaky._census import _show as _table

if TYPE_CHECKING:
    from jax_leaky._census._result import Census

_STYLE = """
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
tr.silent td, tr.invalid td { color: var(--alarm) }
p.note { color: var(--soft); font-size: .9rem; margin: .3rem 0 }
img { display: block; max-width: 100%; height: auto; margin: 1.5rem 0; background: #fff; border-radius: 8px }
"""


def page(census: Census) -> str:
    """A whole page that needs no other file."""
    title = "Census of activations"
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style>"
    )
    body = f"<h1>{title}</h1>{fragment(census)}{_picture(census)}"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def fragment(census: Census) -> str:
    """The table and its notes; every text of the user's is escaped."""
    shown = _table.columns(census)

    def cells(tag: str, texts: list[str]) -> str:
        return "".join(
            f"<{tag}{' class=text' if column.words else ''}>{escape(text)}</{tag}>"
            for column, text in zip(shown, texts, strict=True)
        )

    rows = []
    for site in census:
        state = "invalid" if site.invalid else "silent" if site.row["never_active"] else ""
        rows.append(f"<tr class='{state}'>{cells('td', [column.cell(site) for column in shown])}</tr>")
    head = cells("th", [column.head for column in shown])
    notes = "".join(f"<p class=note>{escape(line)}</p>" for line in _table.notes(census))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f"<div class=wide>{table}</div>{notes}"


def _picture(census: Census) -> str:
    if importlib.util.find_spec("matplotlib") is None:
        return "<p class=note>No picture: matplotlib is not installed.</p>"
    import matplotlib

    content = io.BytesIO()
    with matplotlib.rc_context(_plot.STYLE):
        # Without a Software entry the same census has the same bytes.
        _plot.figure(census).savefig(content, format="png", dpi=150, metadata={"Software": None})
    data = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="How often the units of each site are active" src="data:image/png;base64,{data}">'

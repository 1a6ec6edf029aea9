"""One table, shown in a terminal, in Markdown and in HTML."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from experiments.lab.analysis import DASH, Finding

_WIDTH = 100  # columns, where there is no terminal to ask


class Table(NamedTuple):
    """Cells of text under a header.

    Attributes:
        title: title of one line.
        header: names of the columns, (columns,); a line break splits one in the terminal.
        rows: lines of cells, (rows, columns).
        text_columns: number of columns from the left that hold text; the others hold figures and are set to the right.
        sections: number of rows that stand together, with a line or a gap before the next; 0 for none.
        notes: sentences under the table.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1
    sections: int = 0
    notes: Sequence[str] = ()

    def to_markdown(self) -> str:
        """A GitHub table under a bold title."""
        lines = markdown(self.header, self.rows, self.text_columns)
        return "\n\n".join([f"**{self.title}**", "\n".join(lines), *self.notes]) + "\n"

    def to_html(self) -> str:
        """A table element with its caption; every text escaped."""

        def cells(tag: str, line: Sequence[str]) -> str:
            return "".join(
                f"<{tag}{' class=text' if column < self.text_columns else ''}>{escape(cell)}</{tag}>"
                for column, cell in enumerate(line)
            )

        body = "".join(
            f"<tr{' class=section' if self._begins_section(row) else ''}>{cells('td', line)}</tr>"
            for row, line in enumerate(self.rows)
        )
        head = f"<thead><tr>{cells('th', self.header)}</tr></thead>"
        notes = "".join(f"<p class=note>{escape(note)}</p>" for note in self.notes)
        return f"<table><caption>{escape(self.title)}</caption>{head}<tbody>{body}</tbody></table>{notes}"

    def show(self) -> None:
        """Prints it."""
        table = RichTable(title=self.title, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
        table.show_edge = False
        for column, name in enumerate(self.header):
            table.add_column(name, justify="left" if column < self.text_columns else "right", no_wrap=True)
        for row, line in enumerate(self.rows):
            if row and self._begins_section(row):
                table.add_section()
            table.add_row(*line)
        console = Console(markup=False, highlight=False)
        if not sys.stdout.isatty():
            # A pipe has no width; rich would take 80 columns and cut the cells.
            console = Console(width=10_000, markup=False, highlight=False)
            console = Console(
                width=max(_WIDTH, console.measure(table).maximum), markup=False, highlight=False
            )
        console.print(table)
        for note in self.notes:
            console.print(note)

    def _begins_section(self, row: int) -> bool:
        return bool(self.sections) and row % self.sections == 0


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> list[str]:
    """The lines of a GitHub table; the columns after the text columns hold figures and are set to the right."""
    align = [":--" if column < text_columns else "--:" for column in range(len(header))]
    lines = [[name.replace("\n", " ") for name in header], align, *rows]
    return ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines]


def verdict_table(title: str, findings: Sequence[Finding], notes: Sequence[str] = ()) -> Table:
    """What, published, ours with its interval, verdict."""
    lines = []
    for finding in findings:
        ours, digits = finding.ours.scaled(finding.scale), finding.digits
        mean = f"{ours.mean:.{digits}f}" if finding.verdict != "not measured" else DASH
        lines.append([finding.what, finding.published, mean, ours.interval(digits), finding.verdict])
    return Table(title, ["", "published", "ours", "95 % interval", "verdict"], lines, notes=notes)

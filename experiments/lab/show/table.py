"""One table, shown in a terminal, in Markdown and in HTML."""

from __future__ import annotations

import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Literal, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from experiments.lab.analysis import DASH, Cell, Finding, Measure, Runs

_WIDTH = 100  # columns, where there is no terminal to ask
_NARROWEST = 14  # characters of a wrapped cell: a mean and its interval are not broken
_IN_PARTS = 24  # characters of a wrapped cell in a table that is shown in parts


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
        """Its title, a table element and the notes; every text escaped.

        A caption would be as wide as the table, and cut where the table scrolls.
        """

        def cells(tag: str, line: Sequence[str]) -> str:
            return "".join(
                f"<{tag}{' class=text' if column < self.text_columns else ''}>{escape(cell)}</{tag}>"
                for column, cell in enumerate(line)
            )

        body = "".join(
            f"<tr{' class=section' if self._begins_section(row) else ''}>{cells('td', line)}</tr>"
            for row, line in enumerate(self.rows)
        )
        head = f"<thead><tr>{cells('th', _on_one_line(self.header))}</tr></thead>"
        notes = "".join(f"<p class=note>{escape(note)}</p>" for note in self.notes)
        title = escape(self.title)
        return f'<p class=title>{title}</p><table aria-label="{title}">{head}<tbody>{body}</tbody></table>{notes}'

    def show(self) -> None:
        """Prints it; in a narrow terminal cells are wrapped, and figures that do not fit follow in another table."""
        parts = self._fitted(Console().width) if sys.stdout.isatty() else [self]
        # A pipe has no width, for which rich would take 80 columns.
        console = Console(width=max(_WIDTH, *(part.width for part in parts)), markup=False, highlight=False)
        if sys.stdout.isatty():
            console = Console(markup=False, highlight=False)
        for part in parts:
            if part is not parts[0]:
                console.print()
            console.print(part._as_rich())
        for note in self.notes:
            console.print(note)

    @property
    def width(self) -> int:
        """Columns of a terminal that it takes."""
        return Console(width=10_000).measure(self._as_rich()).maximum

    def _fitted(self, width: int) -> list[Table]:
        """The table, with cells as narrow as it needs; in parts where no wrapping of words is enough."""
        for longest in (10_000, *range(60, _NARROWEST, -2)):
            if (wrapped := self._wrapped(longest)).width <= width:
                return [wrapped]
        figures = range(self.text_columns, len(self.header))
        for longest in range(_IN_PARTS, _NARROWEST, -2):
            wrapped = self._wrapped(longest)
            if max((wrapped._only([column]).width for column in figures), default=0) <= width:
                break
        together: list[list[int]] = []
        for column in figures:
            if together and self.header[column].startswith(
                "- "
            ):  # it says what the column before is compared with
                together[-1].append(column)
            else:
                together.append([column])
        parts: list[list[int]] = [[]]
        for columns in together:
            if parts[-1] and wrapped._only([*parts[-1], *columns]).width > width:
                parts.append([])
            parts[-1] += columns
        first, *others = (wrapped._only(columns) for columns in parts)
        return [first, *(part._replace(title="") for part in others)]

    def _wrapped(self, longest: int) -> Table:
        """With cells of at most so many characters where their words allow, and headers about as wide as the cells."""
        rows = [[textwrap.fill(cell, longest, break_long_words=False) for cell in line] for line in self.rows]
        header = []
        for column, name in enumerate(_on_one_line(self.header)):
            lines = itertools.chain(
                *(line[column].splitlines() for line in rows), re.split(r"\s|(?<=-)", name)
            )
            header.append(textwrap.fill(name, max(10, *map(len, lines)), break_long_words=False))
        return self._replace(header=header, rows=rows)

    def _only(self, columns: Sequence[int]) -> Table:
        """The text columns and these."""
        kept = [*range(self.text_columns), *columns]
        rows = [[line[column] for column in kept] for line in self.rows]
        return self._replace(header=[self.header[column] for column in kept], rows=rows)

    def _as_rich(self) -> RichTable:
        table = RichTable(title=self.title or None, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
        table.show_edge = False
        for column, name in enumerate(self.header):
            justify: Literal["left", "right"] = "left" if column < self.text_columns else "right"
            table.add_column(name, justify=justify, no_wrap=True)
        for row, line in enumerate(self.rows):
            if row and self._begins_section(row):
                table.add_section()
            table.add_row(*line)
        return table

    def _begins_section(self, row: int) -> bool:
        return bool(self.sections) and row % self.sections == 0


def _on_one_line(header: Sequence[str]) -> list[str]:
    """The names of columns without the line breaks of a terminal; one behind a hyphen leaves no space."""
    return [name.replace("-\n", "-").replace("\n", " ") for name in header]


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> list[str]:
    """The lines of a GitHub table; the columns after the text columns hold figures and are set to the right."""
    align = [":--" if column < text_columns else "--:" for column in range(len(header))]
    lines = [_on_one_line(header), align, *rows]
    return ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines]


def show_markdown(text: str) -> None:
    """Prints a page of text and tables: in a terminal as wide as that is, elsewhere as it stands."""
    if not sys.stdout.isatty():
        print(text)
        return
    width = Console().width
    for block in re.split(r"\n\n+|\n(?=\* )", text.strip()):
        if block.startswith("|"):
            header, align, *rows = (
                [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
                for line in block.splitlines()
            )
            Table("", header, rows, text_columns=align.count(":--")).show()
        else:
            print(
                textwrap.fill(" ".join(block.split()), width, subsequent_indent="  " * block.startswith("*"))
            )
        print()


def verdict_table(title: str, findings: Sequence[Finding], notes: Sequence[str] = ()) -> Table:
    """What, published, ours with its interval, verdict."""
    lines = []
    for finding in findings:
        ours, digits = finding.ours.scaled(finding.scale), finding.digits
        mean = f"{ours.mean:.{digits}f}" if finding.verdict != "not measured" else DASH
        lines.append([finding.what, finding.published, mean, ours.interval(digits), finding.verdict])
    return Table(title, ["", "published", "ours", "95 % interval", "verdict"], lines, notes=notes)


def answer_of(runs: Runs, measure: Measure, name: Callable[[Cell], str]) -> str:
    """In how many comparisons with the baseline a measure is shown to be better or worse, and the clearest difference.

    Args:
        runs: runs that are compared.
        measure: measure that answers the question.
        name: function from a cell to its words, such as "slope 0.2 with Adam at 0.1".
    """
    cells = [cell for cell in runs.cells if cell[-1] != runs.baseline]
    found = {cell: runs.difference(cell, measure) for cell in cells}
    found = {cell: one for cell, one in found.items() if one.values >= 3}
    if not found:
        return ""
    better, worse = (
        sum(side) for side in zip(*(runs.shown(arm, measure) for arm in runs.arms[1:]), strict=True)
    )
    cell = max(found, key=lambda cell: abs(found[cell].mean) / (found[cell].half_width or 1e-9))
    clearest = measure.text(found[cell], sign=True).rstrip("*") + (" points" if measure.scale == 100 else "")
    verb = "is" if better == 1 else "are"
    what, where = measure.name.partition(", ")[0], f"{clearest}, for {name(cell)}"
    many = f"{len(cells)} comparison{'s' * (len(cells) > 1)}"
    if not better + worse:
        return f"In {what} no difference from ReLU is shown in {many}; the clearest is {where}."
    return (
        f"Of {many} with ReLU in {what}, {better or 'none'} {verb} shown in "
        f"favour of the other activation and {worse or 'none'} against it; the clearest difference is {where}."
    )


def listed(parts: Sequence[str]) -> str:
    """`one, two and three`."""
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)

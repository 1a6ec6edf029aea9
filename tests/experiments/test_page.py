import base64
import json
import math
import re
import sys

import pytest

from experiments.lab.run import store
from experiments.lab.show.page import Effect, Page
from experiments.lab.show.table import Table, markdown, show_markdown

EVIL = "<script>alert('x')</script>&\""


def test_everything_that_is_text_is_escaped(tmp_path):
    picture = tmp_path / "plot.png"
    picture.write_bytes(b"\x89PNG not really")
    page = Page(EVIL, EVIL)
    page.heading(EVIL)
    page.paragraph(EVIL)
    page.listing(EVIL)
    page.figure(picture, EVIL)
    page.card(EVIL, EVIL, 1, EVIL)
    page.forest(EVIL, [Effect(EVIL, 1.0, math.nan, EVIL, 0), Effect("b", math.nan, math.nan, "", -1)])
    page.table(Table(EVIL, [EVIL], [[EVIL]], notes=[EVIL]))
    html = page.to_html([EVIL])
    assert "<script" not in html
    assert (
        html.count("&lt;script&gt;") == 20
    )  # twice for both titles and the picture, once for everything else
    assert base64.b64encode(b"\x89PNG not really").decode() in html
    assert "http" not in html  # it needs nothing from anywhere


def test_markdown_keeps_its_columns():
    text = Table("t", ["a\nb", "c"], [["1|2", "3"]]).to_markdown()
    assert "| a b | c |" in text
    assert r"| 1\|2 | 3 |" in text


def test_a_piped_table_is_as_wide_as_it_needs(capsys):
    cells = [f"{'x' * 30}{column}" for column in range(5)]
    Table("wide", ["h"] * 5, [cells]).show()
    shown = capsys.readouterr().out
    assert all(cell in shown for cell in cells)


def test_a_narrow_terminal_cuts_nothing(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    cells = [f"{column}1.5 ± {column}0.25" for column in range(10)]
    Table("wide", ["measure"] * 10, [cells]).show()
    shown = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    assert all(shown.count(part) for cell in cells for part in cell.split())


def test_a_narrow_terminal_breaks_no_word_and_no_interval(capsys, monkeypatch):
    """The figures that do not fit follow under the same names, and a difference stays beside what it belongs to."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    header = ["activation", *["gradient-dead", "- ReLU's"] * 4]
    rows = [[name, *["10.5 ± 10.5", "+10.5 ± 10.5*"] * 4] for name in ("ReLU", "leaky 0.01")]
    Table("wide", header, rows, notes=["A note."]).show()
    shown = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    lines = [line.rstrip() for line in shown.splitlines()]
    assert max(map(len, lines)) <= 80
    assert shown.count("10.5 ± 10.5") == 16
    firsts = [line for line in lines if line.startswith("ReLU")]
    assert len(firsts) == 2
    assert all(line.endswith("*") for line in firsts)
    assert lines[-1] == "A note."


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_holds_no_number_that_json_lacks(value):
    assert store.number(value) is None
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.dump({"x": value})


def test_a_float32_is_written_as_its_shortest_decimal():
    import numpy as np

    assert store.dump(store.numbers(np.array([0.1, 1 / 3, 1e-8], np.float32))) == "[0.1, 0.33333334, 1e-08]"
    assert json.loads(store.dump({"n": np.int32(3)})) == {"n": 3}


def test_a_page_fits_a_narrow_terminal_and_is_left_alone_elsewhere(capsys, monkeypatch):
    page = "\n".join(
        [
            "# A title",
            "",
            "A sentence of more than eighty columns, which says what a page of a benchmark says in its first line.",
            "",
            "* A point of more than eighty columns, which says what a page of a benchmark says in its points.",
            "* Another.",
            "",
            *markdown(["a | b", "ratio"], [["words that are many, " * 4, "1.05 (0.95 to 1.15)"]] * 2),
            "",
        ]
    )
    show_markdown(page)
    assert capsys.readouterr().out == page + "\n"
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show_markdown(page)
    shown = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.count("1.05 (0.95 to 1.15)") == 2
    assert "a | b" in shown
    assert "\n* Another." in shown
    assert shown.count("words that are many") + shown.count("words that are\n") >= 6

import base64
import json

import pytest

from experiments.lab.run import store
from experiments.lab.show.page import Page
from experiments.lab.show.table import Table

EVIL = "<script>alert('x')</script>&\""


def test_everything_that_is_text_is_escaped(tmp_path):
    picture = tmp_path / "plot.png"
    picture.write_bytes(b"\x89PNG not really")
    page = Page(EVIL, EVIL)
    page.heading(EVIL)
    page.paragraph(EVIL)
    page.listing(EVIL)
    page.figure(picture, EVIL)
    page.table(Table(EVIL, [EVIL], [[EVIL]], notes=[EVIL]))
    html = page.to_html([EVIL])
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 13  # twice for the title and the picture, once for everything else
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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_holds_no_number_that_json_lacks(value):
    assert store.number(value) is None
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.dump({"x": value})


def test_a_float32_is_written_as_its_shortest_decimal():
    import numpy as np

    assert store.dump(store.numbers(np.array([0.1, 1 / 3, 1e-8], np.float32))) == "[0.1, 0.33333334, 1e-08]"
    assert json.loads(store.dump({"n": np.int32(3)})) == {"n": 3}

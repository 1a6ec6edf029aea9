"""Damaged rows give no verdict, but a sentence that says which file it is."""

import json
import shutil

import pytest

from experiments.claims import experiment as claims
from experiments.lab.run.errors import LabError
from tests.experiments.test_claims import RESULTS


def jsonl(*records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def changed(number, **values):
    """The rows with other values in one of them."""

    def change(content):
        lines = content.splitlines(keepends=True)
        lines[number] = jsonl(json.loads(lines[number]) | values)
        return b"".join(lines)

    return change


def kept(which):
    return lambda content: b"".join(
        line for place, line in enumerate(content.splitlines(keepends=True)) if which(place)
    )


DAMAGES = {
    "no UTF-8": (lambda content: content[:50] + b"\xff" + content[51:], "byte 50 is not UTF-8"),
    "half a line": (lambda content: content[:-20], "line 600, cannot be read"),
    "nothing": (lambda _content: b"", "holds no rows"),
    "a line that is a number": (lambda content: content + b"5\n", r"row 601, is no object \(5\)"),
    "NaN": (changed(3, loss=float("nan")), r"line 4, cannot be read \(NaN is no JSON\)"),
    "a seed that is a word": (
        changed(7, seed="x"),
        "row 8, holds words as seed, where the rows above hold a number",
    ),
    "every seed a word": (
        lambda content: content.replace(b'"seed": ', b'"seed": "x", "s": '),
        "has the seed 'x'",
    ),
    "another seed": (changed(7, seed=8), "holds 1 of the 2 rows of the network"),
    "a seed of no network": (changed(7, seed=99), r"seed \d is missing|seed 99 is not among those asked for"),
    "a figure that is a word": (changed(9, accuracy="0.7"), "row 10, holds words as accuracy"),
    "no setting": (changed(5, optimizer=None), "row 6, has no value of optimizer"),
    "half of the lines": (kept(lambda place: place < 300), "holds no rows with optimizer adam"),
    "every other line": (kept(lambda place: place % 2), "holds no rows with negative_slope 0.0"),
    "all but each seventh": (kept(lambda place: place % 7), r"seed \d is missing"),
    "all but the last": (kept(lambda place: place < 599), "seed 9 is missing"),
    "a line twice": (
        lambda content: content + content.splitlines(keepends=True)[-1],
        "holds 1 of the 2 rows",
    ),
    "other rows": (lambda _content: jsonl({"seed": 0}), "row 1, has no value of optimizer"),
}


@pytest.fixture
def results(tmp_path):
    """The recorded rows of one experiment."""
    (tmp_path / "learning_rate_map").mkdir()
    for name in ("rows.jsonl", "config.json"):
        shutil.copy(RESULTS / "learning_rate_map" / name, tmp_path / "learning_rate_map")
    claims.findings(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("damage", "sentence"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_rows_are_refused(results, damage, sentence):
    path = results / "learning_rate_map" / "rows.jsonl"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(LabError, match=rf"rows\.jsonl.*({sentence}).*: record the run again\.$"):
        claims.findings(results)


def test_rows_without_a_configuration_are_compared_with_each_other(results):
    (results / "learning_rate_map" / "config.json").unlink()
    claims.findings(results)
    path = results / "learning_rate_map" / "rows.jsonl"
    path.write_bytes(kept(lambda place: place < 599)(path.read_bytes()))
    with pytest.raises(LabError, match="seed 9 is missing"):
        claims.findings(results)


@pytest.mark.parametrize("name", ["rows.jsonl", "config.json"])
def test_a_folder_in_place_of_a_file_is_a_sentence(results, name):
    path = results / "learning_rate_map" / name
    path.unlink()
    path.mkdir()
    with pytest.raises(LabError, match=rf"{name} cannot be read \(Is a directory\)"):
        claims.findings(results)


@pytest.mark.parametrize("content", ["[]", "{", '{"seeds": NaN}'])
def test_a_damaged_configuration_is_a_sentence(results, content):
    (results / "learning_rate_map" / "config.json").write_text(content)
    with pytest.raises(LabError, match=r"config\.json (is damaged|cannot be read)"):
        claims.findings(results)


@pytest.mark.parametrize(
    "content", ["5", "{", '{"cpu": {"figures": [5]}}', '{"cpu": 5}', '{"cpu": {"figures": []}}']
)
def test_a_damaged_table_of_residuals_is_a_sentence(tmp_path, content):
    (tmp_path / "residuals.json").write_text(content)
    with pytest.raises(
        LabError, match=r"residuals\.json (cannot be read|holds no rows).*: record the run again\.$"
    ):
        claims.findings(tmp_path)


def test_values_that_cannot_be_compared_are_a_sentence(tmp_path):
    row = {"negative_slope": 0.0, "gain": "own", "seed": 0, "gradient_norm": [0.0]}
    (tmp_path / "signal_gain").mkdir()
    (tmp_path / "signal_gain" / "rows.jsonl").write_bytes(
        jsonl(row, row | {"gradient_norm": ["x"], "seed": 1})
    )
    with pytest.raises(LabError, match="hold what cannot be compared"):
        claims.findings(tmp_path)

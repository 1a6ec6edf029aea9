"""A run folder: what is finished is found again; damage, full disks and other runs are one sentence each."""

import errno
import json
import os
from pathlib import Path

import pytest

from experiments.lab.run import store
from experiments.lab.run.errors import LabError

IDENTITY = {"experiment": "toy", "steps": 3}
RECORDS = {run: [{"run": run, "value": run / 7}] for run in range(3)}
PART = "finished_0.jsonl"


def fill(path, runs=(0, 1, 2), identity=IDENTITY):
    with store.open_run(path, identity) as folder:
        for run in runs:
            folder.save(run, RECORDS[run])
        return folder.assemble()


def found(path, identity=IDENTITY, **how):
    with store.open_run(path, identity, **how) as folder:
        return folder.finished, folder.damaged


def test_what_was_saved_is_found_again_and_assembled_in_the_order_of_the_sweep(tmp_path):
    path = tmp_path / "a" / "run"
    fill(path, (2, 0))
    assert fill(path, (1,)) == [record for records in RECORDS.values() for record in records]
    assert found(path) == (RECORDS, 0)
    lines = (path / store.ROWS).read_text().splitlines()
    assert [json.loads(line)["run"] for line in lines] == [0, 1, 2]


def test_another_identity_is_refused_and_nothing_is_touched(tmp_path):
    fill(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(LabError, match=r"a run of steps 3, and this command has 4.*--out.*--fresh"):
        found(tmp_path, IDENTITY | {"steps": 4})
    with pytest.raises(LabError, match="another version of jaxlib"):
        found(tmp_path, IDENTITY | {"jaxlib": "9"})
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_fresh_starts_over_and_removes_only_what_a_run_leaves(tmp_path):
    fill(tmp_path)
    (tmp_path / "old").mkdir()
    mine = [tmp_path / name for name in ("notes.txt", "mine.png", "mine.jsonl", "old/run.txt")]
    its_own = [
        tmp_path / name for name in ("drawn.png", "report.html", "unfinished_7.npz", "finished_1.jsonl")
    ]
    for path in (*mine, *its_own):
        path.write_text("mine")
    (tmp_path / "summary.md").write_text("![What was drawn.](drawn.png)")
    assert found(tmp_path, IDENTITY | {"steps": 4}, fresh=True) == ({}, 0)
    assert {path.read_text() for path in mine} == {"mine"}
    assert not any(path.exists() for path in (*its_own, tmp_path / store.ROWS, tmp_path / "summary.md"))


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_that_holds_no_run_is_refused(tmp_path, fresh):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(LabError, match="holds files but no run"):
        found(tmp_path, fresh=fresh)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_kill_while_the_configuration_is_written_leaves_a_folder_to_go_on_with(tmp_path):
    (tmp_path / PART).touch()
    (tmp_path / f"{store.CONFIG}.tmp").write_text("{")
    assert found(tmp_path) == ({}, 0)


def test_a_kill_at_any_byte_costs_the_run_that_it_tears_and_no_other(tmp_path):
    fill(tmp_path)
    part = tmp_path / PART
    content = part.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    for length in {*range(0, len(content), 7), *ends, *(end - 1 for end in ends)}:
        part.write_bytes(content[:length])
        whole = sum(end <= length + 1 for end in ends)  # without its line's end a record is whole
        torn = length not in (0, *ends, *(end - 1 for end in ends))
        assert found(tmp_path) == ({run: RECORDS[run] for run in range(whole)}, torn)
        fill(tmp_path, range(whole, 3))
        assert found(tmp_path) == (RECORDS, torn)


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"run": 1}', b"\x00\xff{", b'{"run": [], "records": 1}']
)
def test_a_damaged_line_is_passed_over(tmp_path, damage):
    fill(tmp_path)
    first, _, last = (tmp_path / PART).read_bytes().splitlines()
    (tmp_path / PART).write_bytes(b"\n".join([first, damage, last, b""]))
    assert found(tmp_path) == ({run: RECORDS[run] for run in (0, 2)}, 1)


def test_a_damaged_configuration_is_refused(tmp_path):
    fill(tmp_path)
    for content in ("{", "[]", "", "\x00"):
        (tmp_path / store.CONFIG).write_text(content)
        with pytest.raises(LabError, match=r"config\.json is damaged.*--fresh"):
            found(tmp_path)


def test_two_runs_cannot_hold_one_folder(tmp_path):
    with store.open_run(tmp_path, IDENTITY), pytest.raises(LabError, match="in use by another run"):
        found(tmp_path, fresh=True)
    assert found(tmp_path) == ({}, 0)


@pytest.mark.parametrize("name", [store.CONFIG, PART])
def test_a_folder_in_place_of_a_file_is_a_sentence(tmp_path, name):
    fill(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(LabError, match=r"Is a directory.*name another folder"):
        found(tmp_path)


def test_a_file_in_place_of_a_folder_is_a_sentence(tmp_path):
    (tmp_path / "run").write_text("")
    for path in (tmp_path / "run", tmp_path / "run" / "deeper"):
        with pytest.raises(LabError, match=r"cannot be read or written.*name another folder"):
            found(path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_no_more_is_a_sentence_and_loses_nothing(tmp_path, monkeypatch, code):
    def refuse(_descriptor):
        raise OSError(code, os.strerror(code))

    with store.open_run(tmp_path, IDENTITY) as folder:
        folder.save(0, RECORDS[0])
        monkeypatch.setattr(os, "fsync", refuse)
        for write in (lambda: folder.save(1, RECORDS[1]), folder.assemble):
            with pytest.raises(LabError, match=rf"{os.strerror(code)}.*same command goes on"):
                write()
        monkeypatch.undo()
    assert not list(tmp_path.glob("*.tmp"))
    assert not (tmp_path / store.ROWS).exists()
    assert 0 in found(tmp_path)[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_device_is_a_sentence(tmp_path):
    with store.open_run(tmp_path, IDENTITY) as folder:
        (tmp_path / PART).unlink()
        (tmp_path / PART).symlink_to("/dev/full")
        with pytest.raises(
            LabError, match=r"finished_0\.jsonl cannot be written \(No space left on device\)"
        ):
            folder.save(0, RECORDS[0])


def test_the_seconds_of_all_starts_are_added_and_no_record_tells_of_them(tmp_path):
    with store.open_run(tmp_path, IDENTITY) as folder:
        folder.since -= 100
        folder.save(0, RECORDS[0])
        assert folder.seconds == pytest.approx(100, abs=5)
    # Killed here: what was computed since the last run is lost, and its time with it.
    with store.open_run(tmp_path, IDENTITY) as folder:
        folder.since -= 23
        folder.save(1, RECORDS[1])
        folder.load()
        assert folder.seconds == pytest.approx(123, abs=5)
        folder.assemble()
    assert "seconds" not in (tmp_path / store.ROWS).read_text()

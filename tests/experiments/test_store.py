import errno
import os

import pytest

from experiments.lab.run import store
from experiments.lab.run.errors import LabError

IDENTITY = {"experiment": "toy", "steps": 3}


def rows_of(path, identity=IDENTITY, **how):
    with store.open_run(path, identity, **how) as folder:
        return dict(folder.finished), folder.damaged


def fill(path, rows=(0, 1), identity=IDENTITY):
    with store.open_run(path, identity) as folder:
        folder.save({row: [{"row": row, "value": row / 4}] for row in rows})
        return folder.assemble()


def test_what_was_saved_is_found_again(tmp_path):
    path = tmp_path / "a" / "run"
    records = fill(path)
    finished, damaged = rows_of(path)
    assert [record for row in sorted(finished) for record in finished[row]] == records
    assert (list(finished), damaged) == ([0, 1], 0)
    assert (path / store.ROWS).read_text() == '{"row": 0, "value": 0.0}\n{"row": 1, "value": 0.25}\n'


def test_another_identity_is_refused_and_nothing_is_touched(tmp_path):
    fill(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(LabError, match=r"a run of steps 3, and this command has 4.*--out.*--fresh"):
        rows_of(tmp_path, {**IDENTITY, "steps": 4})
    with pytest.raises(LabError, match="another version of jaxlib"):
        rows_of(tmp_path, {**IDENTITY, "jaxlib": "9"})
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_fresh_starts_over_and_removes_only_what_a_run_leaves(tmp_path):
    fill(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "report.html").write_text("old")
    assert rows_of(tmp_path, {**IDENTITY, "steps": 4}, fresh=True) == ({}, 0)
    assert not (tmp_path / "report.html").exists()
    assert not (tmp_path / store.ROWS).exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_that_holds_no_run_is_refused(tmp_path, fresh):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(LabError, match="holds files but no run"):
        rows_of(tmp_path, fresh=fresh)
    assert (tmp_path / "thesis.tex").exists()


def damage_cut(content):
    return content[:-20]


def damage_flip(content):
    return content[:8] + bytes([content[8] ^ 1]) + content[9:]


def damage_empty(content):  # noqa: ARG001 - the faults share one signature
    return b""


def damage_binary(content):
    return b"\xff\xfe\x00" + content


@pytest.mark.parametrize("damage", [damage_cut, damage_flip, damage_empty, damage_binary])
def test_a_damaged_chunk_is_not_used(tmp_path, damage):
    fill(tmp_path, rows=(0, 1))
    fill(tmp_path, rows=(2,))
    chunk = tmp_path / store.CHUNKS / "0000000.jsonl"
    chunk.write_bytes(damage(chunk.read_bytes()))
    finished, damaged = rows_of(tmp_path)
    assert (list(finished), damaged) == ([2], 1)


def test_a_sound_chunk_of_another_run_is_not_used(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    fill(ours, rows=(0,))
    fill(theirs, rows=(5,), identity={**IDENTITY, "steps": 9})
    (theirs / store.CHUNKS / "0000005.jsonl").rename(ours / store.CHUNKS / "0000005.jsonl")
    finished, damaged = rows_of(ours)
    assert (list(finished), damaged) == ([0], 1)


def test_a_damaged_configuration_is_refused(tmp_path):
    fill(tmp_path)
    for content in ("{", "[]", ""):
        (tmp_path / store.CONFIG).write_text(content)
        with pytest.raises(LabError, match=r"config\.json is damaged.*--fresh"):
            rows_of(tmp_path)


def test_two_runs_cannot_hold_one_folder(tmp_path):
    with store.open_run(tmp_path, IDENTITY), pytest.raises(LabError, match="in use by another run"):
        rows_of(tmp_path)
    assert rows_of(tmp_path) == ({}, 0)


def test_a_full_disk_is_a_sentence_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    fill(tmp_path, rows=(0,))

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LabError, match=r"No space left on device.*same command goes on"):
        fill(tmp_path, rows=(1,))
    monkeypatch.undo()
    assert rows_of(tmp_path) == ({0: [{"row": 0, "value": 0.0}]}, 0)
    assert [path.name for path in (tmp_path / store.CHUNKS).iterdir()] == ["0000000.jsonl"]


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot be written"):
        rows_of(tmp_path / "file" / "run")


def test_the_seconds_of_all_processes_are_added_and_no_row_tells_of_them(tmp_path):
    with store.open_run(tmp_path, IDENTITY) as folder:
        folder.since -= 100
        folder.save({0: [{"row": 0}]})
        assert folder.seconds == pytest.approx(100, abs=5)
    # Killed here: what was computed since the last chunk is lost, and its time with it.
    with store.open_run(tmp_path, IDENTITY) as folder:
        folder.since -= 20
        folder.save({1: [{"row": 1}]})
        folder.since -= 3
        folder.save({2: [{"row": 2}]})
        folder.load()
        assert folder.seconds == pytest.approx(123, abs=5)
        assert folder.assemble() == [{"row": 0}, {"row": 1}, {"row": 2}]
    assert "seconds" not in (tmp_path / store.ROWS).read_text()


def test_a_process_that_does_not_hold_the_lock_adds_no_seconds(tmp_path):
    with store.open_run(tmp_path, IDENTITY) as folder:
        store.RunFolder(tmp_path, IDENTITY).save({1: [{"row": 1}]})
        folder.load()
        assert (list(folder.finished), folder.seconds) == ([1], 0)


def test_a_chunk_of_an_earlier_version_does_not_tell_its_seconds(tmp_path):
    with store.open_run(tmp_path, IDENTITY) as folder:
        lines = '{"row": 0, "records": [{"row": 0}]}\n'
        (tmp_path / store.CHUNKS / "0000000.jsonl").write_text(lines + folder._checksum(lines))
        folder.save({1: [{"row": 1}]})
        folder.load()
        assert (folder.records(), folder.seconds) == ([{"row": 0}, {"row": 1}], None)

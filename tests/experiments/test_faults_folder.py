"""Full disks, folders that are not to be written, and damaged and foreign files in a run folder."""

import errno
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from experiments.lab.run import store
from experiments.lab.run.errors import LabError
from tests.experiments import toy_experiment as toy

IDENTITY = {"experiment": "toy", "steps": 3}
BECOME = "os.execv(sys.argv[1], sys.argv[1:])"  # not preexec_fn: JAX warns of a fork
ROWS = {row: [{"row": row, "value": row / 7}] for row in range(3)}


def fill(path, rows=ROWS, identity=IDENTITY):
    with store.open_run(path, identity) as folder:
        folder.save(rows)
        return folder.assemble()


def found(path):
    with store.open_run(path, IDENTITY) as folder:
        return folder.finished


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "run"
    toy.run(path, devices=jax.devices()[:1])
    return path, (path / store.ROWS).read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda rows: rows[:-30],
        lambda rows: rows[:100] + b"\x00\xff{" + rows[103:],
        lambda rows: rows.replace(b"matrix", b"metric"),
        lambda _rows: b'{"experiment": "another", "seed": 0}\n',
        lambda _rows: b"",
    ],
    ids=["half a line at the end", "a damaged line", "another word", "another run's", "empty"],
)
def test_damaged_rows_are_written_again_from_the_chunks(finished, damage):
    path, whole = finished
    (path / store.ROWS).write_bytes(damage(whole))
    assert toy.run(path, devices=jax.devices()[:1]) == 14  # all were there
    assert (path / store.ROWS).read_bytes() == whole


def test_no_flipped_bit_of_a_chunk_gives_a_row(tmp_path):
    fill(tmp_path)
    chunk = tmp_path / store.CHUNKS / "0000000.jsonl"
    content, moments = chunk.read_bytes(), random.Random(0)
    for _ in range(150):
        place, bit = moments.randrange(len(content)), 1 << moments.randrange(8)
        chunk.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        assert found(tmp_path) == {}
    chunk.write_bytes(content)
    assert found(tmp_path) == ROWS


def test_no_part_of_a_chunk_gives_a_row(tmp_path):
    fill(tmp_path)
    chunk = tmp_path / store.CHUNKS / "0000000.jsonl"
    content = chunk.read_bytes()
    for length in range(len(content)):
        chunk.write_bytes(content[:length])
        assert found(tmp_path) == {}


def test_no_flipped_bit_of_the_configuration_is_taken_for_the_same_run(tmp_path):
    fill(tmp_path)
    config = tmp_path / store.CONFIG
    content = config.read_bytes()
    for place in range(len(content)):
        config.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        try:
            same = json.loads(config.read_bytes()) == IDENTITY  # white space
        except ValueError:
            same = False
        if not same:
            with pytest.raises(LabError, match="--fresh"):
                found(tmp_path)
    config.write_bytes(content)
    assert found(tmp_path) == ROWS


def test_rows_and_chunks_of_another_configuration_are_not_taken(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    fill(ours, {0: ROWS[0]})
    fill(theirs, {1: ROWS[1]}, IDENTITY | {"steps": 4})
    for name in (store.ROWS, f"{store.CHUNKS}/0000001.jsonl"):
        (theirs / name).rename(ours / name)
    with store.open_run(ours, IDENTITY) as folder:
        assert (folder.finished, folder.damaged) == ({0: ROWS[0]}, 1)
        folder.save({1: ROWS[1], 2: ROWS[2]})
        assert folder.assemble() == [record for records in ROWS.values() for record in records]


def test_foreign_files_are_left_alone(tmp_path):
    fill(tmp_path)
    names = (
        "notes.txt",
        "mine.png",
        f"{store.CHUNKS}/notes.txt",
        f"{store.CHUNKS}/mine.jsonl",
        "old/run.txt",
    )
    mine = [tmp_path / name for name in names]
    mine[-1].parent.mkdir()
    (tmp_path / "summary.md").write_text("![What was drawn.](drawn.png)")
    its_own = [tmp_path / "drawn.png", tmp_path / store.CHUNKS / "0000007.state"]
    for path in its_own:
        path.touch()
    for path in mine:
        path.write_text("mine")
    assert found(tmp_path) == ROWS
    with store.open_run(tmp_path, IDENTITY, fresh=True) as folder:
        assert folder.finished == {}
    assert {path.read_text() for path in mine} == {"mine"}
    assert not any(path.exists() for path in its_own)


@pytest.mark.parametrize("name", [store.CONFIG, ".lock", f"{store.CHUNKS}/0000000.jsonl"])
def test_a_folder_in_place_of_a_file_is_a_sentence(tmp_path, name):
    fill(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(LabError, match=r"Is a directory.*name another folder"):
        found(tmp_path)


def test_a_kill_while_the_configuration_is_written_leaves_a_folder_to_go_on_with(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / f"{store.CONFIG}.tmp").write_text("{")
    assert found(tmp_path) == {}
    fill(tmp_path)
    assert found(tmp_path) == ROWS


def test_a_file_in_place_of_a_folder_is_a_sentence(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(LabError, match=r"cannot be written \(File exists\).*name another folder"):
        found(tmp_path / "run")
    fill(tmp_path / "other")
    (tmp_path / "other" / store.CHUNKS).rename(tmp_path / "chunks")
    (tmp_path / "other" / store.CHUNKS).write_text("")
    with pytest.raises(LabError, match=r"chunks cannot be read or written.*name another folder"):
        found(tmp_path / "other")


@pytest.mark.parametrize(
    ("code", "saved"),
    [(errno.ENOSPC, 0), (errno.ENOSPC, 2), pytest.param(errno.EROFS, 1, marks=pytest.mark.slow)],
)
def test_a_disk_that_takes_no_more_ends_the_sweep_with_a_sentence(
    tmp_path, monkeypatch, finished, code, saved
):
    path, calls = tmp_path / "run", 0
    replace = Path.replace

    def refuse(self, target):
        nonlocal calls
        calls += 1
        if calls > saved:
            raise OSError(code, os.strerror(code))
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(LabError, match=rf"{os.strerror(code)}.*the same command goes on"):
            toy.run(path, devices=jax.devices()[:1])
    assert not list(path.rglob("*.tmp"))
    assert not (path / store.ROWS).exists()
    assert toy.run(path, devices=jax.devices()[:1]) == max(
        saved - 1, 0
    )  # the first file is the configuration
    assert (path / store.ROWS).read_bytes() == finished[1]


def test_files_that_may_not_grow_lose_no_chunk(tmp_path, finished):
    path = tmp_path / "run"
    limited = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); {BECOME}"
    command = [sys.executable, "-c", limited, sys.executable, toy.__file__, str(path)]
    command += ["--rows", "7", "--steps", "50"]
    environment = {**os.environ, "PYTHONPATH": str(Path(toy.__file__).parents[2])}
    ended = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.strip().endswith("the same command goes on from there.")
    assert "rows.jsonl cannot be written (File too large)" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (path / store.ROWS).exists()
    assert toy.run(path, devices=jax.devices()[:2]) == 14  # none is computed again
    assert (path / store.ROWS).read_bytes() == finished[1]


def test_the_second_process_on_a_run_folder_is_refused(tmp_path):
    command = [sys.executable, toy.__file__, str(tmp_path), "--rows", "7", "--steps", "50"]
    environment = {**os.environ, "PYTHONPATH": str(Path(toy.__file__).parents[2])}
    with store.open_run(tmp_path, IDENTITY) as folder:
        folder.save(ROWS)
        second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert second.returncode == 2
        assert second.stderr.strip().endswith(
            "is in use by another run: wait for it, or name another folder with --out."
        )
    assert found(tmp_path) == ROWS

"""A run folder: one run's rows, safe from kills, other runs and damage.

Every finished chunk of rows is a file of its own that ends in its checksum, and is moved into place when it is on
the disk: a kill at any moment leaves a chunk whole or absent. A run that is started again reads the chunks that are
sound, computes what is missing, and writes the same rows.jsonl as a run that nothing disturbed. Each chunk also holds
the seconds that it took, so that they are known however often a run is stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from experiments.lab.run.errors import LabError

Record = dict[str, Any]
CONFIG, ROWS, CHUNKS = "config.json", "rows.jsonl", "chunks"
_WORDS = {
    "experiment": "another experiment",
    "data_sha256": "other data",
    "program_sha256": "another version of the code, of JAX, Flax or Optax",
    "jaxlib": "another version of jaxlib",
    "platform": "another kind of device",
}
# What else a run leaves; --fresh removes these and nothing that it does not know.
_LEFT = ("environment.json", "report.html", "summary.md")
_OWN = re.compile(r"\d{7,}\.(jsonl|state)(\.tmp)?")  # finished rows, and the state inside one that is not


class RunFolder:
    """The folder of one run, held by one process or by several that compute one sweep.

    Attributes:
        path: of the folder.
        finished: the records of each finished row of the sweep, by the row's index.
        damaged: how many chunks were found that could not be used.
        seconds: what the finished rows took, in all processes that have held the lock, one after the other; None
            where a chunk does not tell.
        since: when the seconds of the next chunk began, of `time.monotonic`; None where another process, the one that
            holds the lock, keeps the time.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], since: float | None = None) -> None:
        self.path = path
        self.finished: dict[int, list[Record]] = {}
        self.damaged = 0
        self.seconds: float | None = 0.0
        self.since = since
        self._seal = hashlib.sha256(dump(identity).encode()).hexdigest()

    def save(self, chunk: Mapping[int, list[Record]]) -> None:
        """Writes the records of some rows, all of them or none."""
        lines = "".join(
            dump({"row": row, "records": records}) + "\n" for row, records in sorted(chunk.items())
        )
        took, now = 0.0, time.monotonic()
        if self.since is not None:
            took, self.since = round(now - self.since, 3), now
        lines = dump({"seconds": took}) + "\n" + lines
        write(self.path / CHUNKS / f"{min(chunk):07d}.jsonl", lines + self._checksum(lines))
        self.finished.update(chunk)
        self.seconds = None if self.seconds is None else self.seconds + took

    def records(self) -> list[Record]:
        """All records in the order of the sweep."""
        return [record for row in sorted(self.finished) for record in self.finished[row]]

    def assemble(self) -> list[Record]:
        """Writes rows.jsonl, all records in the order of the sweep, and returns them."""
        records = self.records()
        write(self.path / ROWS, "".join(dump(record) + "\n" for record in records))
        return records

    def load(self) -> None:
        """Reads what is finished, by this process or another."""
        self.seconds, self.damaged = 0.0, 0
        for path in sorted(
            path for path in (self.path / CHUNKS).glob("*.jsonl") if _OWN.fullmatch(path.name)
        ):
            content = path.read_bytes().decode(errors="replace")
            lines, _, checksum = content[:-1].rpartition("\n")
            if f"{checksum}\n" != self._checksum(f"{lines}\n") or not content.endswith("\n"):
                self.damaged += 1
                continue
            entries = [json.loads(line) for line in lines.splitlines()]
            took = next((entry["seconds"] for entry in entries if "seconds" in entry), None)
            self.seconds = None if took is None or self.seconds is None else self.seconds + took
            self.finished |= {entry["row"]: entry["records"] for entry in entries if "row" in entry}

    def _checksum(self, lines: str) -> str:
        # Sealed with the run's identity: a sound chunk of another run is not taken for one of this.
        return dump({"sha256": hashlib.sha256((self._seal + lines).encode()).hexdigest()}) + "\n"


@contextlib.contextmanager
def open_run(path: Path, identity: Mapping[str, Any], *, fresh: bool = False) -> Iterator[RunFolder]:
    """Opens a run folder for this process alone, with the rows that an earlier run has finished.

    Args:
        path: of the folder; made if it is not there.
        identity: everything that determines the rows; a folder of another identity is refused.
        fresh: remove what an earlier run has left, whatever its identity.

    Raises:
        LabError: if the folder cannot be written, is in use by another process, belongs to another run, or holds
            files that are no run's.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / ".lock").open("w")
    except OSError as error:
        raise LabError(f"--out {path} cannot be written ({error.strerror}): name another folder.") from None
    with lock:
        folder = _open_locked(path, lock, identity, fresh)
        yield folder


def _open_locked(path: Path, lock: IO[str], identity: Mapping[str, Any], fresh: bool) -> RunFolder:
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(
                f"{path} is in use by another run: wait for it, or name another folder with --out."
            ) from None
        # A run that could not write its first file, or was killed while it did, leaves no more than these.
        strangers = {entry.name for entry in path.iterdir()} - {".lock", f"{CONFIG}.tmp"}
        if strangers and not (path / CONFIG).exists():
            raise LabError(
                f"{path} holds files but no run (no {CONFIG}): name an empty or new folder with --out."
            )
        if fresh:
            _clear(path)
        claim(path, identity)
        (path / CHUNKS).mkdir(exist_ok=True)
        folder = RunFolder(path, identity, time.monotonic())
        folder.load()
    except OSError as error:
        raise LabError(
            f"{error.filename or path} cannot be read or written as a part of a run ({error.strerror}): put it right, "
            "or name another folder with --out."
        ) from None
    return folder


def claim(path: Path, identity: Mapping[str, Any]) -> None:
    """Writes the identity into an empty folder, and refuses a folder that has another one with a LabError."""
    if not (path / CONFIG).exists():
        write(path / CONFIG, dump(identity, indent=2) + "\n")
        return
    try:
        found = json.loads((path / CONFIG).read_text())
        assert isinstance(found, dict)
    except (ValueError, AssertionError):
        raise LabError(
            f"{path / CONFIG} is damaged: start over with --fresh, or name another --out."
        ) from None
    wanted = json.loads(dump(identity))
    differing = [key for key in (*wanted, *found) if found.get(key) != wanted.get(key)]
    if differing:
        key = differing[0]
        what = (
            _WORDS.get(key)
            or f"{key} {_brief(found.get(key))}, and this command has {_brief(wanted.get(key))}"
        )
        raise LabError(
            f"{path} holds a run of {what}: name another folder with --out, or start over with --fresh."
        )


def _clear(path: Path) -> None:
    """Removes what a run leaves, and nothing else that lies there.

    The configuration goes last, so that a kill in between leaves a folder to clear again.
    """
    own = [file for file in (path / CHUNKS).glob("*") if _OWN.fullmatch(file.name)]
    summary = path / "summary.md"  # names the pictures that the run has drawn
    text = summary.read_text(encoding="utf-8", errors="replace") if summary.is_file() else ""
    pictures = re.findall(r"\]\((\w+\.png)\)", text)
    for file in [*own, *(path / name for name in (*pictures, *_LEFT, ROWS, CONFIG))]:
        file.unlink(missing_ok=True)


def write(path: Path, content: str | bytes) -> None:
    """Puts a file in place whole: written beside it, forced to the disk, then moved over.

    Raises:
        LabError: if the disk is full or the folder is not to be written.
    """
    beside = path.with_name(f"{path.name}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise LabError(
            f"{path} cannot be written ({error.strerror}): free some space or name another --out; what is finished is "
            "kept, and the same command goes on from there."
        ) from None


def dump(value: Any, indent: int | None = None) -> str:
    """Strict JSON: no NaN, no infinity; NumPy scalars and tuples as numbers and lists."""
    return json.dumps(value, indent=indent, allow_nan=False, default=_plain, ensure_ascii=False)


def number(value: Any, digits: int = 9) -> float | None:
    """A float32 as the shortest decimal that stands for it; None where it is not finite."""
    single = np.float32(value)
    return float(f"{float(str(single)):.{digits}g}") if math.isfinite(single) else None


def numbers(values: Sequence[Any] | np.ndarray) -> list[float | None]:
    """Each value as `number` gives it."""
    return [number(value) for value in values]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not written to JSON")


def _brief(value: Any) -> str:
    text = "not set" if value is None else dump(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

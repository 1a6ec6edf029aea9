"""A run folder: the finished runs of one sweep, safe from kills, other configurations and damage.

Each process appends its finished runs to a file of its own, a line for each, which is on the disk before the next one
begins. A kill can tear the last line and no other; a line that cannot be read is passed over, and its run computed
again. At the end all records are written to rows.jsonl in the order of the sweep, whoever computed them and when.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.lab.run import processes
from experiments.lab.run.errors import LabError

Record = dict[str, Any]
CONFIG, ROWS = "config.json", "rows.jsonl"
_WORDS = {
    "experiment": "another experiment",
    "data_sha256": "other data",
    "program_sha256": "another version of the code, of JAX, Flax or Optax",
    "jaxlib": "another version of jaxlib",
    "platform": "another kind of device",
}
# What else a run leaves; --fresh removes these and nothing that it does not know.
_LEFT = ("environment.json", "report.html", "summary.md")
_PARTS, _STATES = "finished_*.jsonl", "unfinished_*.npz"
_BEFORE = re.compile(
    r"finished_\d+\.jsonl|config\.json\.tmp"
)  # what a kill before the configuration can leave


class RunFolder:
    """The folder of one sweep, held by this process and by the others that compute it.

    Attributes:
        path: path of the folder.
        finished: records of each finished run, by the run's place in the sweep.
        damaged: number of lines that could not be read.
        seconds: time that the finished runs took, in all processes that have computed one after the other.
        since: moment of `time.monotonic` from which the seconds of the next finished run count.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.since = time.monotonic()
        self._part = path / f"finished_{jax.process_index()}.jsonl"
        self.load()

    def load(self) -> None:
        """Reads what is finished, by this process or another."""
        self.finished: dict[int, list[Record]] = {}
        self.damaged, self.seconds = 0, 0.0
        for part in sorted(self.path.glob(_PARTS)):
            took = 0.0
            for line in part.read_bytes().splitlines():
                try:
                    found = json.loads(line)
                    self.finished[found["run"]] = found["records"]
                    took += found["seconds"]
                except (ValueError, KeyError, TypeError):
                    self.damaged += 1
            self.seconds = max(self.seconds, took)

    def save(self, run: int, records: list[Record]) -> None:
        """Appends a finished run, on the disk when this returns.

        Raises:
            LabError: if the disk is full or the folder is not to be written.
        """
        now = time.monotonic()
        took, self.since = round(now - self.since, 3), now
        line = dump({"run": run, "seconds": took, "records": records}) + "\n"
        try:
            with self._part.open("ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(self._part, error) from None
        self.finished[run] = records
        self.seconds += took

    def lacks(self, run: int) -> bool:
        """Whether a run is this process's to compute, and not finished."""
        return processes.is_mine(run) and run not in self.finished

    def records(self) -> list[Record]:
        """All records in the order of the sweep."""
        return [record for run in sorted(self.finished) for record in self.finished[run]]

    def assemble(self) -> list[Record]:
        """Writes rows.jsonl, all records in the order of the sweep, and returns them."""
        records = self.records()
        write(self.path / ROWS, "".join(dump(record) + "\n" for record in records))
        return records


@contextlib.contextmanager
def open_run(path: Path, identity: Mapping[str, Any], *, fresh: bool = False) -> Iterator[RunFolder]:
    """Opens a run folder with the runs that are finished there; process 0 first, then the others of the same sweep.

    Args:
        path: path of the folder; it is made if it is not there.
        identity: everything that determines the rows; a folder of another identity is refused.
        fresh: whether to remove what an earlier run has left, whatever its identity.

    Raises:
        LabError: if the folder cannot be written, is in use by another command, belongs to another run, or holds
            files that are no run's.
    """
    with contextlib.ExitStack() as held:
        if not processes.leads():
            processes.meet("the run folder is open")
        try:
            folder = _open(path, identity, fresh and processes.leads(), held)
        except OSError as error:
            raise LabError(
                f"{error.filename or path} cannot be read or written as a part of a run ({error.strerror}): put it "
                "right, or name another folder with --out."
            ) from None
        if processes.leads():
            processes.meet("the run folder is open")
        yield folder


def _open(path: Path, identity: Mapping[str, Any], fresh: bool, held: contextlib.ExitStack) -> RunFolder:
    if processes.leads():
        path.mkdir(parents=True, exist_ok=True)
    elif not (path / CONFIG).exists():
        raise LabError(
            f"{path} is not the folder that process 0 has opened: name one on a shared disk with --out."
        )
    strangers = [entry for entry in path.iterdir() if not _BEFORE.fullmatch(entry.name)]
    if strangers and not (path / CONFIG).exists():
        raise LabError(
            f"{path} holds files but no run (no {CONFIG}): name an empty or new folder with --out."
        )
    part = held.enter_context((path / f"finished_{jax.process_index()}.jsonl").open("a+b"))
    try:
        fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LabError(
            f"{path} is in use by another run: wait for it, or name another folder with --out."
        ) from None
    if fresh:
        _clear(path)
        part.truncate(0)
    _claim(path, identity)
    if part.seek(0, os.SEEK_END):
        part.seek(-1, os.SEEK_END)
        if part.read() != b"\n":  # a kill has torn the last line
            part.write(b"\n")
            part.flush()
    return RunFolder(path)


def _claim(path: Path, identity: Mapping[str, Any]) -> None:
    """Writes the identity into an empty folder, and refuses a folder that has another one with a LabError."""
    if not (path / CONFIG).exists():
        write(path / CONFIG, dump(identity, indent=2) + "\n")
        return
    wanted = json.loads(dump(identity))
    try:
        found = json.loads((path / CONFIG).read_text())
        differing = [key for key in (*wanted, *found) if found.get(key) != wanted.get(key)]
    except (ValueError, AttributeError, TypeError):
        raise LabError(
            f"{path / CONFIG} is damaged: start over with --fresh, or name another --out."
        ) from None
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
    summary = path / "summary.md"  # names the pictures that the run has drawn
    text = summary.read_text(encoding="utf-8", errors="replace") if summary.is_file() else ""
    pictures = re.findall(r"\]\((\w+\.png)\)", text)
    others = [part for part in path.glob(_PARTS) if part.name != "finished_0.jsonl"]  # that one is held open
    for file in [*others, *path.glob(_STATES), *(path / name for name in (*pictures, *_LEFT, ROWS, CONFIG))]:
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
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> LabError:
    return LabError(
        f"{path} cannot be written ({error.strerror}): free some space or name another --out; what is finished is "
        "kept, and the same command goes on from there."
    )


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

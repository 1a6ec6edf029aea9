"""Whether a run fits into memory, asked before it starts: a machine that runs out kills it without a word."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from experiments.lab.run import store
from experiments.lab.run.errors import LabError

_LEAST = 1200  # bytes of a row of any experiment: 152 or more in the table, a record of ten figures, its line of text
_TEXTS = 3  # rows.jsonl is written from all its lines, joined, encoded
_FIGURE = 8  # characters by which nine digits are longer than 1.0
_CONTROL_GROUP = Path("/sys/fs/cgroup")  # where a container's limit stands


def check_program(name: str, bytes_each: int, devices: Sequence[Any]) -> None:
    """Raises a LabError if a program does not fit on the devices; `bytes_each` is what it takes on each.

    CPU devices share the machine's memory. Nothing is refused where the free memory is not known.
    """
    on_cpu = devices[0].platform == "cpu"
    needed = bytes_each * (len(devices) if on_cpu else 1)
    free = machine() if on_cpu else _accelerator(devices[0])
    if free is not None and needed > free:
        where = f"on {len(devices)} CPU device(s)" if on_cpu else "on each device"
        raise LabError(
            f"{name} would take {_gigabytes(needed)} {where}, and {_gigabytes(free)} are free: lower the networks' "
            "width or depth, the batch size, or whatever else --help names that sizes one row."
        )


class Sampled(Protocol):
    """A group of rows that can tell what is kept of one: `Group` and `Loop`."""

    @property
    def rows(self) -> Sequence[Any]:
        """Of the sweep's table."""
        ...

    def sample(self, data: Any) -> list[store.Record]:
        """The records of its last row, made of ones in place of results."""
        ...


def check_grid(rows: int) -> None:
    """Raises a LabError if so many rows cannot be held, however little is kept of each.

    For the settings alone, before there are data or a table; `check_records` knows more.
    """
    _check_grid(rows, rows * _LEAST)


def check_seeds(groups_of: Callable[[int], Sequence[Sampled]], seeds: int, data: Any) -> None:
    """`check_records` before the table of all seeds is made.

    Args:
        groups_of: (seeds) -> the groups of a sweep whose rows are a whole grid for each seed.
        seeds: how many are asked for.
        data: of the sweep.
    """
    # Of two, because an experiment can keep more of seed 0, for its pictures.
    check_records([(group, len(group.rows) * seeds // 2) for group in groups_of(2)], data)


def check_records(todo: Sequence[tuple[Sampled, int]], data: Any) -> None:
    """Raises a LabError if the rows of a sweep cannot be held.

    Args:
        todo: the groups, and how many of their rows are still to be computed.
        data: of the sweep.
    """
    needed = sum(rows * held(group.rows[-1], group.sample(data)) for group, rows in todo if rows)
    _check_grid(sum(rows for _, rows in todo), needed)


def held(row: Any, records: Sequence[store.Record]) -> int:
    """Bytes that one row takes to the end of a run: in the table, as records, and as text while rows.jsonl is written.

    Bounds from above what `records` of other figures take: no two of them are counted as one object, and None and the
    small integers, which Python has but once, are counted as floats.
    """
    table = _deep(tuple(row) if isinstance(row, tuple) else row) + 8
    # Keys that are read back from a chunk are one string for each row, whatever the number of its records.
    keys = {key for record in records for key in record}
    text = sum(len(store.dump(record)) + 80 + _FIGURE * _figures(record) for record in records)
    return table + _deep(list(records)) + sum(map(_shallow, keys)) + 16 * len(records) + 200 + _TEXTS * text


def of_ones(shapes: Any) -> Any:
    """Arrays as results are on the host, for `Sampled.sample`; ones, of which every measure can be taken."""
    return jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)


def size(tree: Any) -> int:
    """Bytes of the arrays, or of their shapes as `jax.eval_shape` gives them."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def machine() -> int | None:
    """Bytes that this process can still take of the machine, or of its container; None where that is not told."""
    found = []
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        pass
    try:
        limit, used = (int((_CONTROL_GROUP / f"memory.{of}").read_text()) for of in ("max", "current"))
        stat = dict(line.split() for line in (_CONTROL_GROUP / "memory.stat").read_text().splitlines())
        found.append(limit - used + int(stat["inactive_file"]))  # pages of files, given back on demand
    except (OSError, KeyError, ValueError):  # no container, or one without a limit: "max"
        pass
    return min(found, default=None)


def _accelerator(device: Any) -> int | None:
    stats = device.memory_stats() or {}
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0) if "bytes_limit" in stats else None


def _check_grid(rows: int, needed: int) -> None:
    free = machine()
    if free is not None and needed > free:
        raise LabError(
            f"a grid of {rows:,} networks would take {_gigabytes(needed)} or more for its rows alone, and "
            f"{_gigabytes(free)} are free: lower --seeds, or give fewer values of the other settings."
        )


def _deep(thing: Any) -> int:
    return _shallow(thing) + sum(map(_deep, _inside(thing)))


def _figures(thing: Any) -> int:
    return sum(map(_figures, _inside(thing))) if isinstance(thing, dict | list | tuple) else 1


def _inside(thing: Any) -> Iterable[Any]:
    return thing.values() if isinstance(thing, dict) else thing if isinstance(thing, list | tuple) else ()


def _shallow(thing: Any) -> int:
    return max(-(-sys.getsizeof(thing) // 16) * 16, 32)  # memory is given out in steps of 16 bytes


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"

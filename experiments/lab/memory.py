"""Whether a run fits into memory, asked before it starts: a machine that runs out kills it without a word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.lab.errors import LabError

_LEAST_RECORD = 500  # bytes of the smallest record of a row, as a Python dictionary
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


def check_grid(rows: int) -> None:
    """Raises a LabError if the records of so many rows cannot be held."""
    needed, free = rows * _LEAST_RECORD, machine()
    if free is not None and needed > free:
        raise LabError(
            f"a grid of {rows:,} networks would take {_gigabytes(needed)} or more for its rows alone, and "
            f"{_gigabytes(free)} are free: lower --seeds, or give fewer values of the other settings."
        )


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


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"

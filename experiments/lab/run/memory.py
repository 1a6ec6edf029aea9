"""Whether a compiled program fits into memory, asked before it runs: a machine without any left just kills it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from experiments.lab.run.errors import LabError

_CONTROL_GROUP = Path("/sys/fs/cgroup")  # where a container's limit stands, of which psutil does not know


def check(name: str, compiled: Any, devices: Sequence[Any]) -> None:
    """Raises a LabError if a compiled program does not fit on all of the devices at once.

    CPU devices share the machine's memory. Nothing is refused where JAX or the device does not tell.
    """
    analysis = compiled.memory_analysis()
    on_cpu = devices[0].platform == "cpu"
    free = machine() if on_cpu else _accelerator(devices[0])
    if analysis is None or free is None:
        return
    needed = analysis.temp_size_in_bytes + analysis.output_size_in_bytes
    needed *= len(devices) if on_cpu else 1
    if needed > free:
        where = f"on {len(devices)} CPU device(s)" if on_cpu else "on each device"
        raise LabError(
            f"{name} would take {needed / 1e9:,.1f} GB {where}, and {free / 1e9:,.1f} GB are free: lower the "
            "networks' width or depth, the batch size, or whatever else --help names that sizes one network."
        )


def machine() -> int:
    """Bytes that this process can still take of the machine, or of its container."""
    free = psutil.virtual_memory().available
    try:
        limit, used = (int((_CONTROL_GROUP / f"memory.{of}").read_text()) for of in ("max", "current"))
        stat = dict(line.split() for line in (_CONTROL_GROUP / "memory.stat").read_text().splitlines())
        return min(free, limit - used + int(stat["inactive_file"]))  # pages of files are given back on demand
    except (OSError, KeyError, ValueError):  # no container, or one without a limit: "max"
        return int(free)


def _accelerator(device: Any) -> int | None:
    stats = device.memory_stats() or {}
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0) if "bytes_limit" in stats else None

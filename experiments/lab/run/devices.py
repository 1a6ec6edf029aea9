"""The devices a sweep runs on: an accelerator's, or one CPU device for each core."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from experiments.lab.run import processes


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_all_cores() -> None:
    """Makes one CPU device of each core, and joins other processes of the same run, if there are any.

    To be called by an entry point, before JAX starts its backend.

    One network a core wastes less than one network over all cores: its matrix products are small, and threads that
    share one wait for each other. Where there is an accelerator this changes nothing.
    """
    jax.config.update("jax_num_cpu_devices", cores())
    processes.join()


def use_one_core() -> None:
    """Begins this process again on one core, where the system can, for a measurement without threads that wait.

    To be called by an entry point. XLA and OpenBLAS have counted the cores by the time that they are imported.
    """
    if hasattr(os, "sched_setaffinity") and len(allowed := os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {min(allowed)})
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - the command that is running


def environment() -> dict[str, Any]:
    """What a run was computed with, for environment.json."""
    packages = ("jax_leaky", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "matplotlib", "rich")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": cores(),
        "devices": [device.device_kind for device in jax.devices()],
        "platform": jax.default_backend(),
        "packages": {name: version for name in packages if (version := _version(name))},
    }


def processor() -> str:
    """The processor's name, as far as the system tells."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

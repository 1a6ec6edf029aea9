"""Several processes, on one machine or many, that compute one sweep together under `jax.distributed`.

Each is started with the same command. JAX finds the others by itself on a cluster that it knows (SLURM, Open MPI);
elsewhere JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID name them. All see one run folder: process 0
holds its lock and writes what is made of the rows, and every process saves the rows that its own devices compute.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils

from experiments.lab import store
from experiments.lab.errors import LabError

_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_CLUSTERS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
_HEARTBEAT = 30  # seconds: when one process dies, JAX ends the others within a minute


def join() -> None:
    """Joins the other processes of this run, if there are any; before JAX starts its backend.

    Raises:
        LabError: if only some of the three variables are set, or one is no number.
    """
    given = [name for name in _VARIABLES if os.environ.get(name)]
    if given and len(given) < len(_VARIABLES):
        missing = next(name for name in _VARIABLES if name not in given)
        raise LabError(
            f"{missing} is not set, and {given[0]} is: several processes need {', '.join(_VARIABLES)}."
        )
    if given:
        try:
            count, index = (int(os.environ[name]) for name in _VARIABLES[1:])
        except ValueError as error:
            raise LabError(f"{' and '.join(_VARIABLES[1:])} must be whole numbers: {error}.") from None
        jax.distributed.initialize(
            num_processes=count, process_id=index, heartbeat_timeout_seconds=_HEARTBEAT
        )
    elif any(int(os.environ.get(name, "1")) > 1 for name in _CLUSTERS):
        jax.distributed.initialize(heartbeat_timeout_seconds=_HEARTBEAT)


def leads() -> bool:
    """Whether this process writes the report and speaks: process 0, which is the only one as a rule."""
    return jax.process_index() == 0


def meet(where: str) -> None:
    """Waits until all processes are there; nothing where there is but one."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


@contextlib.contextmanager
def open_run(path: Path, identity: Mapping[str, Any], *, fresh: bool = False) -> Iterator[store.RunFolder]:
    """`store.open_run` for all processes: the first opens the folder, the others read what it found there."""
    if leads():
        with store.open_run(path, identity, fresh=fresh) as folder:
            meet("the folder is open")
            meet("the folder is read")
            yield folder
    else:
        meet("the folder is open")
        folder = store.RunFolder(path, identity)
        folder.load()
        meet("the folder is read")
        yield folder

"""Several processes, on one machine or many, that compute one sweep together: each its share of the runs.

The user starts them, with the same command; see docs/many_machines.md. Nothing is computed across processes: each
appends its finished runs to a file of its own in the run folder, which all of them see, and process 0 writes what is
made of them. When a process dies, JAX's heartbeats end the others.
"""

from __future__ import annotations

import os
import signal

import jax
from jax.experimental import multihost_utils

from experiments.lab.run.errors import LabError

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_CLUSTERS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")  # JAX reads the rest itself
# Seconds in which all processes must have joined; JAX's own 300 suit no one who mistyped an address. And seconds of
# silence after which one has died, of which the others are to hear before long; JAX's own are 100.
_PATIENCE, _SILENCE = 60, 30


def join() -> None:
    """Joins the other processes of this run, if the user has started several; before JAX starts its backend.

    Raises:
        LabError: if the variables are not complete, or the other processes cannot be found.
    """
    given = [os.environ[name] for name in VARIABLES if name in os.environ]
    if not given and all(os.environ.get(name, "1") == "1" for name in _CLUSTERS):
        return
    try:
        address, count, index = (given[0], int(given[1]), int(given[2])) if given else (None, None, None)
        jax.distributed.initialize(
            *(address, count, index), initialization_timeout=_PATIENCE, heartbeat_timeout_seconds=_SILENCE
        )
    except (IndexError, ValueError, RuntimeError) as error:
        raise LabError(
            f"the other processes of this run are not found ({str(error).splitlines()[0]}): give all of "
            f"{', '.join(VARIABLES)}, or start them with srun or mpirun; see docs/many_machines.md."
        ) from None
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # JAX would only note it


def leads() -> bool:
    """Whether this process writes the report and speaks: process 0, which is the only one as a rule."""
    return jax.process_index() == 0


def is_mine(run: int) -> bool:
    """Whether a run of the sweep, by its place, is this process's to compute."""
    return run % jax.process_count() == jax.process_index()


def meet(where: str) -> None:
    """Waits until all processes are there; nothing where there is but one."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)

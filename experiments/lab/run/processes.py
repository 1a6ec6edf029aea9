"""Several processes, on one machine or many, that compute one sweep together under `jax.distributed`.

Each is started with the same command. JAX finds the others by itself on a cluster that it knows (SLURM, Open MPI,
Kubernetes); elsewhere JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID name them. All see one run folder:
process 0 holds its lock and writes what is made of the rows, and every process saves the rows that its own devices
compute. On one machine this starts them all:

    python -m experiments.lab.run.processes 2 dead_neurons --smoke
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.lab.run import lifeline, store
from experiments.lab.run.errors import LabError
from experiments.lab.run.launcher import VARIABLES, main, start

__all__ = ["join", "leads", "main", "meet", "open_run", "start"]

_CLUSTERS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
_PATIENCE = 60  # seconds until all processes must have joined
_QUIET = 2  # seconds of them without a word: processes that are started together meet sooner
_HEARTBEAT = 30  # seconds: when a whole machine dies, JAX ends the processes of the others within a minute


def join() -> None:
    """Joins the other processes of this run, if there are any; before JAX starts its backend.

    From then on the death of one ends the others, with a sentence: see `experiments.lab.run.lifeline`.

    Raises:
        LabError: if only some of the three variables are set, one is no number or no address, or the others are not
            there within a minute.
    """
    given = [name for name in VARIABLES if os.environ.get(name)]
    if given and len(given) < len(VARIABLES):
        missing = next(name for name in VARIABLES if name not in given)
        raise LabError(
            f"{missing} is not set, and {given[0]} is: several processes need {', '.join(VARIABLES)}."
        )
    named: dict[str, Any] = {}
    where = "the address that the cluster names"
    if given:
        where = os.environ[VARIABLES[0]]
        host, _, port = where.rpartition(":")
        if not host or not port.isdecimal():
            raise LabError(f"{VARIABLES[0]} is {where}: give a host and a port, as 10.0.0.1:1234.")
        count, index = (_whole(name) for name in VARIABLES[1:])
        if not 0 <= index < count:
            raise LabError(
                f"{VARIABLES[2]} is {index}: give 0 to {count - 1}, a number less than {VARIABLES[1]}."
            )
        named = {"num_processes": count, "process_id": index}
    elif not (_indexed_job() or any(_whole(name) > 1 for name in _CLUSTERS if os.environ.get(name))):
        return
    _initialize(where, named)
    lifeline.hold()


def _whole(name: str) -> int:
    try:
        return int(os.environ[name])
    except ValueError:
        raise LabError(f"{name} is {os.environ[name]}: it must be a whole number.") from None


def _initialize(where: str, named: Mapping[str, Any]) -> None:
    """`jax.distributed.initialize` with an end: in a thread, because it waits where Python can't interrupt it.

    At the end of its own patience, JAX aborts the process with a stack trace, so it is given more than ours.
    """
    failures: list[Exception] = []

    def work() -> None:
        try:
            jax.distributed.initialize(
                heartbeat_timeout_seconds=_HEARTBEAT, initialization_timeout=_PATIENCE + 60, **named
            )
        except Exception as error:  # handed to the main thread
            failures.append(error)

    worker = threading.Thread(target=work, name="join", daemon=True)
    worker.start()
    worker.join(_QUIET)
    if worker.is_alive():
        print(f"waiting for the other processes at {where}, up to {_PATIENCE} s", file=sys.stderr, flush=True)
        worker.join(_PATIENCE - _QUIET)
    if worker.is_alive():
        raise LabError(
            f"Not all processes of this run have come to {where} in {_PATIENCE} s: start all of them within that time, "
            "with the same address and number of processes; see docs/many_machines.md."
        )
    if failures:
        reason = str(failures[0]).partition("\n")[0].rstrip(".")
        raise LabError(
            f"the other processes of this run are not found ({reason}): see docs/many_machines.md."
        )


def _indexed_job() -> bool:
    """Whether this is a pod of an indexed Kubernetes job whose others JAX can find: it needs `pip install jax[k8s]`."""
    inside = "KUBERNETES_SERVICE_HOST" in os.environ and "JOB_COMPLETION_INDEX" in os.environ
    return inside and importlib.util.find_spec("kubernetes") is not None


def leads() -> bool:
    """Whether this process writes the report and speaks: process 0, which is the only one as a rule."""
    return jax.process_index() == 0


def meet(where: str) -> None:
    """Waits until all processes are there; nothing where there is but one.

    Raises:
        LabError: if one of them has ended.
    """
    if jax.process_count() > 1:
        try:
            multihost_utils.sync_global_devices(where)
        except jax.errors.JaxRuntimeError:
            raise LabError(
                f"Another process of this run has ended before its time. {lifeline.GOES_ON}"
            ) from None


@contextlib.contextmanager
def open_run(path: Path, identity: Mapping[str, Any], *, fresh: bool = False) -> Iterator[store.RunFolder]:
    """`store.open_run` for all processes: the first opens the folder, the others read what it found there.

    Raises:
        LabError: in all of them if one cannot go on; see `store.open_run`.
    """
    with contextlib.ExitStack() as stack:
        if leads():
            try:
                folder = stack.enter_context(store.open_run(path, identity, fresh=fresh))
            except LabError:
                _told(False)
                raise
            _told(True)
        else:
            if not _told(True):
                raise LabError(f"Process 0 could not open {path}, and says why.")
            if not (path / store.CONFIG).exists():
                raise LabError(
                    f"{path} is not the folder that process 0 has opened: name one on a shared disk with --out."
                )
            store.claim(path, identity)
            folder = store.RunFolder(path, identity)
            folder.load()
        yield folder


def _told(opened: bool) -> bool:
    """What process 0 says, in every process."""
    if jax.process_count() == 1:
        return opened
    return bool(multihost_utils.broadcast_one_to_all(np.array(opened)))


if __name__ == "__main__":
    main()

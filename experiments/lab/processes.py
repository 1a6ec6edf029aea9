"""Several processes, on one machine or many, that compute one sweep together under `jax.distributed`.

Each is started with the same command. JAX finds the others by itself on a cluster that it knows (SLURM, Open MPI,
Kubernetes); elsewhere JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID name them. All see one run folder:
process 0 holds its lock and writes what is made of the rows, and every process saves the rows that its own devices
compute. On one machine this starts them all:

    python -m experiments.lab.processes 2 dead_neurons --smoke
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.lab import store
from experiments.lab.errors import LabError

_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_CLUSTERS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
_HEARTBEAT = 30  # seconds: when one process dies, JAX ends the others within a minute
_GOES_ON = "What is finished is kept: start all processes again, and they go on from there."
_DONE = "done"


def join() -> None:
    """Joins the other processes of this run, if there are any; before JAX starts its backend.

    Raises:
        LabError: if only some of the three variables are set, one is no number, or the others are not found.
    """
    given = [name for name in _VARIABLES if os.environ.get(name)]
    if given and len(given) < len(_VARIABLES):
        missing = next(name for name in _VARIABLES if name not in given)
        raise LabError(
            f"{missing} is not set, and {given[0]} is: several processes need {', '.join(_VARIABLES)}."
        )
    named: dict[str, Any] = {}
    if given:
        try:
            count, index = (int(os.environ[name]) for name in _VARIABLES[1:])
        except ValueError as error:
            raise LabError(f"{' and '.join(_VARIABLES[1:])} must be whole numbers: {error}.") from None
        named = {"num_processes": count, "process_id": index}
    elif not (_indexed_job() or any(int(os.environ.get(name, "1")) > 1 for name in _CLUSTERS)):
        return
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=_HEARTBEAT, **named)
    except (ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise LabError(
            f"the other processes of this run are not found ({reason}): see docs/many_machines.md."
        ) from None


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
            raise LabError(f"Another process of this run has ended before its time. {_GOES_ON}") from None


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
        stack.enter_context(_alive(path))
        yield folder


def _told(opened: bool) -> bool:
    """What process 0 says, in every process."""
    if jax.process_count() == 1:
        return opened
    return bool(multihost_utils.broadcast_one_to_all(np.array(opened)))


@contextlib.contextmanager
def _alive(path: Path) -> Iterator[None]:
    """Ends this process with a sentence as soon as another one of the run has died.

    Each process holds the lock of a file of its own, which the system releases when the process ends, however it
    does; the others wait for that. JAX's heartbeats would tell half a minute later, by a stack trace.
    """
    if jax.process_count() == 1:
        yield
        return
    me, left = jax.process_index(), threading.Event()

    def wait(other: int) -> None:
        with (path / f".process-{other}").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            if file.read() != _DONE and not left.is_set():
                print(
                    f"Process {other} of this run has ended before its time. {_GOES_ON}",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(2)

    with (path / f".process-{me}").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        meet("every process holds its lock")
        for other in set(range(jax.process_count())) - {me}:
            threading.Thread(target=wait, args=(other,), daemon=True).start()
        try:
            yield
            file.write(_DONE)
            file.flush()
        finally:
            left.set()


def start(count: int, command: Sequence[str], **options: Any) -> list[subprocess.Popen[Any]]:
    """Starts a command `count` times on this machine, as the processes of one run.

    Args:
        count: how many.
        command: and its arguments.
        **options: of subprocess.Popen.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    around = options.pop("env", os.environ)
    return [
        subprocess.Popen(
            command,
            env={**around, **dict(zip(_VARIABLES, (address, str(count), str(index)), strict=True))},
            **options,
        )
        for index in range(count)
    ]


def main() -> None:
    """The command line; ends with the status of the process that failed first, 0 if none did."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.lab.processes",
        description="Runs an experiment in several processes of this machine.",
    )
    parser.add_argument("count", type=int, help="of processes")
    parser.add_argument("experiment", help="its name; what follows are its flags")
    parser.add_argument("flags", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    if given.count < 1:
        parser.error(f"count is {given.count}: give 1 or more.")
    # Ctrl-C reaches all of them from the terminal; each ends by itself.
    started = start(given.count, [sys.executable, "-m", f"experiments.{given.experiment}", *given.flags])
    failed = None
    while any(process.poll() is None for process in started):
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(0.1)
        if failed is None:
            failed = next((index for index, process in enumerate(started) if process.poll()), None)
    if failed is None:
        failed = next((index for index, process in enumerate(started) if process.returncode), None)
    if failed is not None:
        status = started[failed].returncode
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        sys.exit(f"Process {failed} ended {how}, and the others with it. {_GOES_ON}")


if __name__ == "__main__":
    main()

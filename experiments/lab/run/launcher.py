"""Starts the processes of a run on one machine, passes signals on to them, and leaves none of them behind."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from experiments.lab.run.lifeline import GOES_ON

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_PASSED_ON = {signal.SIGINT: signal.SIGINT, signal.SIGTERM: signal.SIGTERM, signal.SIGHUP: signal.SIGTERM}
_PATIENCE = (
    60  # seconds that the others have after the first failure; as a rule they end by themselves in one
)
_LAST = 10  # seconds from being told to end to being killed


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
            env={**around, **dict(zip(VARIABLES, (address, str(count), str(index)), strict=True))},
            **options,
        )
        for index in range(count)
    ]


def watch(
    started: Sequence[subprocess.Popen[Any]],
    caught: Sequence[int],
    *,
    patience: float = _PATIENCE,
    last: float = _LAST,
) -> int | None:
    """Waits until all have ended, and returns which failed first; None if none did.

    Args:
        started: the processes.
        caught: the signals that this process has been sent, to which its handler adds.
        patience: seconds after a failure, or a signal, when those that still run are told to end.
        last: seconds after that when they are killed.
    """
    failed, told, over, passed = None, False, float("inf"), 0
    while running := [process for process in started if process.poll() is None]:
        if failed is None:
            failed = next((index for index, process in enumerate(started) if process.poll()), None)
            if failed is not None:
                over = min(over, time.monotonic() + patience)
        for number in caught[passed:]:
            _send(running, _PASSED_ON[signal.Signals(number)])
            # They know: what is left of the patience is for their end.
            told, over, passed = True, min(over, time.monotonic() + last), passed + 1
        if time.monotonic() > over:
            _send(running, signal.SIGKILL if told else signal.SIGTERM)
            told, over = True, time.monotonic() + last
        time.sleep(0.1)
    if failed is None:
        failed = next((index for index, process in enumerate(started) if process.returncode), None)
    return failed


def main() -> None:
    """The command line; ends with status 1 if a process failed, and as a signal asks if one was sent."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.lab.run.processes",
        description="Runs an experiment in several processes of this machine.",
    )
    parser.add_argument("count", type=int, help="of processes")
    parser.add_argument("experiment", help="its name; what follows are its flags")
    parser.add_argument("flags", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    if given.count < 1:
        parser.error(f"count is {given.count}: give 1 or more.")
    caught: list[int] = []
    for (
        number
    ) in _PASSED_ON:  # before the first starts, so that there is no moment in which one is left alone
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda number, _frame: caught.append(number))
    command = [sys.executable, "-m", f"experiments.{given.experiment}", *given.flags]
    # In a group of their own each, so that a terminal's Ctrl-C comes to them once, from here.
    started = start(given.count, command, process_group=0)
    failed = watch(started, caught)
    if caught:
        sys.exit(128 + caught[0])  # each process has said what the user should know
    if failed is not None:
        status = started[failed].returncode
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        sys.exit(f"Process {failed} ended {how}, and the others with it. {GOES_ON}")


def _send(running: Sequence[subprocess.Popen[Any]], number: int) -> None:
    for process in running:
        process.send_signal(number)  # none to a process that has been waited for

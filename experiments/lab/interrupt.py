"""Ctrl-C that works while XLA compiles or computes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

from experiments.lab.errors import LabError

T = TypeVar("T")


def interruptible(work: Callable[[], T]) -> T:
    """What `work` returns or raises; the main thread stays free to hear an interrupt.

    Python delivers a signal to its main thread between two instructions, and one call into XLA can take many
    seconds. So the work is done in another thread, which an interrupt abandons: what it has saved is whole at any
    moment, and the process is about to end.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # handed to the main thread, which raises it
            failure.append(error)

    worker = threading.Thread(target=run, name="sweep", daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(timeout=0.1)
    if failure:
        raise failure[0]
    return outcome[0]


def enter(main: Callable[[], None]) -> None:
    """Runs an experiment's main: a LabError becomes its sentence, an interrupt says how to go on.

    Ends with the status 2 for a LabError, 130 when interrupted, and 143 when told to terminate.
    """
    caught = [signal.SIGINT]

    def terminate(_signal: int, _frame: object) -> None:
        caught[0] = signal.SIGTERM
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    try:
        main()
    except LabError as error:
        _leave(2, str(error))
    except KeyboardInterrupt:
        so_far = ", and with --so-far it reports on that" if _has_so_far() else ""
        _leave(
            128 + caught[0],
            f"Stopped. What is finished is kept: the same command goes on from there{so_far}.",
        )


def _has_so_far() -> bool:
    """Whether the script that was started has the flag: its dataclass of flags, always `Config`, has the field."""
    return hasattr(getattr(sys.modules["__main__"], "Config", None), "so_far")


def _leave(status: int, sentence: str) -> None:
    print(f"\n{sentence}" if status > 2 else sentence, file=sys.stderr, flush=True)
    sys.stdout.flush()
    # Not sys.exit: that would wait for the computation that was abandoned.
    os._exit(status)

"""Ctrl-C that works while XLA compiles or computes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

from experiments.lab.run.errors import LabError

T = TypeVar("T")
_GOES_ON = "What is finished is kept: the same command goes on from there"


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

    Ends with the status 2 for a LabError or an output that takes no more, 130 when interrupted, 141 when nobody reads
    the output any longer, and 143 when told to terminate.
    """
    caught = [signal.SIGINT]

    def terminate(_signal: int, _frame: object) -> None:
        caught[0] = signal.SIGTERM
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    try:
        main()
        sys.stdout.flush()  # here, where a failure still becomes a sentence
    except LabError as error:
        _leave(2, str(error))
    except OSError as error:
        if _output_works():  # it is of something else
            raise
        if isinstance(error, BrokenPipeError):
            _leave(128 + signal.SIGPIPE, f"Stopped, because nobody reads the output any longer. {_GOES_ON}.")
        _leave(2, f"The output cannot be written ({error.strerror}). {_GOES_ON}.")
    except KeyboardInterrupt:
        so_far = ", and with --so-far it reports on that" if _has_so_far() else ""
        _leave(
            128 + caught[0],
            f"Stopped. {_GOES_ON}{so_far}.",
        )


def _output_works() -> bool:
    # A flush would not tell: Python can drop what it could not write.
    try:
        print(flush=True)
    except OSError:
        return False
    return True


def _has_so_far() -> bool:
    """Whether the script that was started has the flag: its dataclass of flags, always `Config`, has the field."""
    return hasattr(getattr(sys.modules["__main__"], "Config", None), "so_far")


def _leave(status: int, sentence: str) -> None:
    with contextlib.suppress(OSError):  # stderr can be the same pipe
        print(f"\n{sentence}" if status > 2 else sentence, file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    # Not sys.exit: that would wait for the computation that was abandoned.
    os._exit(status)

"""How a command ends: at once when it is interrupted, and with one sentence where the user can help."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable

from experiments.lab.run.errors import LabError


def enter(main: Callable[[], None]) -> None:
    """Runs a command; a LabError, or a full disk under the output, becomes a sentence and the exit status 2.

    Ctrl-C, and the end of whoever reads the output, end the process as the system does by default. Python would
    deliver an interrupt only between two of its instructions, and one call into XLA can take minutes; what a run has
    finished is on the disk at any moment.
    """
    if (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):  # else a shell's background job ignores it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        main()
        sys.stdout.flush()  # here, where a failure still becomes a sentence
    except LabError as error:
        _leave(str(error))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _leave(
            f"{error.filename or 'The output'} cannot be written ({error.strerror}): free some space; what is finished "
            "is kept, and the same command goes on from there."
        )


def _leave(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
    # Not sys.exit: JAX would first wait for the other processes of the run, and they for this one.
    os._exit(2)

"""Every process of a run learns at once that another one has died, from the moment they have joined to the end.

Process 0 holds a connection to each of the others, and passes on which one it has lost. The system closes a process's
connections when it ends, however it does; one that ends well says so first. JAX's heartbeats would tell half a minute
later, by a stack trace; they are what is left where a machine falls silent, or a network lets no connection through.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import socket
import sys
import threading
from typing import Any, NoReturn

GOES_ON = "What is finished is kept: start all processes again, and they go on from there."
_KEY = "jax_leaky/lifeline"
_DONE = "done"
_ending = threading.Lock()
_WAIT = 20  # seconds for a connection; the other side is there, so it takes milliseconds or never comes


def hold() -> None:
    """Ties this process to the others of its run; to be called right after `jax.distributed.initialize`."""
    # JAX has no public way to ask for these without starting its backend, and none at all for the address that the
    # processes have agreed on. The four names are those of every release since 0.4.
    from jax._src.distributed import global_state

    client: Any = global_state.client
    address = global_state.coordinator_address
    if client is None or address is None or global_state.num_processes == 1:
        return
    if global_state.process_id == 0:
        _lead(client)
    else:
        _follow(client, address.rpartition(":")[0].strip("[]"), global_state.process_id)


def _lead(client: Any) -> None:
    others: dict[int, socket.socket] = {}
    # Not bound to the coordinator's address, which can be a name that stands for this machine only from outside.
    both = socket.has_dualstack_ipv6()
    server = socket.create_server(
        ("", 0), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both
    )
    # Whoever does not know the word is no process of this run.
    word = secrets.token_hex(16)

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection.makefile("r") as lines:
            connection.settimeout(_WAIT)
            given, _, name = lines.readline(100).strip().partition(" ")
            if not secrets.compare_digest(given, word):
                connection.close()
                return
            connection.settimeout(None)
            index = int(name)
            others[index] = connection
            said = ""
            with contextlib.suppress(OSError):  # a connection that is reset instead of closed
                said = lines.readline().strip()
            if said != _DONE:
                # Told first: they would otherwise hear of the end of this process alone.
                for other in list(others.values()):
                    with contextlib.suppress(OSError):
                        other.sendall(f"{index}\n".encode())
                _end(index)

    def accept() -> None:
        while True:
            threading.Thread(target=serve, args=server.accept()[:1], daemon=True).start()

    def leave() -> None:
        _end_if_failed()
        for other in list(others.values()):
            with contextlib.suppress(OSError):
                other.sendall(f"{_DONE}\n".encode())

    threading.Thread(target=accept, daemon=True).start()
    client.key_value_set(_KEY, f"{server.getsockname()[1]} {word}")
    atexit.register(leave)


def _follow(client: Any, host: str, me: int) -> None:
    port, word = client.blocking_key_value_get(_KEY, _WAIT * 1000).split()
    try:
        leader = socket.create_connection((host, int(port)), timeout=_WAIT)
    except OSError as error:
        print(
            f"Process {me} has no connection to process 0 beside JAX's own ({error}): if one of them dies, the others "
            "end a minute later, by JAX's error.",
            file=sys.stderr,
        )
        return
    leader.settimeout(None)
    leader.sendall(f"{word} {me}\n".encode())

    def listen() -> None:
        # To the very end: while this process waits in JAX's last barrier, process 0 still writes the report.
        said = ""
        with contextlib.suppress(OSError), leader.makefile("r") as lines:
            said = lines.readline().strip()
        if said != _DONE:
            _end(int(said or 0))

    def leave() -> None:
        _end_if_failed()
        with contextlib.suppress(OSError):
            leader.sendall(f"{_DONE}\n".encode())

    threading.Thread(target=listen, daemon=True).start()
    atexit.register(leave)


def _end(lost: int) -> NoReturn:
    # Never released: the others that this process tells end too, and only the first is worth a word.
    _ending.acquire()
    print(f"Process {lost} of this run has ended before its time. {GOES_ON}", file=sys.stderr, flush=True)
    # From a thread, and past JAX, which would wait for the one that is gone.
    os._exit(2)


def _end_if_failed() -> None:
    """Leaves at once after an error that nobody caught: JAX would first wait for the others, and they for this one."""
    if hasattr(sys, "last_value"):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)

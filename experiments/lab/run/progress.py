"""How far a sweep is: a bar in a terminal, an occasional line elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_LINES_APART = 10.0  # seconds between two lines where there is no terminal to draw a bar in


@contextlib.contextmanager
def progress(what: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Gives a function to be told how many more are finished; shows them, and the time that is left.

    Args:
        what: plural of what is counted, for example "networks".
        total: number of them in all.
        done: number of them that an earlier process has finished.
    """
    console = Console()
    columns = (MofNCompleteColumn(), TextColumn(what), BarColumn(None), TimeElapsedColumn())
    # Twice a second: drawing it takes some milliseconds of a core that computes.
    bar = Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        refresh_per_second=2,
    )
    task, said = bar.add_task(what, total=total, completed=done), 0.0

    def advance(count: int) -> None:
        nonlocal said
        bar.advance(task, count)
        now, at = time.monotonic(), bar.tasks[task]
        if not console.is_terminal and (at.finished or now - said >= _LINES_APART):
            said = now
            left = f", about {at.time_remaining:.0f} s left" if at.time_remaining else ""
            print(f"{at.completed:.0f}/{total} {what}, {at.elapsed or 0:.0f} s so far{left}", flush=True)

    with bar:
        console.show_cursor(True)  # Ctrl-C ends the process at once, and would leave it hidden
        advance(0)
        yield advance

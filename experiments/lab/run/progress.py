"""How far a run is: a bar in a terminal, an occasional line elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich import progress as rich_progress

_LINES_APART = 10.0  # seconds between two lines where there is no terminal to draw a bar in


@contextlib.contextmanager
def progress(what: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Gives a function to be told how many more are finished; shows them, and the time that is left.

    Args:
        what: is counted, for example "networks".
        total: how many there are.
        done: how many of them an earlier run has finished.
    """
    if sys.stdout.isatty():
        with _bar(what, total, done) as advance:
            yield advance
    else:
        yield _lines(what, total, done)


@contextlib.contextmanager
def _bar(what: str, total: int, done: int) -> Iterator[Callable[[int], None]]:
    columns = (
        rich_progress.TextColumn(f"{what}"),
        rich_progress.BarColumn(bar_width=None),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TextColumn("{task.fields[note]}"),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("left"),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns) as bar:
        task = bar.add_task(what, total=total, completed=done, note="compiling")

        def advance(count: int) -> None:
            bar.update(task, advance=count, note="")

        yield advance


def _lines(what: str, total: int, done: int) -> Callable[[int], None]:
    began, at_first, said = time.monotonic(), done, time.monotonic()
    print(f"{done}/{total} {what}", flush=True)

    def advance(count: int) -> None:
        nonlocal done, said
        done += count
        now = time.monotonic()
        if done == total or now - said >= _LINES_APART:
            said = now
            left = (now - began) / (done - at_first) * (total - done)
            print(f"{done}/{total} {what}, {now - began:.0f} s so far, about {left:.0f} s left", flush=True)

    return advance

"""What `batches` may be, and how far through them a census is."""

from __future__ import annotations

import operator
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any

import jax
import jax.numpy as jnp

_PATIENCE = 3.0  # seconds until a bar is shown


def stream(batches: Any, every: int, progress: bool | None) -> Iterator[Any]:
    """Every k-th batch, with a bar on stderr.

    Raises:
        TypeError: `batches` is not iterable, `every` is no integer, or `progress` is neither None nor a bool.
        ValueError: `every` is less than 1.
    """
    try:
        every = operator.index(every)
    except TypeError:
        raise TypeError(
            f"census: every={every!r} is no integer: give 1 for all batches, 2 for every other."
        ) from None
    if every < 1:
        raise ValueError(f"census: every={every} counts nothing: give 1 for all batches, 2 for every other.")
    if progress is not None and not isinstance(progress, bool):
        raise TypeError(f"census: progress={progress!r} is neither None, True nor False.")
    if _is_one_batch(batches):
        batches = [batches]
    if not isinstance(batches, Iterable):
        raise TypeError(
            f"census: batches is of type {type(batches).__name__}: give an array, or an iterable of batches."
        )
    total = len(batches) if isinstance(batches, Sized) else None
    return _watched(batches, every, total, progress)


def _is_one_batch(batches: Any) -> bool:
    return isinstance(batches, tuple | Mapping) or hasattr(batches, "__array__")


def _watched(batches: Iterable[Any], every: int, total: int | None, progress: bool | None) -> Iterator[Any]:
    bar = _Bar(total, progress)
    try:
        for index, batch in enumerate(batches):
            if index % every == 0:
                yield batch
            bar.advance()
    finally:
        bar.stop()


class _Bar:
    """A bar that appears on stderr once patience ends; at once if it is asked for, never if it is not wanted."""

    def __init__(self, total: int | None, progress: bool | None) -> None:
        self._total, self._wanted, self._bar = total, progress, None
        self._done, self._began = 0, time.monotonic()
        self._task: Any = None

    def advance(self) -> None:
        self._done += 1
        due = self._wanted or time.monotonic() - self._began > _PATIENCE
        if self._bar is None and due and self._wanted is not False:
            self._bar = self._start()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _start(self) -> Any:
        try:
            from rich import progress
            from rich.console import Console
        except ImportError:  # Flax brings it along
            self._wanted = False
            return None
        console = Console(stderr=True)
        if not (self._wanted or console.is_terminal or console.is_jupyter):
            self._wanted = False
            return None
        columns = (
            progress.TextColumn("census"),
            progress.BarColumn(bar_width=None),
            progress.MofNCompleteColumn(),
            progress.TextColumn("batches"),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
        )
        bar = progress.Progress(*columns, console=console, transient=console.is_terminal)
        self._task = bar.add_task("census", total=self._total)
        bar.start()
        return bar


def arguments(batch: Any, sharding: Any) -> tuple[Any, ...]:
    """The arguments that a batch stands for, as arrays on the device.

    Raises:
        TypeError: the batch holds something that is no number.
    """
    parts = batch if isinstance(batch, tuple | list) and not hasattr(batch, "_fields") else (batch,)
    return tuple(jax.tree.map(lambda leaf: _array(leaf, sharding), tuple(parts)))


def _array(leaf: Any, sharding: Any) -> jax.Array:
    try:
        array = leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)
    except (TypeError, ValueError):
        raise TypeError(
            f"census: a batch holds a {type(leaf).__name__}, which is no number or array: leave it out of batches."
        ) from None
    return array if sharding is None or not array.ndim else jax.device_put(array, sharding)

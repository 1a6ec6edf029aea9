"""What `batches` may be, and how far through them a census is."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, NoReturn

import jax
import jax.numpy as jnp

_PATIENCE = 3.0  # seconds until a bar is shown


def stream(batches: Any, progress: bool | None) -> Iterator[Any]:
    """The batches, with a bar on stderr.

    Raises:
        TypeError: `batches` is not iterable, or `progress` is neither None nor a bool.
    """
    if progress is not None and not isinstance(progress, bool):
        raise TypeError(f"census: progress={progress!r} is neither None, True nor False.")
    if isinstance(batches, tuple | Mapping) or hasattr(batches, "__array__"):  # one batch by itself
        batches = [batches]
    if not isinstance(batches, Iterable):
        raise TypeError(
            f"census: batches is of type {type(batches).__name__}: give an array, or an iterable of batches."
        )
    return _watched(batches, progress)


def _watched(batches: Iterable[Any], progress: bool | None) -> Iterator[Any]:
    total = len(batches) if isinstance(batches, Sized) else None
    began, wanted, bar = time.monotonic(), progress is not False, None
    try:
        for done, batch in enumerate(batches, start=1):
            yield batch
            if wanted and bar is None and (progress or time.monotonic() - began > _PATIENCE):
                bar = _bar(total, asked_for=progress is True)
                wanted = bar is not None
            if bar is not None:
                bar.update(bar.task_ids[0], completed=done)
    finally:
        if bar is not None:
            bar.stop()


def _bar(total: int | None, asked_for: bool) -> Any:
    """A bar that has begun; None without rich, which Flax brings along, or where no one watches."""
    try:
        from rich import progress
        from rich.console import Console
    except ImportError:
        return None
    console = Console(stderr=True)
    if not (asked_for or console.is_terminal or console.is_jupyter):
        return None
    columns = (
        *(progress.TextColumn("census"), progress.BarColumn(bar_width=None), progress.MofNCompleteColumn()),
        *(progress.TextColumn("batches"), progress.TimeElapsedColumn()),
        *(progress.TextColumn("left"), progress.TimeRemainingColumn()),
    )
    bar = progress.Progress(*columns, console=console, transient=console.is_terminal)
    bar.add_task("census", total=total)
    bar.start()
    return bar


def arguments(batch: Any) -> tuple[Any, ...]:
    """The arguments that a batch stands for, as JAX arrays; `NoNumber` stands for a caption or a path beside them.

    Raises:
        TypeError: the batch holds no number at all.
    """
    parts = batch if isinstance(batch, tuple | list) and not hasattr(batch, "_fields") else (batch,)
    given = tuple(jax.tree.map(_array, tuple(parts)))
    others = [part for part in jax.tree.leaves(given, is_leaf=_is_other) if _is_other(part)]
    if others and not jax.tree.leaves(given):
        raise TypeError(
            f"census: a batch holds {others[0].kind}, which JAX does not take for numbers: give arrays of numbers."
        )
    return given


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class NoNumber:
    """What stands in a traced batch for text and the like, which no program takes: free to be there, not to be used.

    All are equal, so that other captions are no other program.

    Attributes:
        kind: what it was.
    """

    kind: str

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(
            f"fn uses what is no number or array in the batch, {self.kind}: make numbers of it before, or bind it with "
            "functools.partial."
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoNumber) or self._refuse()

    def __hash__(self) -> int:
        return hash(NoNumber)

    __bool__ = __len__ = __iter__ = __getitem__ = __array__ = __jax_array__ = _refuse


def _is_other(part: Any) -> bool:
    return isinstance(part, NoNumber)


def _array(leaf: Any) -> jax.Array | NoNumber:
    try:
        if not isinstance(leaf, str | bytes):  # which JAX would take for the name of a dtype
            return leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)
    except (TypeError, ValueError):
        pass
    return NoNumber(f"a {type(leaf).__name__}" + (f" of {leaf.dtype}" if hasattr(leaf, "dtype") else ""))

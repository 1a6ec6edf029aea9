"""The state of a long run, kept every minute, so that a kill inside it costs no more than that.

The state is kept as the bytes of its arrays, so the run that goes on from it is the same to the bit. NumPy writes it,
not orbax: under `jax.distributed` orbax saves by all processes together, and here each saves its own runs when they
are due.
"""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lab.run import store

EVERY = 60.0  # seconds


class Checkpoint:
    """The state of one run of a sweep on the disk, beside the finished ones."""

    def __init__(self, folder: store.RunFolder, run: int) -> None:
        self._path = folder.path / f"unfinished_{run}.npz"
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether the last one is a minute old."""
        return time.monotonic() - self._last >= EVERY

    def save(self, done: int, seen: Sequence[Any], state: Any) -> None:
        """Keeps a run's state after `done` steps, and what its evaluations have seen."""
        file = io.BytesIO()
        np.savez(file, np.array([done, len(seen)]), *map(_plain, jax.tree.leaves((list(seen), state))))
        store.write(self._path, file.getvalue())
        self._last = time.monotonic()

    def load(self, begun: Any, evaluation: Any) -> tuple[int, list[Any], Any] | None:
        """The steps done, what was seen and the state; None where none is kept, or it cannot be read.

        Args:
            begun: a state of the run, on its device.
            evaluation: shapes and dtypes of what one evaluation sees.
        """
        try:
            with np.load(io.BytesIO(self._path.read_bytes()), allow_pickle=False) as file:
                (done, count), *leaves = (file[name] for name in file.files)
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
            return None
        seen, like = jax.tree.unflatten(jax.tree.structure(([evaluation] * count, begun)), leaves)
        return int(done), seen, jax.tree.map(_placed, begun, like)

    def remove(self) -> None:
        """Removes what is kept of a run that is finished."""
        self._path.unlink(missing_ok=True)


def _plain(leaf: Any) -> np.ndarray:
    """An array on the host; the numbers of a random key, which NumPy does not know."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _placed(begun: Any, leaf: np.ndarray) -> Any:
    array = jax.device_put(leaf, begun.device)
    is_key = jnp.issubdtype(begun.dtype, jax.dtypes.prng_key)
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(begun)) if is_key else array

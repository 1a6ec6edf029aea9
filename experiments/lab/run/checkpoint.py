"""What a row of a loop has come to, kept every minute, so that a kill inside a long row costs no more than that.

The state is kept as the bytes of its arrays, so the row that goes on from it is the same to the bit. Their structure,
shapes and dtypes are those of the program, which the run's identity holds; the file ends in a checksum over that too,
and is passed over where it is damaged or another run's.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lab.run import store

EVERY = 60.0  # seconds
_SUFFIX = ".state"
_SEAL = hashlib.sha256().digest_size


class Checkpoint:
    """The state of one row of a sweep on the disk, beside the chunks of the finished ones."""

    def __init__(self, folder: store.RunFolder, index: int) -> None:
        self._path = folder.path / store.CHUNKS / f"{index:07d}{_SUFFIX}"
        # The identity of the run, as `store.open_run` has found or written it.
        self._identity = (folder.path / store.CONFIG).read_bytes()
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether the last one is a minute old."""
        return time.monotonic() - self._last >= EVERY

    def save(self, done: int, seen: Sequence[Any], state: Any) -> None:
        """Keeps a row's state after so many steps, and what its looks have seen."""
        content = json.dumps({"done": done, "seen": len(seen)}).encode() + b"\n"
        content += b"".join(
            np.asarray(_plain(leaf)).tobytes() for leaf in jax.tree.leaves((list(seen), state))
        )
        store.write(self._path, content + self._sealed(content))
        self._last = time.monotonic()

    def load(self, begun: Any, look: Any) -> tuple[int, list[Any], Any] | None:
        """The steps done, what was seen and the state; None where none is kept.

        Args:
            begun: a state of the row, on its device.
            look: shapes and dtypes of what is seen.
        """
        try:
            whole = self._path.read_bytes()
        except OSError:
            return None
        content, seal = whole[:-_SEAL], whole[-_SEAL:]
        if seal != self._sealed(content):
            return None
        head, _, rest = content.partition(b"\n")
        found, place = json.loads(head), 0

        def take(like: Any) -> np.ndarray:
            nonlocal place
            array = np.frombuffer(rest, like.dtype, like.size, place).reshape(like.shape)
            place += array.nbytes
            return array

        def put(like: Any) -> Any:
            array = jax.device_put(take(_plain(like)), like.device)
            is_key = jnp.issubdtype(like.dtype, jax.dtypes.prng_key)
            return jax.random.wrap_key_data(array, impl=jax.random.key_impl(like)) if is_key else array

        seen = [jax.tree.map(take, look) for _ in range(found["seen"])]
        return found["done"], seen, jax.tree.map(put, begun)

    def remove(self) -> None:
        """Of a row that is finished."""
        self._path.unlink(missing_ok=True)

    def _sealed(self, content: bytes) -> bytes:
        return hashlib.sha256(self._identity + self._path.name.encode() + content).digest()


def tidy(folder: store.RunFolder) -> None:
    """Removes what a kill right after a row's end has left."""
    for path in (folder.path / store.CHUNKS).glob(f"*{_SUFFIX}"):
        if path.stem.isdecimal() and int(path.stem) in folder.finished:
            path.unlink(missing_ok=True)


def _plain(leaf: Any) -> Any:
    """The numbers of a random key, which NumPy does not know."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf

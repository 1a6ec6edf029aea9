"""Counts on disk: an .npz of plain arrays, written whole or not at all, read without pickle."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_leaky.units._counts import UnitCounts, init

_FORMAT = "jax_leaky.units 1"
# MemoryError: of an array whose header claims more than there can be.
_DAMAGE = (ValueError, KeyError, TypeError, EOFError, OSError, MemoryError)


def save(path: str | os.PathLike[str], counts: UnitCounts | Mapping[str, UnitCounts]) -> None:
    """Writes the counts of a layer, or of several by name, to an .npz file.

    The file appears whole or not at all: it is written beside `path` under another name, then moved there.

    Args:
        path: the file; replaced where it exists.
        counts: of a layer, or a mapping from names to them; stacks from vmap too.

    Raises:
        TypeError: if counts is neither.
        OSError: if the file cannot be written.

    Example:
        >>> import tempfile, pathlib
        >>> import jax_leaky.units as units
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "counts.npz")
        ...     units.save(path, {"dense_0": units.init(3)})
        ...     units.load(path)["dense_0"].fired.to_numpy()
        array([0, 0, 0], dtype=uint64)
    """
    layers = _layers(counts)
    names = None if isinstance(counts, UnitCounts) else list(layers)
    header = json.dumps({"format": _FORMAT, "names": names})
    arrays: dict[str, Any] = {"header": np.frombuffer(header.encode(), np.uint8)}
    for index, layer in enumerate(layers.values()):
        # Numbered: a zip member's name must not depend on what a user calls a layer.
        leaves = jax.tree.leaves(jax.device_get(layer))
        arrays |= {f"{index}.{position}": leaf for position, leaf in enumerate(leaves)}
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> UnitCounts | dict[str, UnitCounts]:
    """The counts that `save` wrote: of one layer, or a dict by name, as they were given.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is truncated, or not one that `save` wrote.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            return _read(file)
        except (*_DAMAGE, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(
                f"path={str(path)!r} is truncated or not a file of units.save: count again, or name another."
            ) from error


def _layers(counts: Any) -> dict[str, UnitCounts]:
    layers = {"": counts} if isinstance(counts, UnitCounts) else counts
    if not isinstance(layers, Mapping) or not all(
        isinstance(name, str) and isinstance(layer, UnitCounts) for name, layer in layers.items()
    ):
        raise TypeError(
            f"counts is of type {type(counts).__name__}: give UnitCounts, or a dict of them by name."
        )
    return dict(layers)


def _read(file: Any) -> UnitCounts | dict[str, UnitCounts]:
    # `save` does not compress, so that a member is no larger than the file; one that claims more would unpack to
    # any size.
    with zipfile.ZipFile(file) as members:
        if sum(member.file_size for member in members.infolist()) > os.fstat(file.fileno()).st_size:
            raise ValueError("members larger than the file")
    file.seek(0)
    with np.load(file, allow_pickle=False) as archive:
        header = json.loads(archive["header"].tobytes())
        if header["format"] != _FORMAT:
            raise ValueError(f"unknown format {header['format']!r}")
        names = header["names"]
        layers = [_layer(archive, index) for index in range(1 if names is None else len(names))]
    return layers[0] if names is None else dict(zip(names, layers, strict=True))


def _layer(archive: Any, index: int) -> UnitCounts:
    pattern, structure = jax.tree.flatten(init(1))
    leaves = [archive[f"{index}.{position}"] for position in range(len(pattern))]
    stack = leaves[0].shape  # n has no shape of its own: what it has is the stack's
    units = leaves[2].shape[-1:]
    for leaf, expected in zip(leaves, pattern, strict=True):
        if leaf.dtype != expected.dtype or leaf.shape != stack + units * expected.ndim:
            raise ValueError(f"an array of {leaf.dtype}{leaf.shape} where counts have another")
    return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in leaves])

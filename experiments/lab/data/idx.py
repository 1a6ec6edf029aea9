"""The IDX format of the MNIST family: a magic number, the dimensions, then bytes.

References:
    LeCun, Cortes and Burges, "The MNIST database of handwritten digits": the files' names and the format.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from experiments.lab.run.errors import LabError

_UNSIGNED_BYTE = 0x08
# 2 GiB is 45 times the images of MNIST. A header that asks for more is a mistake or an attack, and is refused
# before a byte of memory is taken for it.
_LIMIT = 2**31


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array of unsigned bytes in an IDX file, plain or gzip.

    Args:
        path: the file; gzip is known by its first two bytes, whatever the name says.
        dimensions: how many the file must have: 3 for images, 1 for labels.

    Raises:
        LabError: if the file cannot be read, is not IDX, holds another type or number of dimensions, or is shorter or
            longer than its header says.
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not zipped:
                return _parse(raw, path, dimensions)
            with gzip.open(raw) as stream:
                return _parse(cast(BinaryIO, stream), path, dimensions)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LabError(f"{path} is damaged or cut short ({error}): fetch it again.") from None
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror or error}.") from None


def _parse(stream: BinaryIO, path: Path, dimensions: int) -> np.ndarray:
    header = stream.read(4)
    if len(header) < 4 or header[:2] != b"\0\0":
        raise LabError(
            f"{path} is not an IDX file (it starts with {header!r}): name a folder of MNIST-like files."
        )
    if header[2] != _UNSIGNED_BYTE:
        raise LabError(
            f"{path} holds values of the IDX type 0x{header[2]:02x}: only unsigned bytes (0x08) are read."
        )
    if header[3] != dimensions:
        raise LabError(
            f"{path} has {header[3]} dimensions where {dimensions} are needed: are the files swapped?"
        )
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise LabError(f"{path} ends inside its header: fetch it again.")
    shape = struct.unpack(f">{dimensions}I", sizes)
    count = math.prod(shape)
    if not 0 < count <= _LIMIT:
        raise LabError(f"{path} claims the shape {shape}: between 1 byte and {_LIMIT // 2**30} GiB are read.")
    content = stream.read(count)
    if len(content) < count:
        raise LabError(
            f"{path} is cut short: {len(content)} of the {count} bytes that its header claims are there."
        )
    if stream.read(1):
        raise LabError(f"{path} goes on after the {count} bytes that its header claims: fetch it again.")
    return np.frombuffer(content, np.uint8).reshape(shape)

"""The IDX format of the MNIST family: a magic number, the dimensions, then bytes.

References:
    LeCun, Cortes and Burges, "The MNIST database of handwritten digits": the files' names and the format.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from experiments.lab.run.errors import LabError

_LIMIT = 2**31  # bytes, 45 times the images of MNIST; more is refused before memory is taken for it


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array of unsigned bytes in an IDX file, plain or gzip.

    Args:
        path: path of the file; gzip is recognised by its first two bytes, whatever the name says.
        dimensions: number of dimensions that the file must have: 3 for images, 1 for labels.

    Raises:
        LabError: the file cannot be read, is not IDX, holds another type or number of dimensions, or is shorter or
            longer than its header says.
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.open(raw) if zipped else raw as stream:
                header = stream.read(4 + 4 * dimensions)
                if header[:4] != bytes([0, 0, 0x08, dimensions]) or len(header) < 4 + 4 * dimensions:
                    raise LabError(
                        f"{path} is not an IDX file of unsigned bytes in {dimensions} dimensions (it starts with "
                        f"{header[:4]!r}): name a folder of MNIST-like files."
                    )
                shape = tuple(np.frombuffer(header, ">u4", dimensions, 4).tolist())
                size = math.prod(shape)
                if not 0 < size <= _LIMIT:
                    raise LabError(f"{path} claims the shape {shape}: between 1 byte and 2 GiB are read.")
                content = stream.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LabError(f"{path} is damaged or cut short ({error}): fetch it again.") from None
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror or error}.") from None
    if len(content) != size:
        fault = f"is cut short: {len(content)} of" if len(content) < size else "goes on after"
        raise LabError(f"{path} {fault} the {size} bytes that its header claims: fetch it again.")
    return np.frombuffer(content, np.uint8).reshape(shape)

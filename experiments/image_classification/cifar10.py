"""CIFAR-10 from a user's folder, in its binary version; the Python version is pickle, which runs code when it is read.

Each image is a byte of label and 3,072 of pixels: the red, green and blue plane, row by row.

References:
    Krizhevsky: Learning multiple layers of features from tiny images. 2009; the format is described on the data set's
    page, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.lab.data.datasets import Dataset
from experiments.lab.run.errors import LabError

SIDE, CHANNELS, CLASSES = 32, 3, 10
NAMES = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
_RECORD = 1 + SIDE * SIDE * CHANNELS
_MOST = 2**30  # bytes of one file, 35 times what is published


def is_cifar10(folder: Path) -> bool:
    """Whether a folder holds files with CIFAR-10's names, of any version."""
    stems = {path.stem for path in folder.glob("*_batch*")}
    return bool(stems & {"data_batch_1", "test_batch"})


def read_folder(folder: Path) -> Dataset:
    """All images of `cifar-10-batches-bin`: (samples, 3072), each 32 rows of 32 pixels of red, green, blue.

    Raises:
        LabError: if a file is missing or is no whole number of images, or a label is not in 0 to 9.
    """
    arrays = []
    for names in NAMES.values():
        parts = [_read(folder / name) for name in names]
        records = np.concatenate(parts)
        planes = records[:, 1:].reshape(-1, CHANNELS, SIDE, SIDE)
        arrays += [planes.transpose(0, 2, 3, 1).reshape(len(records), -1), records[:, 0].astype(np.int32)]
    return Dataset(arrays[0], arrays[1], arrays[2], arrays[3], f"CIFAR-10, the folder {folder}")


def _read(path: Path) -> np.ndarray:
    if not path.is_file():
        python = path.with_suffix("")
        remedy = (
            f"{python.name} is the Python version, which is pickle and is not read: fetch cifar-10-binary.tar.gz"
            if python.is_file()
            else "name the folder cifar-10-batches-bin of cifar-10-binary.tar.gz, with all its files"
        )
        raise LabError(f"{path.parent} holds no {path.name}: {remedy}.")
    size = path.stat().st_size
    if not 0 < size <= _MOST or size % _RECORD:
        raise LabError(
            f"{path} has {size} bytes, which is no whole number of images of {_RECORD}: fetch it again."
        )
    records = np.fromfile(path, np.uint8).reshape(-1, _RECORD)
    if records[:, 0].max() >= CLASSES:
        raise LabError(f"{path} holds the label {records[:, 0].max()}: labels go from 0 to {CLASSES - 1}.")
    return records

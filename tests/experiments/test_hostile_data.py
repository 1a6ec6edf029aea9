"""Files that a user may be given by somebody else: pickles are not run, and archives take no more than they say."""

import gzip
import os
import pickle  # noqa: TID251  the trap that must not be sprung
import struct
import tracemalloc

import numpy as np
import pytest

from experiments.lab.data.datasets import load
from experiments.lab.data.idx import read_idx
from experiments.lab.run.errors import LabError

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_pickle_in_the_data_folder_is_refused_and_not_run(tmp_path, pack):
    trap = tmp_path / "was run"
    content = pickle.dumps(Touch(trap))
    for name in NAMES:
        (tmp_path / name).write_bytes(pack(content))
    with pytest.raises(LabError, match="is not an IDX file"):
        load(str(tmp_path))
    assert not trap.exists()
    pickle.loads(content)  # noqa: S301  our own content: the trap works where it is unpickled
    assert trap.exists()


def test_a_numpy_file_with_objects_is_refused(tmp_path):
    for name in NAMES:
        with (tmp_path / name).open("wb") as file:
            np.save(file, np.array([Touch(tmp_path / "was run")], dtype=object), allow_pickle=True)
    with pytest.raises(LabError, match="is not an IDX file"):
        load(str(tmp_path))
    assert not (tmp_path / "was run").exists()


def bomb(shape, zeros):
    """A gzip of so many zeros under a header of that shape."""
    header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return gzip.compress(header + bytes(zeros), compresslevel=9)


@pytest.mark.parametrize(
    ("shape", "zeros", "sentence"),
    [
        ((3, 4, 5), 2**26, "goes on after the 60 bytes"),
        ((2**16, 2**16, 28), 2**26, "claims the shape"),
    ],
    ids=["longer than it says", "says too much"],
)
def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(tmp_path, shape, zeros, sentence):
    path = tmp_path / NAMES[0]
    path.write_bytes(bomb(shape, zeros))
    assert path.stat().st_size < zeros / 500
    tracemalloc.start()
    try:
        with pytest.raises(LabError, match=sentence):
            read_idx(path, 3)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()

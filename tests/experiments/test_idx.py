import gzip
import struct

import numpy as np
import pytest

from experiments.lab.data.idx import read_idx
from experiments.lab.run.errors import LabError


def idx(array, kind=0x08):
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_reads_what_was_written(tmp_path, pack):
    path = tmp_path / "images"  # the name does not tell whether it is gzip
    path.write_bytes(pack(idx(IMAGES)))
    np.testing.assert_array_equal(read_idx(path, 3), IMAGES)


FAULTS = {
    "empty": (b"", "is not an IDX file"),
    "a picture": (b"\x89PNG....", "is not an IDX file"),
    "floats": (idx(IMAGES, kind=0x0D), "is not an IDX file of unsigned bytes"),
    "one image": (idx(IMAGES[0]), "is not an IDX file of unsigned bytes in 3 dimensions"),
    "half a header": (idx(IMAGES)[:9], "is not an IDX file"),
    "a byte short": (idx(IMAGES)[:-1], "is cut short: 59 of the 60 bytes"),
    "a byte long": (idx(IMAGES) + b"\0", "goes on after the 60 bytes"),
    "huge": (b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 2**31, 28), "claims the shape"),
    "no image": (b"\0\0\x08\x03" + struct.pack(">3I", 0, 28, 28), "claims the shape"),
    "gzip cut short": (gzip.compress(idx(IMAGES), mtime=0)[:-9], "is damaged or cut short"),
    "gzip flipped": (gzip.compress(idx(IMAGES), mtime=0)[:-8] + b"\xff" * 8, "is damaged or cut short"),
    "gzip of nothing": (b"\x1f\x8b", "is damaged or cut short"),
}


@pytest.mark.parametrize(("content", "sentence"), FAULTS.values(), ids=FAULTS)
def test_says_what_is_wrong(tmp_path, content, sentence):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(LabError, match=sentence) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)


def test_names_a_file_that_is_not_there(tmp_path):
    with pytest.raises(LabError, match="cannot be read: No such file"):
        read_idx(tmp_path / "missing", 3)

import numpy as np
import pytest

from experiments.image_classification import cifar10
from experiments.lab.run.errors import LabError


def write(folder, images=2, label=None):
    """The six files, each of so many random images; returns the pixels (files, images, 3072) and the labels."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (6, images, 3072), np.uint8)
    labels = (
        random.integers(0, 10, (6, images), np.uint8)
        if label is None
        else np.full((6, images), label, np.uint8)
    )
    for number, name in enumerate([*cifar10.NAMES["train"], *cifar10.NAMES["test"]]):
        content = b"".join(bytes([labels[number, at]]) + pixels[number, at].tobytes() for at in range(images))
        (folder / name).write_bytes(content)
    return pixels, labels


def test_pixels_and_labels(tmp_path):
    pixels, labels = write(tmp_path)
    found = cifar10.read_folder(tmp_path)
    assert found.train_images.shape == (10, 3072)
    assert found.test_images.shape == (2, 3072)
    np.testing.assert_array_equal(found.train_labels, labels[:5].ravel())
    np.testing.assert_array_equal(found.test_labels, labels[5])
    # The format: the red plane's rows, then the green one's, then the blue one's.
    image = found.train_images[3].reshape(32, 32, 3)
    for row, column, colour in ((0, 0, 0), (0, 1, 0), (1, 0, 0), (31, 30, 1), (7, 9, 2)):
        assert image[row, column, colour] == pixels[1, 1, colour * 1024 + row * 32 + column]
    assert cifar10.is_cifar10(tmp_path)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: (path / "data_batch_3.bin").unlink(), "holds no data_batch_3.bin: name the folder"),
        (
            lambda path: (path / "test_batch.bin").rename(path / "test_batch"),
            "Python version, which is pickle",
        ),
        (
            lambda path: (path / "data_batch_2.bin").write_bytes(b"12"),
            "has 2 bytes, which is no whole number",
        ),
        (lambda path: (path / "data_batch_2.bin").write_bytes(b""), "has 0 bytes"),
        (lambda path: write(path, label=10), "holds the label 10: labels go from 0 to 9"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, damage, sentence):
    write(tmp_path)
    damage(tmp_path)
    assert cifar10.is_cifar10(tmp_path)
    with pytest.raises(LabError, match=sentence):
        cifar10.read_folder(tmp_path)

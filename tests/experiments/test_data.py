import gzip
import hashlib
import struct

import numpy as np
import pytest

from experiments.image_classification import experiment as image_classification
from experiments.lab.data import batches
from experiments.lab.data import datasets as data
from experiments.lab.run.errors import LabError
from experiments.object_detection import experiment as object_detection

EMBEDDED_SHA256 = "469bd1f1e3ac9ee659b079360955c22f1a01c0ac1f876f92864987e8c0e2e4be"
NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def write_folder(folder, per_class=(500, 100), size=3, labels=10, seed=0):
    random = np.random.RandomState(seed)
    for name, count in zip(("train", "t10k"), per_class, strict=True):
        answers = random.permutation(np.repeat(np.arange(labels), count)).astype(np.uint8)
        sides = (size, size) if isinstance(size, int) else size
        images = random.randint(0, 256, (len(answers), *sides)).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", answers)):
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes(), 1))


def test_embedded_subset_is_balanced_and_what_it_was():
    dataset = data.load("embedded")
    assert dataset.train_images.shape == (5000, 784)
    assert dataset.test_images.shape == (1000, 784)
    assert np.bincount(dataset.train_labels).tolist() == [500] * 10
    assert np.bincount(dataset.test_labels).tolist() == [100] * 10
    assert dataset.sha256 == EMBEDDED_SHA256
    assert len({image.tobytes() for image in (*dataset.train_images, *dataset.test_images)}) == 6000


def test_embedded_files_carry_their_licence():
    text = data.EMBEDDED.with_name("LICENSE-fashion-mnist").read_text()
    assert "MIT License" in text
    assert "Copyright (c) 2017 Zalando SE" in text


needs_system = pytest.mark.skipif(
    not data.SYSTEM_FOLDER.is_dir(), reason="needs Debian's dataset-fashion-mnist"
)


@needs_system
@pytest.mark.parametrize("place", ["auto", "system", str(data.SYSTEM_FOLDER)])
def test_every_source_of_fashion_mnist_gives_the_embedded_images(place):
    dataset, embedded = data.load(place), data.load("embedded")
    assert dataset.sha256 == embedded.sha256
    assert dataset.source != embedded.source


@needs_system
def test_full_set_has_all_images():
    dataset = data.load("auto", full=True)
    assert (len(dataset.train_labels), len(dataset.test_labels)) == (60_000, 10_000)


def test_auto_falls_back_to_the_embedded_subset(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "SYSTEM_FOLDER", tmp_path / "nothing")
    assert data.load("auto").sha256 == EMBEDDED_SHA256
    with pytest.raises(LabError, match="dataset-fashion-mnist"):
        data.load("auto", full=True)


def test_system_files_that_are_not_fashion_mnist_are_refused(monkeypatch, tmp_path):
    write_folder(tmp_path)
    monkeypatch.setattr(data, "SYSTEM_FOLDER", tmp_path)
    with pytest.raises(LabError, match="does not hold Fashion-MNIST as published"):
        data.load("auto")


def test_a_folder_of_the_users_own_gives_a_balanced_subset_and_all(tmp_path):
    write_folder(tmp_path, per_class=(510, 130))
    dataset, everything = data.load(str(tmp_path)), data.load(str(tmp_path), full=True)
    assert np.bincount(dataset.train_labels).tolist() == [500] * 10
    assert np.bincount(dataset.test_labels).tolist() == [100] * 10
    assert len(everything.train_labels) == 5100
    known = {(image.tobytes(), int(label)) for image, label in zip(*everything[:2], strict=True)}
    assert {(image.tobytes(), int(label)) for image, label in zip(*dataset[:2], strict=True)} <= known


@pytest.mark.parametrize("missing", NAMES)
def test_a_missing_file_is_named(tmp_path, missing):
    write_folder(tmp_path, (1, 1))
    (tmp_path / f"{missing}.gz").unlink()
    with pytest.raises(LabError, match=missing):
        data.load(str(tmp_path))


def test_counts_that_differ_are_refused(tmp_path):
    write_folder(tmp_path, (2, 1))
    other = tmp_path / "other"
    other.mkdir()
    write_folder(other, (3, 1))
    (other / f"{NAMES[1]}.gz").rename(tmp_path / f"{NAMES[1]}.gz")
    with pytest.raises(LabError, match="20 train images but 30 labels"):
        data.load(str(tmp_path))


def test_train_and_test_images_of_different_shapes_are_refused_even_with_as_many_pixels(tmp_path):
    write_folder(tmp_path, (1, 1), size=(4, 4))
    other = tmp_path / "other"
    other.mkdir()
    write_folder(other, (1, 1), size=(2, 8))
    (other / f"{NAMES[2]}.gz").rename(tmp_path / f"{NAMES[2]}.gz")
    with pytest.raises(LabError, match=r"different sizes \(4 x 4 and 2 x 8 pixels\)"):
        data.load(str(tmp_path), full=True)


@pytest.mark.parametrize("experiment", [image_classification, object_detection])
@pytest.mark.parametrize("size", [(5, 9), (14, 56)])  # the second has the pixels of 28 x 28
def test_images_that_are_no_squares_are_refused_where_they_are_convolved(tmp_path, experiment, size):
    write_folder(tmp_path, size=size)
    assert data.load(str(tmp_path)).shape == size
    config = experiment.Config(out=tmp_path / "run", data=str(tmp_path))
    with pytest.raises(LabError, match=rf"images of {size[0]} x {size[1]} pixels: give squares"):
        experiment.run(config)


@pytest.mark.parametrize(("place", "shape"), [("embedded", (28, 28)), ("digits", (8, 8))])
def test_the_shape_of_an_image_is_known(place, shape):
    dataset = data.load(place)
    assert dataset.shape == shape
    dataset.require_squares()


def test_labels_out_of_range_are_refused(tmp_path):
    write_folder(tmp_path, (1, 1), labels=11)
    with pytest.raises(LabError, match="label 10"):
        data.load(str(tmp_path))


def test_too_few_images_for_the_subset_are_refused(tmp_path):
    write_folder(tmp_path, (499, 100))
    with pytest.raises(LabError, match=r"499 train images of some class .* --full"):
        data.load(str(tmp_path))


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(LabError, match="is not a folder"):
        data.load(str(tmp_path / "nowhere"))
    with pytest.raises(LabError, match="leave out --full"):
        data.load("embedded", full=True)


def test_a_damaged_archive_is_refused(monkeypatch, tmp_path):
    content = bytearray(data.EMBEDDED.read_bytes())
    content[1000] ^= 1
    (tmp_path / data.EMBEDDED.name).write_bytes(content)
    monkeypatch.setattr(data, "EMBEDDED", tmp_path / data.EMBEDDED.name)
    with pytest.raises(LabError, match="is damaged"):
        data.load("embedded")


def test_a_pickle_in_the_archive_is_not_loaded(monkeypatch, tmp_path):
    path, checksums = tmp_path / "evil.npz", tmp_path / "SHA256SUMS"
    labels = np.array([print, 1], dtype=object)
    np.savez(path, train_labels=labels, train_images=labels, test_labels=labels, test_images=labels)
    checksums.write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  evil.npz\n")
    monkeypatch.setattr(data, "EMBEDDED", path)
    monkeypatch.setattr(data, "CHECKSUMS", checksums)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        data.load("embedded")


def test_standardised_train_images_have_mean_0_and_variance_1():
    images = batches.images_of(data.load("embedded"))
    values = np.asarray(images.standardize(images.train_images), np.float64)
    assert abs(values.mean()) < 1e-5
    assert abs(values.var() - 1) < 1e-5


def test_epochs_are_shuffles_without_repetition():
    import jax

    order = np.asarray(batches.shuffled_epochs(jax.random.key(0), samples=10, steps=7, batch_size=3))
    assert order.shape == (7, 3)
    for epoch in (order[:3], order[3:6]):
        assert len(set(epoch.reshape(-1).tolist())) == 9
    assert order[:3].tolist() != order[3:6].tolist()
    other = np.asarray(batches.shuffled_epochs(jax.random.key(1), samples=10, steps=7, batch_size=3))
    assert order.tolist() != other.tolist()

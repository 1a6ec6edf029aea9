"""Labelled images and where they come from: the user's folder, the system's files, or the embedded subset.

A run asks for a scale, not for a place. The default scale is one balanced subset that is drawn by the same rule
from whichever place is found, so that its bytes, and with them every number of the run, are the same everywhere.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.lab.data.idx import read_idx
from experiments.lab.run.errors import LabError

SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's dataset-fashion-mnist puts it
EMBEDDED = Path(__file__).with_name("fashion_mnist_5000_1000.npz")
CHECKSUMS = EMBEDDED.with_name("SHA256SUMS")
SUBSET_SEED = 20170825  # the day Fashion-MNIST was put on arXiv
PER_CLASS = {"train": 500, "test": 100}
_STEMS = {"train": "train", "test": "t10k"}
_CLASSES = 10


class Dataset(NamedTuple):
    """Images and labels of a train and a test split.

    Attributes:
        train_images: training images, (samples, pixels) uint8.
        train_labels: their classes, (samples,) int32, 0 to 9.
        test_images: test images, (test samples, pixels) uint8.
        test_labels: their classes, (test samples,) int32, 0 to 9.
        source: description of where the images come from, for people.
        shape: number of pixel rows and columns in an image; empty where an image has more axes than these.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    source: str
    shape: tuple[int, ...] = ()

    @property
    def sha256(self) -> str:
        """The checksum of shapes and bytes: the same data have the same one, wherever they came from."""
        digest = hashlib.sha256()
        for array in self[:4]:
            digest.update(f"{array.dtype} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def require_squares(self) -> None:
        """Raises a LabError unless images are as high as they are wide, which their number of pixels does not tell."""
        if len(set(self.shape)) > 1:
            size = " x ".join(map(str, self.shape))
            raise LabError(
                f"{self.source} holds images of {size} pixels: give squares, as a convolution needs."
            )

    def describe(self) -> str:
        """One line: where the images come from and how many there are."""
        return f"{self.source}; {len(self.train_labels):,} train and {len(self.test_labels):,} test images"


def load(data: str = "auto", *, full: bool = False) -> Dataset:
    """The data set of a run.

    Args:
        data: "auto" (the system's files, else the embedded subset), "embedded", "system", "digits" (scikit-learn's
            1,797 images of 8 x 8), or a folder of files with MNIST's names.
        full: whether to take all images of the place rather than the balanced subset of 5,000 + 1,000.

    Raises:
        LabError: if the place is missing, its files are damaged, or it holds too few images.
    """
    if data == "digits":
        return _digits()
    if data == "embedded" and full:
        raise LabError(
            "The embedded subset is not the full data set: leave out --full, or name a folder with --data."
        )
    if data == "embedded" or (data == "auto" and not SYSTEM_FOLDER.is_dir()):
        if full:
            raise LabError(
                f"--full needs the whole data set, and {SYSTEM_FOLDER} is not there: "
                "install Debian's package dataset-fashion-mnist, or name a folder of its IDX files with --data."
            )
        return _embedded()
    if data in ("auto", "system"):
        everything = read_folder(SYSTEM_FOLDER, "Fashion-MNIST, the system's files")
        if full:
            return everything
        drawn = balanced_subset(everything)
        if drawn.sha256 != _checksums()["arrays"]:
            raise LabError(f"{SYSTEM_FOLDER} does not hold Fashion-MNIST as published: use --data embedded.")
        return drawn
    everything = read_folder(Path(data), f"the folder {data}")
    return everything if full else balanced_subset(everything)


def read_folder(folder: Path, source: str) -> Dataset:
    """All images of a folder of IDX files with MNIST's names, plain or gzip.

    Raises:
        LabError: if a file is missing or damaged, the counts differ, or a label is not in 0 to 9.
    """
    if not folder.is_dir():
        raise LabError(
            f"--data {folder} is not a folder: name one, or one of auto, embedded, system, digits."
        )
    arrays, shapes = [], []
    for split in ("train", "test"):
        images = read_idx(_find(folder, f"{_STEMS[split]}-images-idx3-ubyte"), 3)
        labels = read_idx(_find(folder, f"{_STEMS[split]}-labels-idx1-ubyte"), 1)
        if len(images) != len(labels):
            raise LabError(
                f"{folder} holds {len(images)} {split} images but {len(labels)} labels: they must match."
            )
        if labels.max() >= _CLASSES:
            raise LabError(
                f"{folder} holds the {split} label {labels.max()}: labels go from 0 to {_CLASSES - 1}."
            )
        arrays += [images.reshape(len(images), -1), labels.astype(np.int32)]
        shapes.append(images.shape[1:])
    if shapes[0] != shapes[1]:
        sizes = " and ".join(f"{height} x {width}" for height, width in shapes)
        raise LabError(f"{folder} holds train and test images of different sizes ({sizes} pixels).")
    return Dataset(arrays[0], arrays[1], arrays[2], arrays[3], source, shapes[0])


def balanced_subset(everything: Dataset) -> Dataset:
    """The first 500 train and 100 test images of each class in a seeded order, in that order.

    `RandomState` is NumPy's frozen generator: its stream is promised never to change.

    Raises:
        LabError: if a class has fewer images than that.
    """
    shuffle = np.random.RandomState(SUBSET_SEED)
    arrays: list[np.ndarray] = []
    splits = (("train", everything[0], everything[1]), ("test", everything[2], everything[3]))
    for split, images, labels in splits:
        order, want = shuffle.permutation(len(labels)), PER_CLASS[split]
        of_class = [np.flatnonzero(labels[order] == label)[:want] for label in range(_CLASSES)]
        fewest = min(map(len, of_class))
        if fewest < want:
            raise LabError(
                f"{everything.source} holds {fewest} {split} images of some class where the default run takes {want} "
                "of each: add --full to train on all images there are."
            )
        kept = order[np.sort(np.concatenate(of_class))]
        arrays += [images[kept], labels[kept]]
    return Dataset(arrays[0], arrays[1], arrays[2], arrays[3], everything.source, everything.shape)


def _embedded() -> Dataset:
    try:
        content = EMBEDDED.read_bytes()
    except OSError as error:
        raise LabError(
            f"The embedded data set {EMBEDDED} cannot be read ({error.strerror}): restore it."
        ) from None
    if hashlib.sha256(content).hexdigest() != _checksums()[EMBEDDED.name]:
        raise LabError(
            f"{EMBEDDED} is damaged (its checksum is not the one in {CHECKSUMS.name}): restore it."
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        pictures = [archive[f"{split}_images"] for split in _STEMS]
        labels = [archive[f"{split}_labels"].astype(np.int32) for split in _STEMS]
    images = [some.reshape(len(some), -1) for some in pictures]
    source = "Fashion-MNIST, the embedded subset"
    return Dataset(images[0], labels[0], images[1], labels[1], source, pictures[0].shape[1:])


def _checksums() -> dict[str, str]:
    """The checksums of the embedded file and, under the name `arrays`, of the arrays in it."""
    lines = CHECKSUMS.read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines if not line.startswith("#"))}


def _digits() -> Dataset:
    if importlib.util.find_spec("sklearn") is None:
        raise LabError(
            "The digits come with scikit-learn, which is not installed: pip install -e '.[experiments]' in "
            "the folder of the clone."
        )
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images, labels = (images * 15).astype(np.uint8), labels.astype(np.int32)  # 0 to 16 becomes 0 to 240
    order = np.random.RandomState(SUBSET_SEED).permutation(len(labels))
    train, test = order[:1437], order[1437:]
    source = "scikit-learn's digits (8 x 8 pixels)"
    return Dataset(images[train], labels[train], images[test], labels[test], source, (8, 8))


def _find(folder: Path, stem: str) -> Path:
    for name in (stem, f"{stem}.gz", stem.replace("-idx", ".idx"), stem.replace("-idx", ".idx") + ".gz"):
        if (folder / name).is_file():
            return folder / name
    raise LabError(f"{folder} holds no {stem} or {stem}.gz: it must hold the four files with MNIST's names.")

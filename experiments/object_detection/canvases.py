"""Canvases composed of real items, with a box around each: a detection set made of a classification set.

An item is cropped to its pixels and put at a random place. The items are split, not the canvases: what stands on a
test canvas was never seen in training.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from experiments.lab.data.datasets import Dataset

SIDE = 64
MOST = 4  # items of one canvas
_INK = 32  # the brightness from which a pixel belongs to its item
_OVERLAP = 0.15  # of the smaller of two boxes, at most
_TRIES = 50


class Canvases(NamedTuple):
    """Pictures and what stands on them.

    Attributes:
        pixels: grey values, (canvases, SIDE, SIDE) uint8.
        boxes: left, top, right and bottom in pixels, right and bottom exclusive, (canvases, MOST, 4) float32.
        classes: classes of the items, (canvases, MOST) int32; -1 where there is no item.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray


def compose(images: np.ndarray, labels: np.ndarray, canvases: int, seed: int) -> Canvases:
    """Canvases of one to four items each, the items in a shuffled order, again from the start when all are used.

    Args:
        images: square images, (items, pixels) uint8.
        labels: their classes, (items,).
        canvases: number of canvases.
        seed: seed of `RandomState`, NumPy's frozen generator.
    """
    random = np.random.RandomState(seed)
    side = round(images.shape[1] ** 0.5)
    items = images.reshape(-1, side, side)
    pixels = np.zeros((canvases, SIDE, SIDE), np.uint8)
    boxes = np.zeros((canvases, MOST, 4), np.float32)
    classes = np.full((canvases, MOST), -1, np.int32)
    order, used = random.permutation(len(items)), 0
    for canvas in range(canvases):
        placed = 0
        for _ in range(random.randint(1, MOST + 1)):
            if used == len(items):
                order, used = random.permutation(len(items)), 0
            item, label = tight(items[order[used]]), labels[order[used]]
            used += 1
            box = _place(random, item.shape, boxes[canvas, :placed])
            if box is None:
                continue
            left, top, right, bottom = box
            part = pixels[canvas, top:bottom, left:right]
            np.maximum(part, item, out=part)
            boxes[canvas, placed], classes[canvas, placed] = box, label
            placed += 1
    return Canvases(pixels, boxes, classes)


def compose_splits(dataset: Dataset, train: int, test: int) -> tuple[Canvases, Canvases]:
    """Canvases of the train items, and canvases of the test items."""
    return (
        compose(dataset.train_images, dataset.train_labels, train, seed=0),
        compose(dataset.test_images, dataset.test_labels, test, seed=1),
    )


def checksum(*splits: Canvases) -> str:
    """The checksum of all arrays."""
    digest = hashlib.sha256()
    for split in splits:
        for array in split:
            digest.update(f"{array.dtype} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def tight(item: np.ndarray) -> np.ndarray:
    """The item without the empty rows and columns around it; whole where it is all dark."""
    rows, columns = np.flatnonzero((item >= _INK).any(1)), np.flatnonzero((item >= _INK).any(0))
    if not len(rows):
        return item
    return item[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _place(
    random: np.random.RandomState, shape: tuple[int, ...], others: np.ndarray
) -> tuple[int, int, int, int] | None:
    """A box that hardly covers another; None where none is found."""
    height, width = shape
    for _ in range(_TRIES):
        left, top = random.randint(0, SIDE - width + 1), random.randint(0, SIDE - height + 1)
        right, bottom = left + width, top + height
        wide = np.minimum(right, others[:, 2]) - np.maximum(left, others[:, 0])
        high = np.minimum(bottom, others[:, 3]) - np.maximum(top, others[:, 1])
        common = np.maximum(wide, 0) * np.maximum(high, 0)
        areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
        if not (common > _OVERLAP * np.minimum(areas, width * height)).any():
            return left, top, right, bottom
    return None

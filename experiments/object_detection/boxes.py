"""A grid of cells, each of which tells one box: its targets, its loss, and the way back to boxes.

In the manner of YOLO, without anchors: the cell that holds an item's centre answers for it. Of each cell the network
gives the logit of "an item's centre is here", the centre within the cell (through a sigmoid), the logarithm of width
and height over a typical size, and a logit per class.

References:
    Redmon, Divvala, Girshick, Farhadi: You only look once. CVPR 2016 (arXiv 1506.02640): the cells and the weights of
    the loss. Redmon, Farhadi: YOLO9000. CVPR 2017 (arXiv 1612.08242): the centre through a sigmoid, the size through
    an exponential function.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from experiments.object_detection.canvases import SIDE, Canvases

STRIDE = 8
CELLS = SIDE // STRIDE
CLASSES = 10
OUTPUTS = 5 + CLASSES
TYPICAL = 20.0  # pixels
KEPT = 20  # boxes of one canvas, those of the highest scores
_COORDINATES, _NO_OBJECT = 5.0, 0.5  # weights of the loss, as published
_IOU = 0.5  # from which the lower of two boxes of one class is suppressed
_LARGEST = 4.0  # of a size's logarithm: exp does not overflow in a network that is not trained


class Targets(NamedTuple):
    """Targets of the cells.

    Attributes:
        objects: 1 where the centre of an item lies in the cell, else 0, (canvases, CELLS, CELLS) float32.
        boxes: centre within the cell, x and y, and log of width and height over TYPICAL, (canvases, CELLS, CELLS, 4).
        classes: class of the item, (canvases, CELLS, CELLS) int32.
    """

    objects: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray


class Detections(NamedTuple):
    """Boxes of one canvas or several, by falling score.

    Attributes:
        boxes: left, top, right and bottom in pixels, (..., KEPT, 4).
        scores: scores, (..., KEPT); 0 where a box is suppressed.
        classes: classes, (..., KEPT).
    """

    boxes: Array
    scores: Array
    classes: Array


def targets_of(canvases: Canvases) -> Targets:
    """The cells of every canvas; of two items with their centres in one cell the later is told."""
    count = len(canvases.pixels)
    objects = np.zeros((count, CELLS, CELLS), np.float32)
    boxes = np.zeros((count, CELLS, CELLS, 4), np.float32)
    classes = np.zeros((count, CELLS, CELLS), np.int32)
    for canvas, item in np.argwhere(canvases.classes >= 0):
        left, top, right, bottom = canvases.boxes[canvas, item]
        x, y = (left + right) / 2 / STRIDE, (top + bottom) / 2 / STRIDE
        column, row = min(int(x), CELLS - 1), min(int(y), CELLS - 1)
        size = np.log([(right - left) / TYPICAL, (bottom - top) / TYPICAL])
        objects[canvas, row, column] = 1
        boxes[canvas, row, column] = x - column, y - row, *size
        classes[canvas, row, column] = canvases.classes[canvas, item]
    return Targets(objects, boxes, classes)


def loss_of(outputs: Array, targets: Targets) -> Array:
    """The loss of `outputs: (batch, CELLS, CELLS, OUTPUTS)`, summed over a canvas and averaged over the batch."""
    objects = jnp.asarray(targets.objects)
    presence = optax.sigmoid_binary_cross_entropy(outputs[..., 0], objects)
    centres = (jax.nn.sigmoid(outputs[..., 1:3]) - targets.boxes[..., :2]) ** 2
    sizes = (outputs[..., 3:5] - targets.boxes[..., 2:]) ** 2
    kinds = optax.softmax_cross_entropy_with_integer_labels(outputs[..., 5:], jnp.asarray(targets.classes))
    of_item = _COORDINATES * (centres.sum(-1) + sizes.sum(-1)) + kinds
    each = presence * jnp.where(objects > 0, 1.0, _NO_OBJECT) + objects * of_item
    return each.sum((1, 2)).mean()


def decode(outputs: Array) -> Detections:
    """The best boxes of `outputs: (CELLS, CELLS, OUTPUTS)` by score, none suppressed."""
    row, column = jnp.mgrid[:CELLS, :CELLS]
    centre = (jnp.stack([column, row], -1) + jax.nn.sigmoid(outputs[..., 1:3])) * STRIDE
    half = TYPICAL / 2 * jnp.exp(jnp.minimum(outputs[..., 3:5], _LARGEST))
    boxes = jnp.clip(jnp.concatenate([centre - half, centre + half], -1), 0, SIDE).reshape(-1, 4)
    kinds = jax.nn.softmax(outputs[..., 5:]).reshape(-1, CLASSES)
    scores = jax.nn.sigmoid(outputs[..., 0]).reshape(-1) * kinds.max(-1)
    best, chosen = lax.top_k(scores, KEPT)
    return Detections(boxes[chosen], best, kinds[chosen].argmax(-1))


def overlaps(one: Array, other: Array) -> Array:
    """Intersection over union of `one: (n, 4)` with `other: (m, 4)`: (n, m); 0 where both are empty."""
    low = jnp.maximum(one[:, None, :2], other[None, :, :2])
    high = jnp.minimum(one[:, None, 2:], other[None, :, 2:])
    common = jnp.maximum(high - low, 0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None, :] - common
    return jnp.where(union > 0, common / jnp.where(union > 0, union, 1), 0)


def suppress(found: Detections) -> Detections:
    """Non-maximum suppression: from the highest score down, a box goes that overlaps a kept one of its class."""
    same = found.classes[:, None] == found.classes[None, :]
    rivals = same & (overlaps(found.boxes, found.boxes) > _IOU)

    def judge(place: Array, kept: Array) -> Array:
        above = jnp.arange(len(kept)) < place
        return kept.at[place].set(~(rivals[place] & kept & above).any())

    kept = lax.fori_loop(0, len(found.scores), judge, jnp.ones(len(found.scores), bool))
    return found._replace(scores=jnp.where(kept, found.scores, 0))


def detect(outputs: Array) -> Detections:
    """The boxes of `outputs: (canvases, CELLS, CELLS, OUTPUTS)`."""
    return jax.vmap(lambda one: suppress(decode(one)))(outputs)

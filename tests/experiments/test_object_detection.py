import json
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.object_detection import canvases, experiment
from experiments.object_detection.boxes import (
    KEPT,
    OUTPUTS,
    Detections,
    decode,
    loss_of,
    overlaps,
    suppress,
    targets_of,
)

RANDOM = np.random.default_rng(0)


def random_boxes(count, random=RANDOM):
    corner, size = random.uniform(0, 48, (count, 2)), random.uniform(4, 30, (count, 2))
    return np.concatenate([corner, np.minimum(corner + size, 64)], 1).astype(np.float32)


@pytest.fixture(scope="module")
def some():
    images = RANDOM.integers(0, 256, (40, 784), np.uint8)
    images.reshape(-1, 28, 28)[:, :5] = 0  # tight crops are 23 high
    return canvases.compose(images, np.arange(40) % 10, 30, seed=3)


# Canvases


def test_a_crop_is_tight():
    item = np.zeros((28, 28), np.uint8)
    item[3, 7], item[9, 20], item[20, 20] = 200, 40, 31  # the last is darker than an item's pixels
    assert canvases.tight(item).shape == (7, 14)
    assert canvases.tight(np.zeros((28, 28), np.uint8)).shape == (28, 28)


def test_boxes_frame_what_was_put_there(some):
    assert set((some.classes >= 0).sum(1)) == {1, 2, 3, 4}
    for pixels, boxes, classes in zip(*some, strict=True):
        outside = np.ones((64, 64), bool)
        for left, top, right, bottom in boxes[classes >= 0].astype(int):
            assert 0 <= left < right <= 64
            assert 0 <= top < bottom <= 64
            assert (pixels[top:bottom, left:right].max(0) >= 32).all()
            assert (pixels[top:bottom, left:right].max(1) >= 32).all()
            outside[top:bottom, left:right] = False
        assert not pixels[outside].any()


def test_the_same_seed_composes_the_same_and_another_not():
    images, labels = RANDOM.integers(0, 256, (10, 784), np.uint8), np.arange(10)
    ones = [canvases.compose(images, labels, 8, seed) for seed in (0, 0, 1)]
    assert canvases.checksum(ones[0]) == canvases.checksum(ones[1]) != canvases.checksum(ones[2])


# Boxes


def test_overlaps_against_pycocotools():
    mask = pytest.importorskip("pycocotools.mask", reason="the oracle is an optional package")
    one, other = random_boxes(30), random_boxes(20)

    def corner_and_size(boxes):
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).astype(np.float64)

    expected = mask.iou(corner_and_size(one), corner_and_size(other), [0] * len(other))
    np.testing.assert_allclose(overlaps(one, other), expected, atol=1e-5)
    assert float(overlaps(np.zeros((1, 4)), np.zeros((1, 4)))[0, 0]) == 0


def greedy(boxes, scores, classes):
    """Non-maximum suppression as it is told in words, on lists of pixels in float64."""

    def iou(a, b):
        width = min(a[2], b[2]) - max(a[0], b[0])
        height = min(a[3], b[3]) - max(a[1], b[1])
        common = width * height if width > 0 and height > 0 else 0.0
        return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)

    boxes, left, kept = boxes.astype(np.float64), set(range(len(scores))), set()
    while left:
        best = max(left, key=lambda place: scores[place])
        kept.add(best)
        left = {
            place
            for place in left - {best}
            if classes[place] != classes[best] or iou(boxes[place], boxes[best]) <= 0.5
        }
    return kept


@pytest.mark.parametrize("seed", range(5))
def test_suppression_against_the_greedy_algorithm(seed):
    random = np.random.default_rng(seed)
    centre = random_boxes(KEPT, random)
    boxes = (centre[random.integers(0, 5, KEPT)] + random.uniform(-3, 3, (KEPT, 4))).astype(np.float32)
    scores, classes = np.sort(random.random(KEPT).astype(np.float32))[::-1], random.integers(0, 2, KEPT)
    found = suppress(Detections(jnp.asarray(boxes), jnp.asarray(scores), jnp.asarray(classes)))
    kept = set(np.flatnonzero(found.scores).tolist())
    assert kept == greedy(boxes, scores, classes)
    assert 0 < len(kept) < KEPT
    np.testing.assert_array_equal(found.scores[jnp.array(sorted(kept))], scores[sorted(kept)])


def told(targets, canvas):
    """Outputs that tell a canvas's targets."""
    outputs = np.zeros((8, 8, OUTPUTS), np.float32)
    outputs[..., 0] = np.where(targets.objects[canvas] > 0, 8, -8)
    centre = np.clip(targets.boxes[canvas, ..., :2].astype(np.float64), 1e-6, 1 - 1e-6)
    outputs[..., 1:3] = np.log(centre / (1 - centre))
    outputs[..., 3:5] = targets.boxes[canvas, ..., 2:]
    outputs[..., 5:] = 12 * (np.arange(10) == targets.classes[canvas, ..., None])
    return outputs


@pytest.mark.slow
def test_targets_decode_to_the_boxes_that_made_them(some):
    targets = targets_of(some)
    for canvas in range(len(some.pixels)):
        found = decode(jnp.asarray(told(targets, canvas)))
        certain = np.asarray(found.scores) > 0.5
        expected = {
            (int(kind), *np.round(box, 1).tolist())
            for box, kind in zip(some.boxes[canvas], some.classes[canvas], strict=True)
            if kind >= 0
        }
        ours = {
            (int(kind), *(np.round(np.asarray(box, np.float64), 1) + 0.0).tolist())
            for box, kind in zip(found.boxes[certain], found.classes[certain], strict=True)
        }
        # Two centres may fall into one cell, which tells one of them.
        cells = {
            (int((left + right) / 16), int((top + bottom) / 16)) for _, left, top, right, bottom in expected
        }
        assert ours <= expected
        assert len(ours) == len(cells)


def test_a_box_is_decoded_by_hand():
    outputs = np.full((8, 8, OUTPUTS), -20.0, np.float32)
    outputs[2, 5] = [0, 0, np.log(3), np.log(0.5), np.log(2), *np.log(np.arange(1, 11))]
    found = decode(jnp.asarray(outputs))
    # Centre (5.5, 2.75) cells of 8 pixels, size 10 x 40, cut at the canvas's edge.
    np.testing.assert_allclose(found.boxes[0], [39, 2, 49, 42], atol=1e-4)
    assert float(found.scores[0]) == pytest.approx(0.5 * 10 / 55, rel=1e-5)
    assert int(found.classes[0]) == 9


def test_the_loss_against_numpy(some):
    targets = jax.tree.map(lambda array: array[:4], targets_of(some))
    outputs = RANDOM.standard_normal((4, 8, 8, OUTPUTS)).astype(np.float32)
    expected = 0.0
    for canvas, row, column in np.ndindex(4, 8, 8):
        out = outputs[canvas, row, column].astype(np.float64)
        here = targets.objects[canvas, row, column]
        probability = 1 / (1 + np.exp(-out[0]))
        if here:
            box = targets.boxes[canvas, row, column]
            expected += -np.log(probability)
            expected += (
                5 * ((1 / (1 + np.exp(-out[1:3])) - box[:2]) ** 2).sum()
                + 5 * ((out[3:5] - box[2:]) ** 2).sum()
            )
            kinds = np.exp(out[5:]) / np.exp(out[5:]).sum()
            expected += -np.log(kinds[targets.classes[canvas, row, column]])
        else:
            expected += -0.5 * np.log(1 - probability)
    assert float(loss_of(jnp.asarray(outputs), targets)) == pytest.approx(expected / 4, rel=1e-4)


# Mean average precision


def test_perfect_shifted_and_missing_boxes(some):
    pytest.importorskip("pycocotools", reason="it scores the detections")
    scores = (some.classes >= 0) * np.float32(0.9)
    right = Detections(some.boxes, scores, some.classes)
    assert experiment.mean_average_precision(right, some) == (1.0, 1.0)
    # Of a box 23 high one that is 20 high has an IoU of 20/23 = 0.87: right at 8 of the 10 thresholds.
    assert set((some.boxes[..., 3] - some.boxes[..., 1])[some.classes >= 0]) == {23}
    shorter = some.boxes - np.array([0, 0, 0, 3], np.float32)
    found = experiment.mean_average_precision(right._replace(boxes=shorter), some)
    assert found == pytest.approx((0.8, 1.0))
    assert experiment.mean_average_precision(right._replace(scores=0 * scores), some) == (0.0, 0.0)
    wrong = right._replace(classes=(some.classes + 1) % 10)
    assert experiment.mean_average_precision(wrong, some)[1] < 0.1


def test_one_thread_after_another_is_silent_and_gives_stdout_back(some, capsys):
    pytest.importorskip("pycocotools", reason="it scores the detections")
    right = Detections(some.boxes, (some.classes >= 0) * np.float32(0.9), some.classes)
    with ThreadPoolExecutor(2) as pool:
        assert (
            list(pool.map(lambda _: experiment.mean_average_precision(right, some), range(4)))
            == [(1.0, 1.0)] * 4
        )
    print("heard")
    assert capsys.readouterr().out == "heard\n"


# The experiment


@pytest.mark.slow
def test_smoke(tmp_path):
    pytest.importorskip("pycocotools", reason="it scores the detections")
    out = tmp_path / "run"
    experiment.run(experiment.Config(out=out, **experiment.PRESETS["smoke"]))
    names = {path.name for path in out.iterdir()}
    assert {"rows.jsonl", "summary.md", "report.html", "over_steps.png", "boxes.png"} <= names
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert [(row["negative_slope"], row["step"]) for row in rows] == [
        (slope, step) for slope in (0, 0.1) for step in (0, 15, 30)
    ]
    for row in rows:
        assert row["channels"] == [8, 16, 8, 16, 32, 16, 32]
        assert row["samples"][0] == 20 * 32 * 32
        assert 0 <= row["map"] <= row["map50"] <= 1
        assert (row["boxes"] is not None) == (row["step"] == 30)
        assert (row["dead"] == row["never_active"]) or row["negative_slope"]
    assert rows[2]["loss"] < rows[1]["loss"]

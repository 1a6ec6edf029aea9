"""Mean average precision as COCO defines it, by pycocotools."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import threading
from typing import Any

import numpy as np

from experiments.lab.run.errors import LabError
from experiments.object_detection.boxes import CLASSES, Detections
from experiments.object_detection.canvases import Canvases

_MISSING = "The detections are scored with pycocotools, which is missing: pip install pycocotools."
_SILENCE = threading.Lock()  # pycocotools prints, and what catches that is one for all threads


def require() -> None:
    """Raises a LabError unless pycocotools is there."""
    if importlib.util.find_spec("pycocotools") is None:
        raise LabError(_MISSING)


def mean_average_precision(found: Detections, truth: Canvases) -> tuple[float, float]:
    """The mean over IoU 0.5 to 0.95, and that at 0.5: (mAP, mAP50), over the classes that the truth holds.

    Args:
        found: detections on every canvas, on the host; a score of 0 marks what is no detection.
        truth: canvases with their true boxes.
    """
    require()
    coco_module, cocoeval = (importlib.import_module(f"pycocotools.{name}") for name in ("coco", "cocoeval"))
    items = [
        {
            "id": number + 1,  # 0 is taken by COCOeval for "not matched"
            "image_id": int(canvas),
            "category_id": int(truth.classes[canvas, item]),
            "bbox": _corner_and_size(truth.boxes[canvas, item]),
            "area": float(np.prod(truth.boxes[canvas, item, 2:] - truth.boxes[canvas, item, :2])),
            "iscrowd": 0,
        }
        for number, (canvas, item) in enumerate(np.argwhere(truth.classes >= 0))
    ]
    guesses = [
        {
            "image_id": int(canvas),
            "category_id": int(found.classes[canvas, place]),
            "bbox": _corner_and_size(found.boxes[canvas, place]),
            "score": float(found.scores[canvas, place]),
        }
        for canvas, place in np.argwhere(np.asarray(found.scores) > 0)
    ]
    if not guesses:
        return 0.0, 0.0
    with _SILENCE, contextlib.redirect_stdout(io.StringIO()):
        coco = coco_module.COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": canvas} for canvas in range(len(truth.classes))],
            "categories": [{"id": number} for number in range(CLASSES)],
            "annotations": items,
        }
        coco.createIndex()
        evaluation = cocoeval.COCOeval(coco, coco.loadRes(guesses), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    # (thresholds of IoU, recalls, classes, areas, most detections); -1 where a class has no item.
    precision = evaluation.eval["precision"][..., 0, -1]
    whole, half = (float(part[part > -1].mean()) for part in (precision, precision[:1]))
    return whole, half


def _corner_and_size(box: Any) -> list[float]:
    left, top, right, bottom = (float(value) for value in box)
    return [left, top, right - left, bottom - top]

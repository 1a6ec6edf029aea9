"""Does a slope help a single-stage detector, and how many of its channels are dead?

Trains a small detector in the manner of YOLO, whose published slope is 0.1, on canvases composed of real Fashion-MNIST
items, with ReLU and three slopes in otherwise equal networks. Networks of one seed begin with the same weights and see
the same batches. Scored by pycocotools on canvases whose items were never seen in training.

    python -m experiments.object_detection --smoke                   seconds, on scikit-learn's digits
    python -m experiments.object_detection                           the default: minutes
    python -m experiments.object_detection --full                    all images, a larger network; for a GPU

References:
    Redmon, Divvala, Girshick, Farhadi: You only look once: unified, real-time object detection. CVPR 2016.
    Redmon, Farhadi: YOLO9000: better, faster, stronger. CVPR 2017.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic.dataclasses import dataclass

from experiments.lab.data import datasets as data
from experiments.lab.run import cli, store
from experiments.lab.run.errors import LabError
from experiments.lab.run.experiment import carry_out
from experiments.lab.run.loop import Loop, loop
from experiments.lab.run.settings import Count, Finite, Flags, Positive, Several
from experiments.object_detection import canvases
from experiments.object_detection.boxes import Detections, targets_of
from experiments.object_detection.canvases import Canvases
from experiments.object_detection.mean_average_precision import mean_average_precision, require
from experiments.object_detection.report import report
from experiments.object_detection.training import (
    Data,
    Run,
    Seen,
    evaluate,
    initialise,
    model_of,
    optimizer_of,
    step,
)

NAME = "object_detection"
SHOWN, SHOWN_SCORE = 6, 0.3  # canvases whose boxes are kept, of seed 0, and the score from which a box is


@dataclass(frozen=True)
class Config(Flags):
    """Which networks are trained, on what, and where it is written."""

    out: Path = Path("runs/object_detection")
    """The folder of the run: rows, plots and page.
    A folder that holds a run of other settings is refused, not overwritten."""

    seeds: Count = 5
    """Number of networks, with the seeds 0, 1, 2, ..., per slope."""

    steps: Count = 1500
    """Training steps."""

    data: str = "auto"
    """Where the items come from: auto, embedded, system, digits, or a folder of IDX files with MNIST's names."""

    negative_slopes: Several[Finite] = (0.0, 0.01, 0.1, 0.2)
    """The slopes of LeakyReLU; 0 is ReLU, with which the others are compared, and must be among them."""

    train_canvases: Count = 2000
    """Canvases to train on, of the train images."""

    test_canvases: Count = 300
    """Canvases to score on, of the test images."""

    width: Count = 16
    """Channels of the first stage; each of the two after it has twice as many."""

    batch_size: Count = 16
    """Canvases per training step."""

    learning_rate: Positive = 0.002
    """Initial learning rate of Adam; it falls to 0 as a cosine."""

    def __post_init__(self) -> None:
        if 0.0 not in self.negative_slopes:
            raise LabError(
                f"--negative-slopes is {self.negative_slopes}: give 0 too, ReLU, with which they are compared."
            )
        if self.batch_size > self.train_canvases:
            raise LabError(
                f"--batch-size is {self.batch_size}: give at most {self.train_canvases}, the train canvases."
            )


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "seeds": 1,
        "steps": 30,
        "data": "digits",
        "negative_slopes": (0.0, 0.1),
        "train_canvases": 100,
        "test_canvases": 20,
        "width": 8,
    },
    "full": {
        "seeds": 10,
        "steps": 20_000,
        "train_canvases": 20_000,
        "test_canvases": 2000,
        "width": 64,
        "batch_size": 64,
    },
}


def evaluations_of(config: Config) -> list[int]:
    """The start, the middle and the end."""
    return sorted({0, config.steps // 2, config.steps})


def groups_of(config: Config, truth: Canvases) -> list[Loop]:
    """One compiled step for all slopes; seeds outermost, so that a run that is cut short has whole pairs."""
    table = itertools.product(range(config.seeds), config.negative_slopes)
    model, optimizer = model_of(config.width), optimizer_of(config.learning_rate, config.steps)
    return [
        Loop(
            "detectors",
            functools.partial(
                initialise,
                model=model,
                optimizer=optimizer,
                steps=config.steps,
                batch_size=config.batch_size,
            ),
            functools.partial(step, model=model, optimizer=optimizer),
            functools.partial(evaluate, model=model),
            evaluations_of(config),
            [Run(np.float32(slope), np.uint32(seed)) for seed, slope in table],
            functools.partial(to_records, config, truth),
        )
    ]


def to_records(config: Config, truth: Canvases, run: Run, seen: Sequence[Seen]) -> list[store.Record]:
    """A record for each evaluation of a network; a list has a value per activation, in the order of the model."""
    records = []
    for number, at in zip(evaluations_of(config), seen, strict=True):
        layers = [site.measures for site in at.census]
        diverged = not (math.isfinite(at.loss) and np.isfinite(at.found.scores).all())
        scores = (None, None) if diverged else mean_average_precision(at.found, truth)
        shown = run.seed == 0 and number == config.steps and not diverged
        records.append(
            {
                "negative_slope": store.number(run.negative_slope),
                "seed": int(run.seed),
                "step": number,
                **{
                    name: None if score is None else store.number(score, 6)
                    for name, score in zip(("map", "map50"), scores, strict=True)
                },
                "loss": store.number(at.loss, 6) if number else None,
                "diverged": diverged,
                "channels": [site.units for site in at.census],
                "samples": [site.n for site in at.census],
                **{
                    measure: [
                        None if layer[measure] is None else store.number(layer[measure], 6)
                        for layer in layers
                    ]
                    for measure in ("never_active", "dead", "rare", "mean_slope")
                },
                "boxes": boxes_of(at.found) if shown else None,
            }
        )
    return records


def boxes_of(found: Detections) -> list[list[list[float | None]]]:
    """For each of the first canvases its boxes: left, top, right, bottom, score, class."""
    return [
        [
            [
                *(
                    store.number(value, 4)
                    for value in (*found.boxes[canvas, place], found.scores[canvas, place])
                ),
                int(found.classes[canvas, place]),
            ]
            for place in np.flatnonzero(found.scores[canvas] >= SHOWN_SCORE)
        ]
        for canvas in range(min(SHOWN, len(found.scores)))
    ]


def run(config: Config) -> None:
    """The experiment from its settings to its report."""
    require()
    dataset = data.load(config.data, full=config.full)
    dataset.require_squares()
    if dataset.train_images.shape[1] > canvases.SIDE**2:
        raise LabError(f"--data {config.data} holds images of more than {canvases.SIDE} pixels a side.")
    train, test = canvases.compose_splits(dataset, config.train_canvases, config.test_canvases)
    given = Data(train.pixels, targets_of(train), test.pixels)
    outcome = carry_out(
        NAME,
        config,
        groups_of(config, test),
        given,
        "networks",
        engine=loop,
        data_sha256=canvases.checksum(train, test),
    )
    report(config, outcome, dataset.describe(), test)


def main() -> None:
    """The command line."""
    cli.start(NAME, run, Config, PRESETS, __doc__)

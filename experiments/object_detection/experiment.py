"""Does a slope help a single-stage detector, and how many of its channels are dead?

Trains a small detector in the manner of YOLO, whose published slope is 0.1, on canvases composed of real Fashion-MNIST
items, with ReLU and three slopes in otherwise equal networks. Networks of one seed begin with the same weights and see
the same batches. Scored by pycocotools on canvases whose items were never seen in training.

    python -m experiments.object_detection --smoke                   seconds, on scikit-learn's digits
    python -m experiments.object_detection                           the default: minutes
    python -m experiments.object_detection --full                    all images, a larger network; a GPU's work

References:
    Redmon, Divvala, Girshick, Farhadi: You only look once: unified, real-time object detection. CVPR 2016.
    Redmon, Farhadi: YOLO9000: better, faster, stronger. CVPR 2017.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.lab.data import datasets as data
from experiments.lab.run import cli, devices, interrupt, store
from experiments.lab.run.errors import LabError
from experiments.lab.run.experiment import Flags, carry_out, settings_of
from experiments.lab.run.loop import Loop, loop
from experiments.object_detection import canvases
from experiments.object_detection.boxes import Detections, targets_of
from experiments.object_detection.canvases import Canvases
from experiments.object_detection.mean_average_precision import mean_average_precision, require
from experiments.object_detection.report import report
from experiments.object_detection.training import Data, Row, Seen, begin, look, step

NAME = "object_detection"
SHOWN, SHOWN_SCORE = 6, 0.3  # canvases whose boxes are kept, of seed 0, and the score from which a box is


@dataclasses.dataclass(frozen=True)
class Config(Flags):
    """Which networks are trained, on what, and where it is written."""

    out: Path = Path("runs/object_detection")
    """The folder of the run: rows, plots and page.
    A folder that holds a run of other settings is refused, not overwritten."""

    seeds: int = 5
    """Networks, of seed 0, 1, 2, ..., per slope."""

    steps: int = 1500
    """Training steps."""

    data: str = "auto"
    """Where the items come from: auto, embedded, system, digits, or a folder of IDX files with MNIST's names."""

    negative_slopes: tuple[float, ...] = (0.0, 0.01, 0.1, 0.2)
    """The slopes of LeakyReLU; 0 is ReLU, with which the others are compared, and must be among them."""

    train_canvases: int = 2000
    """Canvases to train on, of the train images."""

    test_canvases: int = 300
    """Canvases to score on, of the test images."""

    width: int = 16
    """Channels of the first stage; each of the two after it has twice as many."""

    batch_size: int = 16
    """Canvases per training step."""

    learning_rate: float = 0.002
    """At the start, of Adam; it falls to 0 as a cosine."""


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


def looks_of(config: Config) -> list[int]:
    """The start, the middle and the end."""
    return sorted({0, config.steps // 2, config.steps})


def groups_of(config: Config, truth: Canvases) -> list[Loop]:
    """One compiled step for all slopes; seeds outermost, so that a run that is cut short has whole pairs."""
    table = itertools.product(range(config.seeds), config.negative_slopes)
    return [
        Loop(
            "detectors",
            functools.partial(begin, config=config),
            functools.partial(step, config=config),
            functools.partial(look, config=config),
            looks_of(config),
            [Row(np.float32(slope), np.uint32(seed)) for seed, slope in table],
            functools.partial(to_records, config, truth),
        )
    ]


def to_records(config: Config, truth: Canvases, row: Row, seen: Sequence[Seen]) -> list[store.Record]:
    """A row for each look at a network; a list has a value per activation, in the order of the model."""
    records = []
    for number, at in zip(looks_of(config), seen, strict=True):
        layers = [site.measures for site in at.census]
        diverged = not (math.isfinite(at.loss) and np.isfinite(at.found.scores).all())
        scores = (None, None) if diverged else mean_average_precision(at.found, truth)
        shown = row.seed == 0 and number == config.steps and not diverged
        records.append(
            {
                "negative_slope": store.number(row.negative_slope),
                "seed": int(row.seed),
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


def check(config: Config) -> None:
    """Raises a LabError that says what is wrong with a configuration, if anything is."""
    at_least_one = (lambda value: value >= 1, "give 1 or more")
    settings_of(
        config,
        dict.fromkeys(
            ("seeds", "steps", "train_canvases", "test_canvases", "width", "batch_size"), at_least_one
        )
        | {
            "learning_rate": (lambda value: 0 < value < math.inf, "give a positive number"),
            "negative_slopes": (math.isfinite, "give finite numbers"),
        },
    )
    if 0.0 not in config.negative_slopes:
        raise LabError(
            f"--negative-slopes is {config.negative_slopes}: give 0 too, ReLU, with which they are compared."
        )
    if config.batch_size > config.train_canvases:
        raise LabError(
            f"--batch-size is {config.batch_size}: give at most {config.train_canvases}, the train canvases."
        )


def run(config: Config) -> None:
    """The experiment from its settings to its report."""
    check(config)
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
    config = cli.parse(Config, PRESETS, prog=f"python -m experiments.{NAME}", description=__doc__)
    devices.use_all_cores()
    interrupt.enter(lambda: interrupt.interruptible(lambda: run(config)))

"""Which remedy keeps a network able to learn: units reset, weights held back, a norm, or another activation?

Trains networks on one task after another: the same images with their pixels in a new random
order (a perceptron with SGD, and with Adam), or with their labels exchanged at random (a small convolutional network).
ReLU alone is compared with ReDo, continual backprop, self-normalised resets, L2 init, shrink and perturb, layer norm,
weight clipping and CReLU, and with LeakyReLU and PReLU. No remedy is told where a task ends.

    python -m experiments.remedies --smoke                            seconds, on scikit-learn's digits
    python -m experiments.remedies                                    the default: minutes
    python -m experiments.remedies --problems mlp_adam --tasks 600    longer
    python -m experiments.remedies --full                             all images, 800 tasks; hours

A finished network is kept, and so is the state of an unfinished one every minute.

References:
    Sokar, Agarwal, Castro and Evci: The dormant neuron phenomenon in deep reinforcement learning, ICML 2023.
    Dohare et al.: Loss of plasticity in deep continual learning, Nature 632, 2024.
    Farias and Jozefiak: Self-normalized resets for plasticity in continual learning, ICLR 2025.
    Lyle et al.: Understanding plasticity in neural networks, ICML 2023 (layer norm).
    Abbas et al.: Loss of plasticity in continual deep reinforcement learning, CoLLAs 2023 (CReLU).
    The others: see `experiments.remedies.optimizers`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic.dataclasses import dataclass

from experiments.lab.data import batches
from experiments.lab.data import datasets as data
from experiments.lab.run import cli, store
from experiments.lab.run.errors import LabError
from experiments.lab.run.experiment import carry_out
from experiments.lab.run.loop import Loop, loop
from experiments.lab.run.settings import Count, Flags, Several
from experiments.remedies.arms import ARMS, Name, Problems
from experiments.remedies.network import Network
from experiments.remedies.report import report
from experiments.remedies.times import times
from experiments.remedies.training import Life, Problem, Record, Run

NAME = "remedies"
RECORDS = 10  # of each network


@dataclass(frozen=True)
class Config(Flags):
    """Which networks are trained, on what, and where it is written."""

    out: Path = Path("runs/remedies")
    """The folder of the run: rows, plots and page.
    A folder that holds a run of other settings is refused, not overwritten."""

    seeds: Count = 10
    """Number of networks, with the seeds 0, 1, 2, ..., per arm and problem."""

    data: str = "auto"
    """Where the images come from: auto, embedded, system, digits, or a folder of IDX files with MNIST's names."""

    problems: Several[Problems] = ("mlp_sgd", "mlp_adam", "conv_adam")
    """mlp_sgd, mlp_adam: a perceptron, the pixels in a new order for each task.
    conv_adam: two convolutions and a dense layer, the labels exchanged among the images for each task."""

    arms: Several[Name] = tuple(ARMS)
    """The count of redo's Adam goes on; redo_count_reset resets it, redo_count_per_entry has one for each entry.
    redo_wrong_rows: the mask between convolution and dense layer as published, repeated where it should be tiled."""

    tasks: Count = 60
    """Tasks of the perceptron, a multiple of 10."""

    relabellings: Count = 20
    """Tasks of the convolutional network, a multiple of 10."""

    images: Count = 1000
    """Images of the perceptron's tasks, each seen once in a task."""

    labelled: Count = 128
    """Images whose labels the convolutional network must memorise."""

    epochs: Count = 15
    """Passes of the convolutional network over its images in a task."""

    width: Count = 100
    """Units of each of the perceptron's two hidden layers."""

    batch_size: Count = 16
    """Images per training step."""

    def __post_init__(self) -> None:
        for name in ("tasks", "relabellings"):
            if getattr(self, name) % RECORDS:
                raise LabError(f"--{name} is {getattr(self, name)}: give a multiple of {RECORDS}.")


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "seeds": 1,
        "data": "digits",
        "problems": ("conv_adam",),
        "arms": ("relu", "redo", "leaky_0.2", "redo_wrong_rows"),
        "relabellings": 10,
        "labelled": 32,
        "epochs": 5,
    },
    "full": {"tasks": 800, "images": 60_000, "relabellings": 100, "labelled": 1000, "epochs": 100},
}


def problem_of(name: Problems, config: Config) -> Problem:
    """What is learned under that name."""
    # On another seed, ReLU alone lost much of its accuracy within the default's tasks at these rates; at 0.03 and 0.001
    # a few points, or none.
    optimizer, rate = ("sgd", 0.15) if name == "mlp_sgd" else ("adam", 0.003)
    convolutional = name == "conv_adam"
    tasks = config.relabellings if convolutional else config.tasks
    return Problem(
        shuffled="labels" if convolutional else "pixels",
        channels=(8, 16) if convolutional else (),
        hidden=(64,) if convolutional else (config.width, config.width),
        optimizer=optimizer,
        learning_rate=rate,
        images=config.labelled if convolutional else config.images,
        epochs=config.epochs if convolutional else 1,
        tasks=tasks,
        every=tasks // RECORDS,
        batch_size=config.batch_size,
    )


def lives_of(config: Config, side: int) -> dict[tuple[Problems, tuple[Name, ...]], Life]:
    """A life for each problem and the arms that differ in the slope alone, which share its program."""
    lives = {}
    for name in config.problems:
        problem = problem_of(name, config)
        programs = {arm: ARMS[arm]._replace(slope=0.0) for arm in config.arms if name in ARMS[arm].problems}
        for first, program in programs.items():
            mine = tuple(arm for arm, own in programs.items() if own == program)
            if first == mine[0]:
                network, wired = (
                    Network(problem.channels, problem.hidden, **changes)
                    for changes in (program.network, {**program.network, **program.wired})
                )
                lives[name, mine] = Life(network, problem, program.remedy, side, wired)
    return lives


def groups_of(config: Config, lives: dict[tuple[Problems, tuple[Name, ...]], Life]) -> list[Loop]:
    """One compiled step for each life; seeds outermost."""
    groups = []
    for (problem, arms), life in lives.items():
        names = {np.float32(ARMS[arm].slope): arm for arm in arms}
        table = itertools.product(range(config.seeds), names)
        groups.append(
            Loop(
                f"{problem}, {', '.join(arms)}",
                life.begin,
                life.step,
                life.evaluate,
                range(1, RECORDS + 1),
                [Run(slope, np.uint32(seed)) for seed, slope in table],
                functools.partial(to_records, problem, names, life.problem.every),
            )
        )
    return groups


def to_records(
    problem: str, names: Mapping[Any, str], every: int, run: Run, life: Sequence[Record]
) -> list[store.Record]:
    """A record for every few tasks of a network."""
    records: list[store.Record] = []
    for place, record in enumerate(life):
        figures = {name: store.number(value, 6) for name, value in record._asdict().items()}
        records.append(
            {
                "problem": problem,
                "arm": names[run.negative_slope],
                "seed": int(run.seed),
                "task": (place + 1) * every,
                **figures,
                "diverged": None in figures.values() or bool(records and records[-1]["diverged"]),
            }
        )
    return records


def halved(dataset: data.Dataset) -> data.Dataset:
    """The images at half their height and width, as means of four pixels; those of 8x8 pixels as they are."""
    side = dataset.shape[0]
    if side < 14:
        return dataset

    def smaller(images: np.ndarray) -> np.ndarray:
        fours = images.reshape(len(images), side // 2, 2, side // 2, 2)
        return np.rint(fours.mean(axis=(2, 4))).astype(np.uint8).reshape(len(images), -1)

    train, test = smaller(dataset.train_images), smaller(dataset.test_images)
    return dataset._replace(train_images=train, test_images=test, shape=(side // 2, side // 2))


def run(config: Config) -> None:
    """The experiment from its settings to its report."""
    original = data.load(config.data, full=config.full)
    original.require_squares()
    dataset = halved(original)
    most = len(dataset.train_labels)
    for flag, value in (("images", config.images), ("labelled", config.labelled)):
        if not config.batch_size <= value <= most:
            raise LabError(f"--{flag} is {value}: give {config.batch_size} to {most}, the train images.")
    images = batches.images_of(dataset)
    lives = lives_of(config, dataset.shape[0])
    groups = groups_of(config, lives)
    outcome = carry_out(NAME, config, groups, images, "networks", loop, data_sha256=original.sha256)
    report(config, outcome, times(lives, images, config.out, measure=not config.so_far), original.describe())


def main() -> None:
    """The command line."""
    cli.start(NAME, run, Config, PRESETS, __doc__)

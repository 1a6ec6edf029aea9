"""Does LeakyReLU in the discriminator make a GAN on images better or steadier?

Trains a small DCGAN on Fashion-MNIST with ReLU and with leaky ReLUs in the discriminator, with batch normalisation in
the discriminator as in DCGAN and without. The generator has ReLU, as in DCGAN. Networks of one seed begin with the
same weights and see the same images and noise whatever the slope. A classifier that is trained first on the real images
judges the generated ones.

    python -m experiments.gan_images --smoke                          seconds, on scikit-learn's digits
    python -m experiments.gan_images                                  the default: minutes
    python -m experiments.gan_images --normalisations none --seeds 20   narrower intervals
    python -m experiments.gan_images --full                           all images of 28 x 28, wider; for a GPU

Two things differ from DCGAN: the images are grey and small, so that each network has two convolutions in place of four,
and both players step at once, on the same batch. Weights, optimiser and slope 0.2 are DCGAN's.

References:
    Radford, Metz and Chintala: Unsupervised representation learning with deep convolutional generative adversarial
    networks, ICLR 2016, arXiv:1511.06434.
    Heusel et al.: GANs trained by a two time-scale update rule converge to a local Nash equilibrium, NeurIPS 2017,
    arXiv:1706.08500.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments.gan_images import training as image_gan
from experiments.gan_images.frechet import Moments, frechet_distance
from experiments.gan_images.judge import Judge, entropy, train_judge
from experiments.gan_images.report import report
from experiments.gan_images.training import Material, Run, Seen, Setup
from experiments.lab.data import datasets as data
from experiments.lab.run import cli, store
from experiments.lab.run.errors import LabError
from experiments.lab.run.experiment import carry_out
from experiments.lab.run.loop import Loop, loop
from experiments.lab.run.settings import Count, Flags, Several

NAME = "gan_images"
Arm = Literal["relu", "leaky_0.01", "leaky_0.2"]
SLOPES = {"relu": 0.0, "leaky_0.01": 0.01, "leaky_0.2": 0.2}  # of the discriminator
NORMALISATIONS = {"batch": True, "none": False}
COVERED = 0.01  # a class is covered by this share of the generated images or more


@dataclass(frozen=True)
class Config(Flags):
    """Which networks are trained, on what, and where it is written."""

    out: Path = Path("runs/gan_images")
    """The folder of the run: rows, plots and page.
    A folder that holds a run of other settings is refused, not overwritten."""

    seeds: Count = 4
    """Number of pairs of networks, with the seeds 0, 1, 2, ..., per combination."""

    steps: Count = 1200
    """Training steps, each of both players at once."""

    data: str = "auto"
    """Where the images come from: auto, embedded, system, digits, or a folder of IDX files with MNIST's names."""

    normalisations: Several[Literal["batch", "none"]] = ("batch", "none")
    """Normalisation of the discriminator: batch, as in DCGAN, or none."""

    arms: Several[Arm] = ("relu", "leaky_0.01", "leaky_0.2")
    """The discriminator's activation; relu is what the others are compared with."""

    side: Literal[16, 28] = 16
    """Pixels of an image's side: 28 is as published; 16 is padded to 32 and averaged over squares of four."""

    width: Count = 16
    """Channels of the layers next to the image; the others have twice as many."""

    batch_size: Count = 64
    """Real images per step, and as many generated ones."""

    samples: Annotated[int, Field(ge=36)] = 1000
    """Generated images of each evaluation."""

    evaluations: Count = 10
    """How many times the networks are evaluated during training, not counting the evaluation before it."""

    judge_epochs: Count = 10
    """Passes over the real images in training the classifier that judges."""

    def __post_init__(self) -> None:
        if self.steps % self.evaluations:
            raise LabError(f"--steps is {self.steps}: give a multiple of --evaluations, {self.evaluations}.")
        if self.arms[0] != "relu":
            raise LabError(f"--arms is {self.arms}: begin with relu, which the others are compared with.")


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "seeds": 2,
        "steps": 20,
        "data": "digits",
        "width": 4,
        "samples": 100,
        "evaluations": 2,
        "judge_epochs": 2,
    },
    "full": {"seeds": 10, "steps": 50_000, "side": 28, "width": 64, "batch_size": 128, "samples": 10_000},
}


def images_of(pixels: np.ndarray, side: int) -> np.ndarray:
    """The images (samples, pixels) as they are learned; those of 28 x 28 with that side, smaller ones as they are."""
    if pixels.shape[1] != 784 or side == 28:
        return pixels
    wide = np.pad(pixels.reshape(-1, 28, 28), ((0, 0), (2, 2), (2, 2)))
    squares = wide.reshape(-1, 16, 2, 16, 2).mean((2, 4))
    return np.rint(squares).astype(np.uint8).reshape(len(pixels), -1)


def groups_of(config: Config, side: int, judge: Judge) -> list[Loop]:
    """One compiled step per normalisation, for all slopes; seeds outermost."""
    table = list(itertools.product(range(config.seeds), config.arms))
    groups = []
    for normalisation in config.normalisations:
        setup = Setup(side, config.width, NORMALISATIONS[normalisation], config.batch_size, config.samples)
        groups.append(
            Loop(
                normalisation,
                functools.partial(image_gan.initialise, setup=setup),
                functools.partial(image_gan.step, setup=setup),
                functools.partial(image_gan.evaluate, setup=setup),
                [place * config.steps // config.evaluations for place in range(config.evaluations + 1)],
                [Run(np.float32(SLOPES[arm]), np.uint32(seed)) for seed, arm in table],
                functools.partial(to_records, config, normalisation, judge),
            )
        )
    return groups


def to_records(
    config: Config, normalisation: str, judge: Judge, run: Run, life: Sequence[Seen]
) -> list[store.Record]:
    """A record for each evaluation of a pair; the last one of seed 0 keeps images."""
    arm = next(name for name, slope in SLOPES.items() if np.float32(slope) == run.negative_slope)
    records: list[store.Record] = []
    steps = config.steps // config.evaluations
    for place, seen in enumerate(life):
        before = life[place - 1] if place else seen
        norms, losses = (
            (now - then) / steps for now, then in ((seen.norms, before.norms), (seen.losses, before.losses))
        )
        variance = np.maximum((seen.squares - before.squares) / steps - norms**2, 0)
        finite = all(np.isfinite(part).all() for part in (seen.mean, seen.norms, seen.losses, seen.images))
        diverged = not finite or bool(records and records[-1]["diverged"])
        distance = frechet_distance(
            Moments(np.asarray(seen.mean, np.float64), np.asarray(seen.covariance, np.float64)), judge.real
        )
        record: store.Record = {
            "normalisation": normalisation,
            "arm": arm,
            "negative_slope": store.number(run.negative_slope),
            "seed": int(run.seed),
            "step": place * steps,
            "modes": int((seen.histogram >= COVERED).sum()) if finite else None,
            "entropy": store.number(entropy(np.asarray(seen.histogram)), 5) if finite else None,
            "frechet": store.number(distance, 5),
            "diverged": diverged,
            "discriminator_never_active": store.number(seen.discriminator_never_active, 5),
            "generator_never_active": store.number(seen.generator_never_active, 5),
        }
        # Means over the steps since the last evaluation; none before the first step.
        for who, player in enumerate(("discriminator", "generator")):
            record |= {
                f"{player}_loss": store.number(losses[who], 5) if place else None,
                f"{player}_gradient": store.number(norms[who], 5) if place else None,
                f"{player}_gradient_deviation": store.number(np.sqrt(variance[who]), 5) if place else None,
            }
        if place == config.evaluations and run.seed == 0 and finite:
            grey = np.rint((seen.images + 1) * 127.5).astype(np.uint8)
            record["images"] = [image.tobytes().hex() for image in grey]
        records.append(record)
    return records


def run(config: Config) -> None:
    """The experiment from its settings to its report."""
    dataset = data.load(config.data, full=config.full)
    images = images_of(dataset.train_images, config.side)
    side = math.isqrt(images.shape[1])
    if side * side != images.shape[1] or side % 4:
        raise LabError(
            f"--data {config.data} has images of {images.shape[1]} pixels: give squares whose side is a multiple of 4."
        )
    train, test = (
        np.asarray(image_gan.pictures(some, side))
        for some in (images, images_of(dataset.test_images, config.side))
    )
    judge = train_judge(train, dataset.train_labels, test, dataset.test_labels, epochs=config.judge_epochs)
    outcome = carry_out(
        NAME,
        config,
        groups_of(config, side, judge),
        Material(images, judge.params),
        "pairs of networks",
        loop,
        data_sha256=dataset.sha256,
        judge_sha256=judge.sha256,
        judge_accuracy=round(judge.accuracy, 4),
    )
    report(config, outcome, judge, dataset.describe(), images[: image_gan.SHOWN].reshape(-1, side, side))


def main() -> None:
    """The command line."""
    cli.start(NAME, run, Config, PRESETS, __doc__)

"""Does a slope help convolutional networks to classify images, and how many of their channels are dead?

Trains a plain network without and with batch normalisation and a small residual network on Fashion-MNIST, with ReLU,
LeakyReLU and PReLU in otherwise equal networks. Networks of one seed begin with the same weights and see the same
batches. Channels are counted by the census of the model as it is.

    python -m experiments.image_classification --smoke                      seconds, on scikit-learn's digits
    python -m experiments.image_classification                              the default: minutes
    python -m experiments.image_classification --data cifar-10-batches-bin  CIFAR-10, its binary version
    python -m experiments.image_classification --full                       all images, larger networks; for a GPU

References:
    Xu, Wang, Chen and Li: Empirical evaluation of rectified activations in convolution network, arXiv:1505.00853.
    Maas, Hannun and Ng: Rectifier nonlinearities improve neural network acoustic models, ICML workshop 2013.
    He, Zhang, Ren and Sun: Delving deep into rectifiers, ICCV 2015.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from flax import linen as nn
from pydantic.dataclasses import dataclass

from experiments.image_classification import cifar10
from experiments.image_classification.plain_cnn import PlainCNN
from experiments.image_classification.rectifier import INITIAL_SLOPE
from experiments.image_classification.report import report
from experiments.image_classification.resnet import ResNet
from experiments.image_classification.training import SHAPES, Run, Seen, evaluate, initialise, step
from experiments.lab.data import batches
from experiments.lab.data import datasets as data
from experiments.lab.run import cli, store
from experiments.lab.run.errors import LabError
from experiments.lab.run.experiment import carry_out
from experiments.lab.run.loop import Loop, loop
from experiments.lab.run.settings import Count, Distinct, Flags, Positive, Several

NAME = "image_classification"
Network = Literal["cnn", "cnn_norm", "resnet"]
Activation = Literal["relu", "leaky_0.01", "leaky_0.2", "prelu"]
SLOPES = {"relu": 0.0, "leaky_0.01": 0.01, "leaky_0.2": 0.2, "prelu": INITIAL_SLOPE}
# On another seed 0.05 suited ReLU in all three networks better than 0.2, which killed the one without normalisation.
LEARNING_RATES: dict[str, tuple[float, ...]] = {"cnn": (0.05, 0.2), "cnn_norm": (0.05,), "resnet": (0.05,)}
_EVALUATIONS = 4


@dataclass(frozen=True)
class Config(Flags):
    """Which networks are trained, on what, and where it is written."""

    out: Path = Path("runs/image_classification")
    """The folder of the run: rows, plots and page.
    A folder that holds a run of other settings is refused, not overwritten."""

    seeds: Count = 5
    """Number of networks, with the seeds 0, 1, 2, ..., per combination."""

    steps: Count = 500
    """Training steps."""

    data: str = "auto"
    """Where the images come from: auto, embedded, system, digits, a folder of IDX files with MNIST's names, or the
    folder cifar-10-batches-bin."""

    networks: Several[Network] = ("cnn", "cnn_norm", "resnet")
    """cnn: six 3x3 convolutions; cnn_norm: with batch normalisation; resnet: three residual blocks, normalised."""

    activations: Several[Activation] = ("relu", "leaky_0.01", "leaky_0.2", "prelu")
    """Activations to compare, each with relu, which must be among them.
    prelu: each channel learns its slope, from 0.25."""

    width: Count = 16
    """Channels of the first stage; each of the two after it has twice as many."""

    batch_size: Count = 32
    """Images per training step."""

    learning_rates: Distinct[Positive] = ()
    """Initial learning rates of stochastic gradient descent with momentum 0.9; each falls to 0 as a cosine.
    By default 0.05 for all networks, and for cnn also 0.2."""

    target_loss: Positive = 0.6
    """Smoothed training loss; the steps until a network reaches it are recorded."""

    def __post_init__(self) -> None:
        if "relu" not in self.activations:
            raise LabError(
                f"--activations is {self.activations}: give relu too, with which they are compared."
            )


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "seeds": 2,
        "steps": 40,
        "data": "digits",
        "networks": ("cnn",),
        "width": 8,
        "learning_rates": (0.05,),
        "target_loss": 2.0,
    },
    "full": {"seeds": 10, "steps": 20_000, "width": 64, "batch_size": 128, "target_loss": 0.3},
}


def network_of(network: str, config: Config, *, learned: bool) -> nn.Module:
    """The Flax model."""
    widths = [config.width * 2**stage for stage in range(3)]
    if network == "resnet":
        blocks = 3 if config.full else 1
        return ResNet(learned, tuple((width,) * blocks for width in widths))
    return PlainCNN(network == "cnn_norm", learned, tuple((width, width) for width in widths))


def evaluations_of(config: Config) -> list[int]:
    """0, and equal spans to the end."""
    return sorted({round(config.steps * place / _EVALUATIONS) for place in range(_EVALUATIONS + 1)})


def groups_of(config: Config) -> list[Loop]:
    """One compiled step per network for all slopes, and one for PReLU; seeds outermost."""
    groups = []
    for network, learned in itertools.product(config.networks, (False, True)):
        names = [name for name in config.activations if (name == "prelu") == learned]
        rates = config.learning_rates or LEARNING_RATES[network]
        table = list(itertools.product(range(config.seeds), rates, names))
        if not table:
            continue
        model = network_of(network, config, learned=learned)
        groups.append(
            Loop(
                network,
                functools.partial(initialise, model=model, steps=config.steps, batch_size=config.batch_size),
                functools.partial(step, model=model, steps=config.steps, target_loss=config.target_loss),
                functools.partial(evaluate, model=model),
                evaluations_of(config),
                [
                    Run(np.float32(SLOPES[name]), np.float32(rate), np.uint32(seed))
                    for seed, rate, name in table
                ],
                functools.partial(to_records, network, learned, config),
            )
        )
    return groups


def to_records(
    network: str, learned: bool, config: Config, run: Run, seen: Sequence[Seen]
) -> list[store.Record]:
    """A record for each evaluation of a network; a list has a value per activation, in the order of the model."""
    slopes = {np.float32(slope): name for name, slope in SLOPES.items() if name != "prelu"}
    activation = "prelu" if learned else slopes[run.negative_slope]
    records = []
    for number, at in zip(evaluations_of(config), seen, strict=True):
        layers = [site.measures for site in at.census]
        diverged = not (math.isfinite(at.test_loss) and math.isfinite(at.loss))
        records.append(
            {
                "network": network,
                "activation": activation,
                "negative_slope": None if learned else store.number(run.negative_slope),
                "learning_rate": store.number(run.learning_rate),
                "seed": int(run.seed),
                "step": number,
                "test_accuracy": None if diverged else store.number(at.accuracy, 6),
                "test_loss": store.number(at.test_loss, 6),
                "train_loss": store.number(at.loss, 6) if number else None,
                "steps_to_target": int(at.reached) if at.reached >= 0 and not diverged else None,
                "diverged": diverged,
                "channels": [site.units for site in at.census],
                "samples": [site.n for site in at.census],
                **{
                    measure: [_rounded(layer[measure]) for layer in layers]
                    for measure in ("never_active", "dead", "rare", "mean_slope")
                },
                "learned_slope": [
                    store.number(np.mean(site.negative_slope), 6) if site.negative_slope is not None else None
                    for site in at.census
                ]
                if learned
                else None,
            }
        )
    return records


def _rounded(value: Any) -> float | None:
    return None if value is None else store.number(value, 6)


def load(config: Config) -> data.Dataset:
    """The images that the flags name."""
    if cifar10.is_cifar10(Path(config.data)):
        everything = cifar10.read_folder(Path(config.data))
        return everything if config.full else data.balanced_subset(everything)
    return data.load(config.data, full=config.full)


def run(config: Config) -> None:
    """The experiment from its settings to its report."""
    dataset = load(config)
    dataset.require_squares()
    pixels = dataset.train_images.shape[1]
    if pixels not in SHAPES:
        raise LabError(f"--data {config.data} holds images of {pixels} pixels: give 28x28 or CIFAR-10.")
    if config.batch_size > len(dataset.train_labels):
        raise LabError(
            f"--batch-size is {config.batch_size}: give at most {len(dataset.train_labels)}, the train images."
        )
    images = batches.images_of(dataset)
    outcome = carry_out(
        NAME, config, groups_of(config), images, "networks", engine=loop, data_sha256=dataset.sha256
    )
    report(config, outcome, dataset.describe())


def main() -> None:
    """The command line."""
    cli.start(NAME, run, Config, PRESETS, __doc__)

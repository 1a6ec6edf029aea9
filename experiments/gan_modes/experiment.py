"""Does LeakyReLU keep a generative adversarial network from losing modes?

Trains a generator and a discriminator on Gaussians on a ring and on a grid, with a slope in one of the players or in
both; a player without one keeps ReLU. The networks of one seed begin with the same weights and see the same samples
whatever their slopes. Modes and samples of high quality are counted over training.

    python -m experiments.gan_modes --smoke                           a few seconds
    python -m experiments.gan_modes                                   the default: minutes
    python -m experiments.gan_modes --mixtures ring --seeds 50        one mixture, narrower intervals
    python -m experiments.gan_modes --full                            the published scale; for a GPU

The mixtures, the measures, the batch, the noise, the generator's batch normalisation, its running mean, the losses,
the simultaneous steps and the first optimiser are those of PacGAN's code for its plain GAN. Three things differ. The
discriminator's units are ReLUs or leaky ReLUs in place of the maximum of five linear pieces, because the activation is
what is varied. Weights begin with He's variance in place of a standard deviation of 0.02, which leaves no signal to a
narrow network without normalisation. Every batch is drawn anew, not from 100,000 stored samples. The default is
narrower and an eightieth as long; `--full` has the published widths and steps: four hidden layers of 400 units in the
generator, as in the code, and three of 200 in the discriminator.

References:
    Lin, Khetan, Fanti and Oh: PacGAN: The power of two samples in generative adversarial networks, NeurIPS 2018,
    arXiv:1712.04086, and https://github.com/fjxmlzn/PacGAN, synthetic_data_experiments.
    Srivastava et al.: VEEGAN: Reducing mode collapse in GANs using implicit variational learning, NeurIPS 2017,
    arXiv:1705.07761.
"""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic.dataclasses import dataclass

from experiments.gan_modes import mixtures
from experiments.gan_modes.report import report
from experiments.gan_modes.training import Architecture, Evaluation, Run, train
from experiments.lab.run import cli, store
from experiments.lab.run.errors import LabError
from experiments.lab.run.experiment import carry_out
from experiments.lab.run.settings import Count, Flags, Several, Widths
from experiments.lab.run.sweep import Group

NAME = "gan_modes"
Arm = Literal[
    "relu", "discriminator_0.01", "discriminator_0.2", "generator_0.01", "generator_0.2", "both_0.2"
]
MIXTURES = {"ring": mixtures.ring, "grid": mixtures.grid}
# The slopes of the discriminator and of the generator.
ARMS = {
    "relu": (0.0, 0.0),
    "discriminator_0.01": (0.01, 0.0),
    "discriminator_0.2": (0.2, 0.0),
    "generator_0.01": (0.0, 0.01),
    "generator_0.2": (0.0, 0.2),
    "both_0.2": (0.2, 0.2),
}
# Learning rate and first decay of Adam: PacGAN's, and a faster one with DCGAN's decay.
OPTIMIZERS = {"pacgan": (1e-4, 0.8), "fast": (1e-3, 0.5)}


@dataclass(frozen=True)
class Config(Flags):
    """Which networks are trained on what, and where it is written."""

    out: Path = Path("runs/gan_modes")
    """The folder of the run: rows, plots and page.
    A folder that holds a run of other settings is refused, not overwritten."""

    seeds: Count = 10
    """Number of pairs of networks, with the seeds 0, 1, 2, ..., per combination."""

    steps: Count = 5000
    """Training steps, each of both players at once."""

    mixtures: Several[Literal["ring", "grid"]] = ("ring", "grid")
    """ring: 8 modes on the unit circle, standard deviation 0.01; grid: 25 modes 2 apart, 0.05."""

    optimizers: Several[Literal["pacgan", "fast"]] = ("pacgan", "fast")
    """pacgan: Adam with learning rate 1e-4 and b1 0.8; fast: 1e-3 and 0.5."""

    arms: Several[Arm] = (
        "relu",
        "discriminator_0.01",
        "discriminator_0.2",
        "generator_0.01",
        "generator_0.2",
        "both_0.2",
    )
    """Which player has which slope; a player that is not named has ReLU. relu is what the others are compared with."""

    generator: Widths = (64, 64)
    """The widths of the generator's hidden layers."""

    discriminator: Widths = (64, 64, 64)
    """The widths of the discriminator's hidden layers."""

    batch_size: Count = 100
    """Samples of the mixture per step, and as many generated ones."""

    samples: Count = 2500
    """Generated samples of each evaluation, on which modes are counted."""

    evaluations: Count = 20
    """How many times the networks are evaluated during training, not counting the evaluation before it."""

    def __post_init__(self) -> None:
        if self.steps % self.evaluations:
            raise LabError(f"--steps is {self.steps}: give a multiple of --evaluations, {self.evaluations}.")
        if self.arms[0] != "relu":
            raise LabError(f"--arms is {self.arms}: begin with relu, which the others are compared with.")


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "seeds": 3,
        "steps": 200,
        "evaluations": 2,
        "generator": (16,),
        "discriminator": (16, 16),
        "samples": 500,
    },
    "full": {"steps": 400_000, "generator": (400,) * 4, "discriminator": (200,) * 3},
}


def groups_of(config: Config) -> list[Group]:
    """One compiled program per mixture, for all arms and optimisers; seeds outermost."""
    table = itertools.product(range(config.seeds), config.optimizers, config.arms)
    runs = []
    for seed, name, arm in table:
        slope_d, slope_g, rate, decay = map(np.float32, (*ARMS[arm], *OPTIMIZERS[name]))
        runs.append(Run(slope_d, slope_g, rate, decay, np.uint32(seed)))
    architecture = Architecture(
        config.generator,
        config.discriminator,
        config.batch_size,
        config.steps,
        config.evaluations,
        config.samples,
    )
    return [
        Group(
            mixture,
            functools.partial(train, architecture=architecture, mixture=mixture),
            runs,
            functools.partial(to_records, config, mixture),
        )
        for mixture in config.mixtures
    ]


def to_records(config: Config, mixture: str, run: Run, life: Evaluation) -> list[store.Record]:
    """A record for each evaluation of a pair; the last one of seed 0 keeps samples."""
    optimizer = next(name for name, (rate, _) in OPTIMIZERS.items() if np.float32(rate) == run.learning_rate)
    slopes = run.discriminator_slope, run.generator_slope
    arm = next(name for name, pair in ARMS.items() if tuple(map(np.float32, pair)) == slopes)
    values = life._asdict()
    samples = values.pop("samples")
    finite = np.all([np.isfinite(value) for value in values.values()], axis=0).reshape(-1)
    shown = (
        np.round(np.asarray(samples[-1], np.float64), 3).tolist() if run.seed == 0 and finite[-1] else None
    )
    return [
        {
            "mixture": mixture,
            "optimizer": optimizer,
            "arm": arm,
            "discriminator_slope": store.number(run.discriminator_slope),
            "generator_slope": store.number(run.generator_slope),
            "seed": int(run.seed),
            "step": place * config.steps // config.evaluations,
            **{name: store.number(value[place], 5) for name, value in values.items()},
            "diverged": not bool(finite[: place + 1].all()),
            **({"samples": shown} if shown and place == config.evaluations else {}),
        }
        for place in range(config.evaluations + 1)
    ]


def run(config: Config) -> None:
    """The experiment from its settings to its report."""
    data = {name: make() for name, make in MIXTURES.items()}
    report(config, carry_out(NAME, config, groups_of(config), data, "pairs of networks"))


def main() -> None:
    """The command line."""
    cli.start(NAME, run, Config, PRESETS, __doc__)

"""Where does LeakyReLU learn faster or better than ReLU: over optimiser, learning rate and slope?

Trains one multilayer perceptron on real images with every combination, and compares each slope with ReLU pair by pair:
networks of one seed begin with the same weights and see the same batches. The intervals of the differences are
corrected for the number of comparisons.

    python -m experiments.learning_rate_map --smoke                   a few seconds, on scikit-learn's digits
    python -m experiments.learning_rate_map                           the default: minutes
    python -m experiments.learning_rate_map --learning-rates 0.001 0.01
    python -m experiments.learning_rate_map --full                    all 70,000 images, 5,000 steps; hours on 2 cores

References:
    Maas, Hannun and Ng: Rectifier nonlinearities improve neural network acoustic models, ICML workshop 2013.
    Xu, Wang, Chen and Li: Empirical evaluation of rectified activations in convolutional network, arXiv:1505.00853.
"""

from __future__ import annotations

import functools
import itertools
import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from pydantic.dataclasses import dataclass

from experiments.lab.data import batches
from experiments.lab.data import datasets as data
from experiments.lab.nets.layers import measures_of
from experiments.lab.nets.mlp import MLP, cross_entropy, losses_and_logits
from experiments.lab.run import cli, store
from experiments.lab.run.errors import LabError
from experiments.lab.run.experiment import carry_out
from experiments.lab.run.settings import Count, Distinct, Finite, Flags, Positive, Several, Widths
from experiments.lab.run.sweep import Group
from experiments.learning_rate_map.report import report
from jax_leaky import value_and_census

NAME = "learning_rate_map"
OPTIMIZERS = {"sgd": functools.partial(optax.sgd, momentum=0.9), "adam": optax.adam}
LEARNING_RATES = {"sgd": (0.001, 0.003, 0.01, 0.03, 0.1), "adam": (0.0003, 0.001, 0.003, 0.01, 0.03)}


@dataclass(frozen=True)
class Config(Flags):
    """What is trained, on what, and where it is written."""

    out: Path = Path("runs/learning_rate_map")
    """The folder of the run: rows, plots and page.
    A folder that holds a run of other settings is refused, not overwritten."""

    seeds: Count = 10
    """Number of networks, with the seeds 0, 1, 2, ..., per combination."""

    steps: Count = 256
    """Training steps of each network."""

    data: str = "auto"
    """Where the images come from: auto, embedded, system, digits, or a folder of IDX files with MNIST's names."""

    negative_slopes: Several[Finite] = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3)
    """The slopes of LeakyReLU; 0 is ReLU, with which the others are compared, and must be among them."""

    optimizers: Several[Literal["sgd", "adam"]] = ("sgd", "adam")
    """Optimisers to compare; sgd has momentum 0.9."""

    learning_rates: Distinct[Positive] = ()
    """Learning rates for every optimiser.
    Without it each has its own five, from too low to too high: 0.001 to 0.1 for sgd, 0.0003 to 0.03 for adam."""

    hidden: Widths = (128, 128, 128, 128)
    """The widths of the hidden layers."""

    batch_size: Count = 128
    """Images per training step."""

    target_loss: Positive = 0.7
    """Mean cross-entropy on the test images; the steps until a network reaches it are recorded."""

    every: Count = 8
    """Training steps between two evaluations of the test loss."""

    def __post_init__(self) -> None:
        if 0.0 not in self.negative_slopes:
            raise LabError(
                f"--negative-slopes is {self.negative_slopes}: give 0 too, ReLU, with which they are compared."
            )


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "seeds": 2,
        "steps": 32,
        "data": "digits",
        "negative_slopes": (0.0, 0.2),
        "hidden": (32, 32),
        "learning_rates": (0.01, 0.03),
    },
    "full": {"steps": 5000, "every": 50, "target_loss": 0.4},
}


class Run(NamedTuple):
    """One network."""

    negative_slope: np.float32
    learning_rate: np.float32
    seed: np.uint32


class Life(NamedTuple):
    """Records of one network's training.

    Attributes:
        losses: mean cross-entropy on the test images every few steps, from step 0, (evaluations,).
        accuracy: share of the test images that are classified correctly at the end, ().
        never_active: share of each hidden layer's units that are never active, before and after training, (2, layers).
    """

    losses: Array
    accuracy: Array
    never_active: Array


def train(run: Run, images: batches.Images, *, config: Config, optimizer: str) -> Life:
    """Trains one network from its initialisation."""
    model, slope = MLP(config.hidden), run.negative_slope
    rule = OPTIMIZERS[optimizer](run.learning_rate)
    start_key, batch_key = jax.random.split(jax.random.key(run.seed))
    params = model.start(start_key, images.train_images.shape[1])
    spans = -(-config.steps // config.every)
    order = batches.shuffled_epochs(
        batch_key, len(images.train_images), spans * config.every, config.batch_size
    )
    probe = images.standardize(images.test_images)

    def step(carry: tuple[Any, Any], chosen: Array) -> tuple[tuple[Any, Any], None]:
        params, state = carry
        x, labels = images.standardize(images.train_images[chosen]), images.train_labels[chosen]
        gradient = jax.grad(cross_entropy, argnums=1)(model, params, x, labels, slope)
        updates, state = rule.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    def span(carry: tuple[Any, Any], chosen: Array) -> tuple[tuple[Any, Any], Array]:
        carry, _ = lax.scan(step, carry, chosen)
        return carry, cross_entropy(model, carry[0], probe, images.test_labels, slope)

    def at(params: Any) -> tuple[Array, Array]:
        # With gradients, so that a network whose loss has diverged has no measures in any layer.
        (_, logits), census = value_and_census(losses_and_logits, gradients=True)(
            model, params, probe, images.test_labels, slope
        )
        return (logits.argmax(-1) == images.test_labels).mean(), measures_of(census)["never_active"]

    first = cross_entropy(model, params, probe, images.test_labels, slope)
    ordered = order.reshape(spans, config.every, config.batch_size)
    (end, _), losses = lax.scan(span, (params, rule.init(params)), ordered)
    stages = jax.tree.map(lambda one, other: jnp.stack([one, other]), params, end)
    accuracies, shares = lax.map(at, stages)
    return Life(jnp.concatenate([first[None], losses]), accuracies[-1], shares)


def groups_of(config: Config) -> list[Group]:
    """One compiled program per optimiser; seeds outermost, so that a run that is cut short has whole pairs."""
    groups = []
    for optimizer in config.optimizers:
        rates = config.learning_rates or LEARNING_RATES[optimizer]
        table = itertools.product(range(config.seeds), rates, config.negative_slopes)
        runs = [Run(np.float32(slope), np.float32(rate), np.uint32(seed)) for seed, rate, slope in table]
        life = functools.partial(train, config=config, optimizer=optimizer)
        groups.append(Group(optimizer, life, runs, functools.partial(to_records, optimizer, config)))
    return groups


def to_records(optimizer: str, config: Config, run: Run, life: Life) -> list[store.Record]:
    """The record of one network; a diverged one has no measures."""
    widths = np.array(config.hidden, np.float64)
    before, after = life.never_active.astype(np.float64) @ widths / widths.sum()
    diverged = not (np.isfinite(life.losses).all() and math.isfinite(after))
    reached = np.flatnonzero(life.losses <= config.target_loss)
    return [
        {
            "optimizer": optimizer,
            "learning_rate": store.number(run.learning_rate),
            "negative_slope": store.number(run.negative_slope),
            "seed": int(run.seed),
            "never_active": None if diverged else store.number(after, 6),
            "change": None if diverged else store.number(after - before, 6),
            "accuracy": None if diverged else store.number(life.accuracy, 6),
            "loss": None if diverged else store.number(life.losses[-1], 6),
            "steps_to_target": None if diverged or not len(reached) else int(reached[0]) * config.every,
            "diverged": diverged,
        }
    ]


def run(config: Config) -> None:
    """The experiment from its settings to its report."""
    dataset = data.load(config.data, full=config.full)
    images = batches.images_of(dataset)
    outcome = carry_out(NAME, config, groups_of(config), images, "networks", data_sha256=dataset.sha256)
    report(config, outcome, dataset.describe(), len(dataset.test_labels))


def main() -> None:
    """The command line."""
    cli.start(NAME, run, Config, PRESETS, __doc__)

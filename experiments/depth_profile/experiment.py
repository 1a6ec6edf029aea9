"""In which layers are units dead before training, by initialisation, and after?

Counts dead and never-active units per layer of a deep multilayer perceptron on real images, for the default
uniform initialisation of PyTorch's layers, He's, and He's for the slope; then trains the networks and counts again.
The architecture, the inputs in [-1, 1] and the uniform initialisation are those of the UvA tutorial. Such a deep
uniform network begins to learn only after some 3,000 steps, at ten times the default's cost.

    python -m experiments.depth_profile --smoke                       a few seconds, on scikit-learn's digits
    python -m experiments.depth_profile                               the default: minutes
    python -m experiments.depth_profile --steps 0 --seeds 50          before training only
    python -m experiments.depth_profile --steps 6000 --seeds 2        enough for the uniform networks to train
    python -m experiments.depth_profile --full                        all 70,000 images, 20 seeds, the tutorial's epochs

References:
    Lippe: UvA Deep Learning Tutorials, tutorial 3, Activation functions (JAX and Flax).
    He, Zhang, Ren and Sun: Delving Deep into Rectifiers, ICCV 2015.
"""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments.depth_profile.report import report
from experiments.lab.data import batches
from experiments.lab.data import datasets as data
from experiments.lab.nets.initialisations import initial_params
from experiments.lab.nets.layers import changes_of, layers_to_json, measures_of, never_active_of
from experiments.lab.nets.mlp import MLP, cross_entropy, losses_and_logits
from experiments.lab.run import cli, store
from experiments.lab.run.experiment import carry_out
from experiments.lab.run.settings import Count, Finite, Flags, Positive, Several, Widths
from experiments.lab.run.sweep import Group
from jax_leaky import value_and_census

NAME = "depth_profile"


@dataclass(frozen=True)
class Config(Flags):
    """What is initialised and trained, on what, and where it is written."""

    out: Path = Path("runs/depth_profile")
    """The folder of the run: rows, plots and page.
    A folder that holds a run of other settings is refused, not overwritten."""

    seeds: Count = 10
    """Number of networks, with the seeds 0, 1, 2, ..., per combination."""

    steps: Annotated[int, Field(ge=0)] = 300
    """Training steps of each network; 0 trains none."""

    data: str = "auto"
    """Where the images come from: auto, embedded, system, digits, or a folder of IDX files with MNIST's names."""

    initialisations: Several[Literal["uniform", "he", "leaky_he"]] = ("uniform", "he", "leaky_he")
    """uniform: +-1/sqrt(fan_in) for weights and biases; he: variance 2/fan_in; leaky_he: 2/((1 + a^2) fan_in)."""

    negative_slopes: Several[Finite] = (0.0, 0.01, 0.2)
    """The slopes of LeakyReLU; 0 is ReLU. leaky_he with slope 0 equals he, and is left out if he is
    compared too."""

    hidden: Widths = (256, 256, 256, 256, 256, 128, 128, 128, 128, 128)
    """The widths of the hidden layers."""

    learning_rate: Positive = 0.01
    """Learning rate of stochastic gradient descent with momentum 0.9, as in the tutorial."""

    batch_size: Count = 128
    """Images per training step."""


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {"seeds": 2, "steps": 32, "data": "digits", "hidden": (64, 64, 32, 32)},
    "full": {"seeds": 20, "steps": 10_000, "batch_size": 256},
}


class Run(NamedTuple):
    """One network."""

    negative_slope: np.float32
    seed: np.uint32


class Profile(NamedTuple):
    """A network before training and after it, along the first axis.

    Attributes:
        loss: mean cross-entropy on the probe set, the training images, (2,).
        test_accuracy: share of the test images that are classified correctly, (2,).
        layers: measures by name, (2, layers) each; NaN in a layer with a value that is not finite.
    """

    loss: Array
    test_accuracy: Array
    layers: dict[str, Array]


def train(run: Run, images: batches.Images, *, config: Config, initialisation: str) -> Profile:
    """Trains one network from its initialisation."""
    model, slope = MLP(config.hidden), run.negative_slope
    start_key, batch_key = jax.random.split(jax.random.key(run.seed))
    widths = (images.train_images.shape[1], *config.hidden, model.classes)
    params = initial_params(initialisation, start_key, widths, slope)
    rule = optax.sgd(config.learning_rate, momentum=0.9)
    order = batches.shuffled_epochs(
        batch_key, len(images.train_images), max(config.steps, 1), config.batch_size
    )
    probe = images.standardize(images.train_images)

    def step(number: Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        params, state = carry
        x, labels = images.standardize(images.train_images[order[number]]), images.train_labels[order[number]]
        gradient = jax.grad(cross_entropy, argnums=1)(model, params, x, labels, slope)
        updates, state = rule.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    def until_next_record(carry: Any, span: tuple[Array, Array]) -> tuple[Any, Any]:
        (params, state), (first, last) = carry, span
        params, state = lax.fori_loop(first, last, step, (params, state))
        (losses, _), census = value_and_census(losses_and_logits, gradients=True)(
            model, params, probe, images.train_labels, slope
        )
        logits = jnp.asarray(model.apply({"params": params}, images.standardize(images.test_images), slope))
        accuracy = (logits.argmax(-1) == images.test_labels).mean()
        profile = Profile(losses.mean(), accuracy, measures_of(census))
        return (params, state), (profile, never_active_of(census))

    spans = jnp.array([0, 0]), jnp.array([0, config.steps])
    _, (profile, never_active) = lax.scan(until_next_record, (params, rule.init(params)), spans)
    return profile._replace(layers=profile.layers | changes_of(never_active))


def groups_of(config: Config) -> list[Group]:
    """One compiled program per initialisation."""
    groups = []
    for initialisation in config.initialisations:
        same_as_he = initialisation == "leaky_he" and "he" in config.initialisations
        slopes = [slope for slope in config.negative_slopes if slope or not same_as_he]
        table = itertools.product(range(config.seeds), slopes)
        runs = [Run(np.float32(slope), np.uint32(seed)) for seed, slope in table]
        life = functools.partial(train, config=config, initialisation=initialisation)
        keep = functools.partial(to_records, initialisation, config)
        groups += [Group(initialisation, life, runs, keep)] if runs else []
    return groups


def to_records(initialisation: str, config: Config, run: Run, profile: Profile) -> list[store.Record]:
    """Two records for a network, before training and after; a list per measure with a value per layer."""
    return [
        {
            "initialisation": initialisation,
            "negative_slope": store.number(run.negative_slope),
            "seed": int(run.seed),
            "step": step,
            "loss": store.number(profile.loss[place]),
            "test_accuracy": store.number(profile.test_accuracy[place]),
            **layers_to_json({name: np.asarray(values[place]) for name, values in profile.layers.items()}),
        }
        for place, step in enumerate((0, config.steps))
        if place == 0 or step
    ]


def run(config: Config) -> None:
    """The experiment from its settings to its report."""
    dataset = data.load(config.data, full=config.full)
    # Inputs in [-1, 1], as in the tutorial, rather than standardised.
    images = batches.images_of(dataset)._replace(mean=np.float32(127.5), scale=np.float32(1 / 127.5))
    outcome = carry_out(NAME, config, groups_of(config), images, "networks", data_sha256=dataset.sha256)
    report(config, outcome, dataset.describe(), len(dataset.train_labels))


def main() -> None:
    """The command line."""
    cli.start(NAME, run, Config, PRESETS, __doc__)

"""How many neurons die under ReLU and LeakyReLU?

Trains one multilayer perceptron many times on real images, with every combination of activation, optimiser, learning
rate and seed, and counts during training how many hidden units are never active on the test images. Networks of one
seed begin with the same weights and see the same batches whatever their activation, so that they can be compared
pair by pair. It prints a table, and leaves the rows, the plots and a page that shows them in the folder --out. A run
that was stopped goes on when the same command is given again.

    python -m experiments.dead_neurons --smoke                        a few seconds, to see that everything works
    python -m experiments.dead_neurons                                the default: under a minute on two cores
    python -m experiments.dead_neurons --seeds 20 --out runs/mine     more seeds, narrower intervals
    python -m experiments.dead_neurons --full                         all 70,000 images; half an hour or more
"""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from pydantic.dataclasses import dataclass

from experiments.dead_neurons.report import report
from experiments.lab.data import batches
from experiments.lab.data import datasets as data
from experiments.lab.nets.layers import changes_of, layers_to_json, measures_of, never_active_of
from experiments.lab.nets.mlp import MLP, cross_entropy, losses_and_logits
from experiments.lab.run import cli, store
from experiments.lab.run.errors import LabError
from experiments.lab.run.experiment import carry_out
from experiments.lab.run.settings import Count, Distinct, Finite, Flags, Positive, Several, Widths
from experiments.lab.run.sweep import Group
from jax_leaky import value_and_census

NAME = "dead_neurons"
OPTIMIZERS = {
    "sgd": functools.partial(optax.sgd, momentum=0.9),
    "adam": optax.adam,
}
# From safe to too high.
LEARNING_RATES = {"sgd": (0.003, 0.01, 0.03, 0.1), "adam": (0.001, 0.01, 0.03, 0.1)}


@dataclass(frozen=True)
class Config(Flags):
    """What is trained, on what, and where it is written."""

    out: Path = Path("runs/dead_neurons")
    """The folder of the run: rows, plots and page.
    A folder that holds a run of other settings is refused, not overwritten."""

    seeds: Count = 5
    """Number of networks per combination, with the seeds 0, 1, 2, ..."""

    steps: Count = 256
    """Training steps of each network."""

    data: str = "auto"
    """Where the images come from: auto, embedded, system, digits, or a folder of IDX files with MNIST's names.
    auto takes the system's Fashion-MNIST files, else the subset that comes with the project.
    Without --full a run draws the same 5,000 + 1,000 images from the whole set that the subset holds."""

    negative_slopes: Several[Finite] = (0.0, 0.01, 0.2)
    """The slopes of LeakyReLU to compare; 0 is ReLU."""

    optimizers: Several[Literal["sgd", "adam"]] = ("sgd", "adam")
    """Optimisers to compare; sgd has momentum 0.9."""

    learning_rates: Distinct[Positive] = ()
    """Learning rates for every optimiser.
    Without it each has its own four, from safe to too high: 0.003 to 0.1 for sgd, 0.001 to 0.1 for adam."""

    hidden: Widths = (128, 128, 128, 128)
    """The widths of the hidden layers."""

    batch_size: Count = 128
    """Images per training step."""


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {"seeds": 2, "steps": 64, "data": "digits"},
    "full": {"seeds": 20, "steps": 5000},
}


class Run(NamedTuple):
    """One network of the sweep: what may differ inside one compiled program."""

    negative_slope: np.float32
    learning_rate: np.float32
    seed: np.uint32


class History(NamedTuple):
    """Records of one network's training, along the first axis at each recorded step.

    Attributes:
        loss: mean cross-entropy on the probe set, the test images, (records,).
        train_loss: mean loss of the batches since the last record, (records,); 0 at step 0, before any.
        test_accuracy: share of the test images that are classified correctly, (records,).
        layers: measures by name, (records, layers) each; NaN in a layer with a value that is not finite.
    """

    loss: Array
    train_loss: Array
    test_accuracy: Array
    layers: dict[str, Array]


def train(run: Run, images: batches.Images, *, config: Config, optimizer: str) -> History:
    """Trains one network from its initialisation: a pure function, to be compiled once for all runs."""
    model = MLP(config.hidden)
    rule = OPTIMIZERS[optimizer](run.learning_rate)
    start_key, batch_key = jax.random.split(jax.random.key(run.seed))
    params = model.start(start_key, images.train_images.shape[1])
    samples, steps = images.train_images.shape[0], recorded_steps(config.steps)
    order = batches.shuffled_epochs(batch_key, samples, steps[-1], config.batch_size)
    probe = images.standardize(images.test_images)

    def step(number: Array, carry: tuple[Any, Any, Array]) -> tuple[Any, Any, Array]:
        params, state, total = carry
        chosen = order[number]
        x, labels = images.standardize(images.train_images[chosen]), images.train_labels[chosen]
        loss, gradient = jax.value_and_grad(cross_entropy, argnums=1)(
            model, params, x, labels, run.negative_slope
        )
        updates, state = rule.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, total + loss

    def until_next_record(carry: Any, span: tuple[Array, Array]) -> tuple[Any, Any]:
        params, state = carry
        first, last = span
        params, state, total = lax.fori_loop(first, last, step, (params, state, jnp.float32(0)))
        # A value per sample, so that each gradient is that of the sample's own loss.
        (losses, logits), census = value_and_census(losses_and_logits, gradients=True)(
            model, params, probe, images.test_labels, run.negative_slope
        )
        record = History(
            loss=losses.mean(),
            train_loss=total / jnp.maximum(last - first, 1).astype(jnp.float32),
            test_accuracy=(logits.argmax(-1) == images.test_labels).mean(),
            layers=measures_of(census),
        )
        return (params, state), (record, never_active_of(census))

    spans = jnp.array([0, *steps[:-1]]), jnp.array(steps)
    _, (history, never_active) = lax.scan(until_next_record, (params, rule.init(params)), spans)
    return history._replace(layers=history.layers | changes_of(never_active))


def recorded_steps(steps: int) -> list[int]:
    """0, 1, 2, 4, 8, ... and the last."""
    return [0, *(2**power for power in range(steps.bit_length()) if 2**power < steps), steps]


def groups_of(config: Config) -> list[Group]:
    """The table of the sweep: one compiled program per optimiser, seeds innermost."""
    groups = []
    for optimizer in config.optimizers:
        rates = config.learning_rates or LEARNING_RATES[optimizer]
        grid = itertools.product(rates, config.negative_slopes, range(config.seeds))
        runs = [Run(np.float32(slope), np.float32(rate), np.uint32(seed)) for rate, slope, seed in grid]
        life = functools.partial(train, config=config, optimizer=optimizer)
        groups.append(Group(optimizer, life, runs, functools.partial(to_records, optimizer, config)))
    return groups


def to_records(optimizer: str, config: Config, run: Run, history: History) -> list[store.Record]:
    """The lines of rows.jsonl for one network: one per recorded step, a list per measure with a value per layer."""
    head = {
        "optimizer": optimizer,
        "learning_rate": store.number(run.learning_rate),
        "negative_slope": store.number(run.negative_slope),
        "seed": int(run.seed),
    }
    finite = np.isfinite(history.loss) & np.isfinite(history.layers["never_active"]).all(axis=1)
    records = []
    for place, step in enumerate(recorded_steps(config.steps)):
        layers = layers_to_json({name: np.asarray(values[place]) for name, values in history.layers.items()})
        figures: dict[str, float | None] = {
            name: store.number(getattr(history, name)[place])
            for name in ("loss", "train_loss", "test_accuracy")
        }
        if step == 0:
            figures["train_loss"] = None
        records.append({**head, "step": step, "diverged": not finite[: place + 1].all(), **figures, **layers})
    return records


def run(config: Config) -> None:
    """The experiment from its settings to its report."""
    dataset = data.load(config.data, full=config.full)
    if config.batch_size > len(dataset.train_labels):
        raise LabError(
            f"--batch-size is {config.batch_size}, but there are {len(dataset.train_labels)} train images."
        )
    print(f"data: {dataset.describe()}")
    images = batches.images_of(dataset)
    outcome = carry_out(
        NAME,
        config,
        groups_of(config),
        images,
        "networks",
        learning_rates={name: config.learning_rates or LEARNING_RATES[name] for name in config.optimizers},
        data_sha256=dataset.sha256,
    )
    report(config, outcome, dataset.describe(), len(dataset.test_labels))


def main() -> None:
    """The command line."""
    cli.start(NAME, run, Config, PRESETS, __doc__)

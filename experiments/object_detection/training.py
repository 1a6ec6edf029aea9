"""The training of one detector: its state, a step, and a look at it; for `experiments.lab.run.loop`."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.lab.data.batches import shuffled_epochs
from experiments.object_detection.boxes import OUTPUTS, Detections, Targets, detect, loss_of
from experiments.object_detection.model import Detector
from jax_leaky import Census, value_and_census


class Settings(Protocol):
    """What the training takes from an experiment's configuration."""

    @property
    def steps(self) -> int:
        """Of the training."""
        ...

    @property
    def batch_size(self) -> int:
        """Canvases per step."""
        ...

    @property
    def learning_rate(self) -> float:
        """At the start."""
        ...

    @property
    def width(self) -> int:
        """Channels of the first stage; each of the two after it has twice as many."""
        ...


class Run(NamedTuple):
    """One network.

    Attributes:
        negative_slope: of its activation.
        seed: of weights and batches.
    """

    negative_slope: np.float32
    seed: np.uint32


class Data(NamedTuple):
    """On the device.

    Attributes:
        train_pixels: (canvases, side, side) uint8.
        targets: of those.
        test_pixels: (canvases, side, side) uint8.
    """

    train_pixels: Array | np.ndarray
    targets: Targets
    test_pixels: Array | np.ndarray


class State(NamedTuple):
    """A network in training.

    Attributes:
        params: its weights.
        statistics: of its normalisation.
        moments: the optimiser's state.
        order: (steps, batch), the canvases of each step.
        number: steps taken.
        loss: of the last batch.
    """

    params: Any
    statistics: Any
    moments: Any
    order: Array
    number: Array
    loss: Array


class Seen(NamedTuple):
    """What a look measures, on all test canvases."""

    found: Detections
    loss: Array
    census: Census


def model_of(config: Settings) -> Detector:
    """The Flax model."""
    one, two, four = (config.width * factor for factor in (1, 2, 4))
    return Detector(OUTPUTS, ((one,), (two, one, two), (four, two, four)))


def rule_of(config: Settings) -> optax.GradientTransformation:
    """The optimiser."""
    return optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps))


def standardized(pixels: Array | np.ndarray) -> Array:
    """What the network takes: (batch, side, side, 1)."""
    return jnp.asarray(pixels)[..., None].astype(jnp.float32) / 128 - 0.5


def begin(run: Run, given: Data, *, config: Settings) -> State:
    """Weights, and the order of the batches."""
    start_key, batch_key = jax.random.split(jax.random.key(run.seed))
    variables = model_of(config).init(start_key, standardized(given.train_pixels[:1]), run.negative_slope)
    order = shuffled_epochs(batch_key, len(given.train_pixels), config.steps, config.batch_size)
    moments = rule_of(config).init(variables["params"])
    return State(variables["params"], variables["batch_stats"], moments, order, jnp.int32(0), jnp.float32(0))


def step(run: Run, state: State, given: Data, *, config: Settings) -> State:
    """One training step."""
    chosen = state.order[state.number]
    x = standardized(jnp.asarray(given.train_pixels)[chosen])
    wanted = jax.tree.map(lambda array: jnp.asarray(array)[chosen], given.targets)

    def loss(params: Any) -> tuple[Array, Any]:
        variables = {"params": params, "batch_stats": state.statistics}
        outputs, changed = model_of(config).apply(variables, x, run.negative_slope, mutable=["batch_stats"])
        return loss_of(outputs, wanted), changed["batch_stats"]

    (value, statistics), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
    updates, moments = rule_of(config).update(gradient, state.moments, state.params)
    params = optax.apply_updates(state.params, updates)
    return State(params, statistics, moments, state.order, state.number + 1, value)


def look(run: Run, state: State, given: Data, *, config: Settings) -> Seen:
    """The boxes that the network finds on the test canvases, and what its channels do there."""

    def forward(variables: Any, x: Array) -> Array:
        return cast(Array, model_of(config).apply(variables, x, run.negative_slope, train=False))

    variables = {"params": state.params, "batch_stats": state.statistics}
    outputs, census = value_and_census(forward)(variables, standardized(given.test_pixels))
    return Seen(detect(outputs), state.loss, census)

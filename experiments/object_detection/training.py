"""How one detector is initialised, trained and evaluated, for `experiments.lab.run.loop`."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.lab.data.batches import shuffled_epochs
from experiments.object_detection.boxes import OUTPUTS, Detections, Targets, detect, loss_of
from experiments.object_detection.model import Detector
from jax_leaky import Census, value_and_census


class Run(NamedTuple):
    """One network.

    Attributes:
        negative_slope: slope of the activation, ().
        seed: seed of weights and batches, ().
    """

    negative_slope: np.float32
    seed: np.uint32


class Data(NamedTuple):
    """Canvases and targets, on the device.

    Attributes:
        train_pixels: training canvases, (canvases, side, side) uint8.
        targets: targets of the training canvases.
        test_pixels: test canvases, (test canvases, side, side) uint8.
    """

    train_pixels: Array | np.ndarray
    targets: Targets
    test_pixels: Array | np.ndarray


class State(NamedTuple):
    """A network in training.

    Attributes:
        params: weights of the network, a pytree.
        statistics: running statistics of its normalisation, a pytree.
        moments: state of the optimiser, a pytree.
        order: indices of the canvases of each step, (steps, batch).
        number: number of steps taken, ().
        loss: loss of the last batch, ().
    """

    params: Any
    statistics: Any
    moments: Any
    order: Array
    number: Array
    loss: Array


class Seen(NamedTuple):
    """Measures of a network on all test canvases.

    Attributes:
        found: boxes that the network finds on each canvas.
        loss: loss of the last training batch, ().
        census: counts of the channels of every activation.
    """

    found: Detections
    loss: Array
    census: Census


def model_of(width: int) -> Detector:
    """The detector whose first stage has `width` channels; each of the two after it has twice as many."""
    one, two, four = (width * factor for factor in (1, 2, 4))
    return Detector(OUTPUTS, ((one,), (two, one, two), (four, two, four)))


def optimizer_of(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Adam, its learning rate falling to 0 as a cosine."""
    return optax.adam(optax.cosine_decay_schedule(learning_rate, steps))


def standardized(pixels: Array | np.ndarray) -> Array:
    """Pixels as the network takes them: (batch, side, side, 1), -0.5 to 1.5."""
    return jnp.asarray(pixels)[..., None].astype(jnp.float32) / 128 - 0.5


def initialise(
    run: Run,
    given: Data,
    *,
    model: Detector,
    optimizer: optax.GradientTransformation,
    steps: int,
    batch_size: int,
) -> State:
    """The initial weights, and the order of the batches."""
    start_key, batch_key = jax.random.split(jax.random.key(run.seed))
    variables = model.init(start_key, standardized(given.train_pixels[:1]), run.negative_slope)
    order = shuffled_epochs(batch_key, len(given.train_pixels), steps, batch_size)
    moments = optimizer.init(variables["params"])
    return State(variables["params"], variables["batch_stats"], moments, order, jnp.int32(0), jnp.float32(0))


def step(
    run: Run, state: State, given: Data, *, model: Detector, optimizer: optax.GradientTransformation
) -> State:
    """One training step."""
    chosen = state.order[state.number]
    x = standardized(jnp.asarray(given.train_pixels)[chosen])
    wanted = jax.tree.map(lambda array: jnp.asarray(array)[chosen], given.targets)

    def loss(params: Any) -> tuple[Array, Any]:
        variables = {"params": params, "batch_stats": state.statistics}
        outputs, changed = model.apply(variables, x, run.negative_slope, mutable=["batch_stats"])
        return loss_of(outputs, wanted), changed["batch_stats"]

    (value, statistics), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
    updates, moments = optimizer.update(gradient, state.moments, state.params)
    params = optax.apply_updates(state.params, updates)
    return State(params, statistics, moments, state.order, state.number + 1, value)


def evaluate(run: Run, state: State, given: Data, *, model: Detector) -> Seen:
    """The boxes that the network finds on the test canvases, and what its channels do there."""

    def forward(variables: Any, x: Array) -> Array:
        return cast(Array, model.apply(variables, x, run.negative_slope, train=False))

    variables = {"params": state.params, "batch_stats": state.statistics}
    outputs, census = value_and_census(forward)(variables, standardized(given.test_pixels))
    return Seen(detect(outputs), state.loss, census)

"""How one image classifier is initialised, trained and evaluated, for `experiments.lab.run.loop`."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import Array

from experiments.image_classification import cifar10
from experiments.lab.data import batches
from jax_leaky import Census, value_and_census

SHAPES = {784: (28, 28, 1), 64: (8, 8, 1), 3072: (cifar10.SIDE, cifar10.SIDE, cifar10.CHANNELS)}
_SMOOTHING = 0.98  # of the training loss: the mean of about the last 50 batches


class Run(NamedTuple):
    """One network.

    Attributes:
        negative_slope: slope of the activation, (); unused by PReLU.
        learning_rate: learning rate of the first step, ().
        seed: seed of weights and batches, ().
    """

    negative_slope: np.float32
    learning_rate: np.float32
    seed: np.uint32


class State(NamedTuple):
    """A network in training.

    Attributes:
        params: weights of the network, a pytree.
        statistics: running statistics of its normalisation, a pytree; empty without normalisation.
        momentum: state of the optimiser, a pytree.
        order: indices of the images of each step, (steps, batch).
        number: number of steps taken, ().
        loss: smoothed training loss, ().
        reached: step after which the smoothed loss was first at the target, (); -1 before.
    """

    params: Any
    statistics: Any
    momentum: Any
    order: Array
    number: Array
    loss: Array
    reached: Array


class Seen(NamedTuple):
    """Measures of a network on all test images.

    Attributes:
        accuracy: share of correct predictions, ().
        test_loss: mean cross-entropy, ().
        loss: smoothed training loss, ().
        reached: step after which the smoothed loss was first at the target, (); -1 before.
        census: counts of the channels of every activation.
    """

    accuracy: Array
    test_loss: Array
    loss: Array
    reached: Array
    census: Census


def pictures(images: batches.Images, chosen: Array | np.ndarray) -> Array:
    """Standardised images of the shape that a convolution takes: (batch, height, width, channels)."""
    return images.standardize(chosen).reshape(-1, *SHAPES[chosen.shape[-1]])


def optimizer_of(run: Run, steps: int) -> optax.GradientTransformation:
    """Gradient descent with momentum 0.9, its learning rate falling to 0 as a cosine."""
    decay = optax.cosine_decay_schedule(1.0, steps)
    return optax.sgd(lambda number: run.learning_rate * decay(number), momentum=0.9)


def initialise(run: Run, images: batches.Images, *, model: nn.Module, steps: int, batch_size: int) -> State:
    """The initial weights, and the order of the batches."""
    start_key, batch_key = jax.random.split(jax.random.key(run.seed))
    variables = model.init(start_key, pictures(images, images.train_images[:1]), run.negative_slope)
    order = batches.shuffled_epochs(batch_key, len(images.train_images), steps, batch_size)
    return State(
        variables["params"],
        variables.get("batch_stats", {}),
        optimizer_of(run, steps).init(variables["params"]),
        order,
        jnp.int32(0),
        jnp.float32(0),
        jnp.int32(-1),
    )


def step(
    run: Run, state: State, images: batches.Images, *, model: nn.Module, steps: int, target_loss: float
) -> State:
    """One training step."""
    chosen = state.order[state.number]
    x = pictures(images, jnp.asarray(images.train_images)[chosen])
    labels = jnp.asarray(images.train_labels)[chosen]

    def loss_of(params: Any) -> tuple[Array, Any]:
        variables = {"params": params, "batch_stats": state.statistics}
        logits, changed = model.apply(variables, x, run.negative_slope, mutable=["batch_stats"])
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return loss, changed.get("batch_stats", {})

    (loss, statistics), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    updates, momentum = optimizer_of(run, steps).update(gradient, state.momentum, state.params)
    number = state.number + 1
    # Dividing by the sum of the weights so far keeps the mean of the first few losses unbiased.
    weight = (1 - _SMOOTHING) / (1 - _SMOOTHING**number)
    smoothed = state.loss + weight * (loss - state.loss)
    now = (state.reached < 0) & (smoothed <= target_loss)
    return State(
        optax.apply_updates(state.params, updates),
        statistics,
        momentum,
        state.order,
        number,
        smoothed,
        jnp.where(now, number, state.reached),
    )


def evaluate(run: Run, state: State, images: batches.Images, *, model: nn.Module) -> Seen:
    """The network on the test images, in evaluation mode."""

    def forward(variables: Any, x: Array) -> Array:
        return cast(Array, model.apply(variables, x, run.negative_slope, train=False))

    variables = {"params": state.params, "batch_stats": state.statistics}
    logits, census = value_and_census(forward)(variables, pictures(images, images.test_images))
    labels = jnp.asarray(images.test_labels)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return Seen((logits.argmax(-1) == labels).mean(), loss, state.loss, state.reached, census)

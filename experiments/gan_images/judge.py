"""A classifier that judges generated images: it predicts their classes and computes their features."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.gan_images.frechet import Moments, frechet_distance, moments
from experiments.lab.data.batches import shuffled_epochs
from experiments.lab.run.progress import progress
from experiments.lab.run.sweep import CPU_OPTIONS

FEATURES = 32
_BATCH, _RATE = 64, 2e-3


class Classifier(nn.Module):
    """Two strided convolutions and two dense layers, with ReLU."""

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        """x: (samples, height, width, 1) -> logits (samples, 10) and features (samples, 32), the last hidden layer."""
        for channels in (16, 32):
            x = nn.relu(nn.Conv(channels, (3, 3), strides=2)(x))
        features = nn.relu(nn.Dense(FEATURES)(x.reshape(len(x), -1)))
        return nn.Dense(10)(features), features


class Judge(NamedTuple):
    """The trained classifier, and its results on real images.

    Attributes:
        params: the classifier's weights, a pytree.
        accuracy: share of the test images that it classifies correctly.
        real: moments of the train images' features.
        floor: Frechet distance of the test images' features to `real`.
        entropy: entropy, in nats, of the histogram of the classes that it predicts for the test images.
    """

    params: Any
    accuracy: float
    real: Moments
    floor: float
    entropy: float

    @property
    def sha256(self) -> str:
        """The checksum of the weights."""
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(self.params):
            digest.update(np.asarray(leaf).tobytes())
        return digest.hexdigest()


def entropy(histogram: np.ndarray) -> float:
    """The entropy, in nats, of shares that sum to 1: log 10 where ten classes have equal shares."""
    present = histogram[histogram > 0]
    return float(-(present * np.log(present)).sum())


def train_judge(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, *, epochs: int
) -> Judge:
    """Trains it with Adam from seed 0: the same images give the same judge.

    Args:
        train: training images as the discriminator sees them, (samples, height, width, 1).
        labels: their classes, (samples,), 0 to 9.
        test: test images, (test samples, height, width, 1).
        test_labels: their classes, (test samples,), 0 to 9.
        epochs: number of passes over the training images.
    """
    options = CPU_OPTIONS if jax.default_backend() == "cpu" else {}
    model, rule = Classifier(), optax.adam(_RATE)
    start_key, order_key = jax.random.split(jax.random.key(0))

    def step(params: Any, state: Any, x: Array, y: Array) -> tuple[Any, Any]:
        def loss(params: Any) -> Array:
            return optax.softmax_cross_entropy_with_integer_labels(
                model.apply({"params": params}, x)[0], y
            ).mean()

        updates, state = rule.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    # A Python loop of steps, not a scan: see experiments.lab.run.loop.
    compiled = jax.jit(step, compiler_options=options)
    params = model.init(start_key, jnp.asarray(train[:1]))["params"]
    state = rule.init(params)
    steps = epochs * (len(train) // _BATCH)
    with progress("steps of the judge's training", steps) as advance:
        for chosen in np.asarray(shuffled_epochs(order_key, len(train), steps, _BATCH)):
            params, state = compiled(params, state, train[chosen], labels[chosen])
            advance(1)

    seen = jax.jit(lambda x: model.apply({"params": params}, x), compiler_options=options)
    real = moments(
        np.concatenate([seen(train[first : first + 1000])[1] for first in range(0, len(train), 1000)])
    )
    logits, features = jax.device_get(seen(test))
    predicted = logits.argmax(-1)
    return Judge(
        jax.device_get(params),
        float((predicted == test_labels).mean()),
        real,
        frechet_distance(moments(features), real),
        entropy(np.bincount(predicted, minlength=10) / len(predicted)),
    )

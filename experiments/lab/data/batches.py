"""Mini-batches of a data set that lies on the device whole."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from experiments.lab.data.datasets import Dataset


class Images(NamedTuple):
    """A data set on the device: bytes, and what makes numbers of them.

    Attributes:
        train_images: training images, (samples, pixels) uint8.
        train_labels: their classes, (samples,) int32.
        test_images: test images, (test samples, pixels) uint8.
        test_labels: their classes, (test samples,) int32.
        mean: mean of all pixels of the train split, ().
        scale: reciprocal of their standard deviation, ().
    """

    train_images: Array | np.ndarray
    train_labels: Array | np.ndarray
    test_images: Array | np.ndarray
    test_labels: Array | np.ndarray
    mean: ArrayLike
    scale: ArrayLike

    def standardize(self, images: Array | np.ndarray) -> Array:
        """Float images of mean 0 and variance 1 over the train split's pixels taken together."""
        return (jnp.asarray(images, jnp.float32) - self.mean) * self.scale


def images_of(dataset: Dataset) -> Images:
    """The arrays of a data set with the mean and scale of its train split."""
    # From a histogram: exact sums of integers, whatever the size, the platform and the order of summation.
    counts = np.bincount(dataset.train_images.reshape(-1), minlength=256).astype(np.float64)
    levels = np.arange(256)
    mean = counts @ levels / counts.sum()
    deviation = math.sqrt(counts @ (levels - mean) ** 2 / counts.sum())
    return Images(*dataset[:4], np.float32(mean), np.float32(1 / deviation))


def shuffled_epochs(key: Array, samples: int, steps: int, batch_size: int) -> Array:
    """The indices (steps, batch_size) of every batch: each epoch a fresh shuffle, its incomplete last batch unused."""
    per_epoch = samples // batch_size
    epochs = -(-steps // per_epoch)
    orders = jax.vmap(lambda key: jax.random.permutation(key, samples))(jax.random.split(key, epochs))
    return orders[:, : per_epoch * batch_size].reshape(-1, batch_size)[:steps]

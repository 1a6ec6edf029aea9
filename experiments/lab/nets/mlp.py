"""The network that most experiments train: a Flax MLP with LeakyReLU, and its loss."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jax_leaky import leaky_relu


class MLP(nn.Module):
    """Dense layers with LeakyReLU between them; ReLU is the slope 0.

    The slope is an argument of the call and may be traced, so that one compiled program trains every activation.
    Kernels are He normal (gain sqrt 2) and biases zero for every slope, so that networks of one seed start with
    the same weights.

    Attributes:
        hidden: widths of the hidden layers.
        classes: number of outputs.
    """

    hidden: tuple[int, ...]
    classes: int = 10

    @nn.compact
    def __call__(self, x: Array, negative_slope: ArrayLike) -> Array:
        """The logits (batch, classes) of x (batch, features)."""
        for width in self.hidden:
            z = nn.Dense(width, kernel_init=nn.initializers.he_normal())(x)
            x = leaky_relu(z, negative_slope)
        return nn.Dense(self.classes, kernel_init=nn.initializers.he_normal())(x)

    def start(self, key: Array, features: int) -> Any:
        """Fresh parameters."""
        return self.init(key, jnp.zeros((1, features)), 0.0)["params"]


def losses_and_logits(
    model: MLP, params: Any, x: Array, labels: ArrayLike, negative_slope: ArrayLike
) -> tuple[Array, Array]:
    """The cross-entropy of each sample, (batch,), and the logits, (batch, classes)."""
    logits = jnp.asarray(model.apply({"params": params}, x, negative_slope))
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels), logits


def cross_entropy(model: MLP, params: Any, x: Array, labels: ArrayLike, negative_slope: ArrayLike) -> Array:
    """The mean cross-entropy of a batch, ()."""
    losses, _ = losses_and_logits(model, params, x, labels, negative_slope)
    return losses.mean()

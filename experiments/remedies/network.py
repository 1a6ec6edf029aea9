"""The networks whose remedies are compared: dense layers, or convolutions, the flattened map and dense layers."""

from __future__ import annotations

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jax_leaky import leaky_relu
from jax_leaky.linen import PReLU

_INITIAL_SLOPE = 0.25  # of PReLU: He et al., Delving deep into rectifiers, ICCV 2015


def patches(x: Array) -> Array:
    """The 3x3 patches of x (batch, height, width, channels) at every second place, zeros beyond its border.

    A dense layer of them is a convolution with stride 2. XLA's own takes several times as long in a loop on the CPU.

    Returns:
        An array (batch, ceil(height / 2), ceil(width / 2), 9 channels).
    """
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    places = [padded[:, i : i + height : 2, j : j + width : 2] for i in range(3) for j in range(3)]
    return jnp.concatenate(places, axis=-1)


class Network(nn.Module):
    """3x3 convolutions with stride 2 as products with patches, dense layers, and a dense layer of logits.

    The kernels of two networks of one key are equal wherever their shapes are; CReLU doubles what reads an activation.

    Attributes:
        channels: number of channels of each convolution.
        hidden: number of units of each dense layer.
        activation: LeakyReLU with the slope of the call, PReLU (a slope per unit, from 0.25), or CReLU,
            [relu(z), relu(-z)].
        normalized: whether layer normalisation stands before each activation.
        channels_first: whether the map of the last convolution is flattened channel by channel.
        classes: number of outputs.
    """

    channels: tuple[int, ...]
    hidden: tuple[int, ...]
    activation: Literal["leaky", "prelu", "crelu"] = "leaky"
    normalized: bool = False
    channels_first: bool = False
    classes: int = 10

    @nn.compact
    def __call__(self, x: Array, negative_slope: ArrayLike) -> tuple[Array, Array]:
        """The logits (batch, classes) of x (batch, height, width, 1), and what the last dense layer reads."""

        def activate(z: Array) -> Array:
            if self.normalized:
                z = nn.LayerNorm()(z)
            if self.activation == "prelu":
                return PReLU(_INITIAL_SLOPE, num_features=z.shape[-1])(z)
            if self.activation == "crelu":
                return jnp.concatenate([jax.nn.relu(z), jax.nn.relu(-z)], axis=-1)
            return leaky_relu(z, negative_slope)

        he = nn.initializers.he_normal()
        for features in self.channels:
            x = activate(nn.Dense(features, kernel_init=he)(patches(x)))
        if self.channels_first:
            x = x.transpose(0, 3, 1, 2)
        x = x.reshape(len(x), -1)
        for features in self.hidden:
            x = activate(nn.Dense(features, kernel_init=he)(x))
        return nn.Dense(self.classes, kernel_init=he)(x), x

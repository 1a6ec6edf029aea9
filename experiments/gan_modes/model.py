"""A generator and a discriminator of dense layers, for points in the plane."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
from jax import Array
from jax.typing import ArrayLike

from jax_leaky import leaky_relu


class Generator(nn.Module):
    """Dense layers, each with batch normalisation and LeakyReLU, and a dense layer to the plane.

    Attributes:
        hidden: the widths of the hidden layers.
    """

    hidden: Sequence[int]

    @nn.compact
    def __call__(self, noise: Array, negative_slope: ArrayLike, *, train: bool) -> Array:
        """noise: (samples, dimension) -> (samples, 2); pre-activations are sown as "z".

        The slope may be traced; 0 is ReLU. With `train` the batch's own statistics normalise, and the running ones
        move by a twentieth.
        """
        x = noise
        for width in self.hidden:
            x = nn.Dense(width, use_bias=False, kernel_init=nn.initializers.he_normal())(x)
            z = nn.BatchNorm(use_running_average=not train, momentum=0.95)(x)
            self.sow("intermediates", "z", z)
            x = leaky_relu(z, negative_slope)
        return nn.Dense(2, kernel_init=nn.initializers.he_normal())(x)


class Discriminator(nn.Module):
    """Dense layers with LeakyReLU and one unit at the end.

    Attributes:
        hidden: the widths of the hidden layers.
    """

    hidden: Sequence[int]

    @nn.compact
    def __call__(self, x: Array, negative_slope: ArrayLike) -> Array:
        """x: (samples, 2) -> (samples,), the logits of "real"; pre-activations are sown as "z"."""
        for width in self.hidden:
            z = nn.Dense(width, kernel_init=nn.initializers.he_normal())(x)
            self.sow("intermediates", "z", z)
            x = leaky_relu(z, negative_slope)
        return nn.Dense(1, kernel_init=nn.initializers.he_normal())(x)[:, 0]

"""The residual-in-residual dense block (RRDB), of which ESRGAN's generator has 23.

References:
    Wang et al.: ESRGAN: enhanced super-resolution generative adversarial networks. ECCV workshops 2018
    (arXiv 1809.00219), section 3.1; channels, growth and slope as in the authors' code.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from experiments.models.activation import Activation
from jax_leaky import leaky_relu

NEGATIVE_SLOPE = 0.2
RESIDUAL_SCALE = 0.2


class DenseBlock(nn.Module):
    """Five convolutions, each of which reads the input and the outputs of all before it.

    Attributes:
        activation: after the first four.
        growth: channels that each of these adds.
    """

    activation: Activation = leaky_relu
    growth: int = 32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: (batch, height, width, channels) -> the same shape."""
        maps = [x]
        for _ in range(4):
            y = nn.Conv(self.growth, (3, 3))(jnp.concatenate(maps, axis=-1))
            maps.append(self.activation(y, negative_slope=NEGATIVE_SLOPE))
        return x + RESIDUAL_SCALE * nn.Conv(x.shape[-1], (3, 3))(jnp.concatenate(maps, axis=-1))


class RRDB(nn.Module):
    """Three dense blocks in a row, and the input added to their output.

    Attributes:
        activation: of the dense blocks.
    """

    activation: Activation = leaky_relu

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: (batch, height, width, 64) -> the same shape."""
        y = x
        for _ in range(3):
            y = DenseBlock(self.activation)(y)
        return x + RESIDUAL_SCALE * y

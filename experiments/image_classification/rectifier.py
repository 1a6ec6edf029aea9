"""The activation of the networks that compare slopes: one given with each call, or one learned by each channel."""

from __future__ import annotations

import flax.linen as nn
from jax import Array
from jax.typing import ArrayLike

from jax_leaky import leaky_relu
from jax_leaky.linen import PReLU

INITIAL_SLOPE = 0.25  # of PReLU: He et al., Delving deep into rectifiers, ICCV 2015


class Rectifier(nn.Module):
    """LeakyReLU with the slope of the call, or PReLU.

    Attributes:
        learned: whether each channel learns its slope, from 0.25.
    """

    learned: bool = False

    @nn.compact
    def __call__(self, z: Array, negative_slope: ArrayLike) -> Array:
        """z: (..., channels) -> the same shape. A traced slope serves ReLU (0) and every other by one program."""
        if self.learned:
            return PReLU(INITIAL_SLOPE, num_features=z.shape[-1])(z)
        return leaky_relu(z, negative_slope)

"""The discriminator of DCGAN, for images of 64x64.

References:
    Radford, Metz, Chintala: Unsupervised representation learning with deep convolutional generative adversarial
    networks. ICLR 2016 (arXiv 1511.06434), section 3 and section 4 ("the slope of the leak was set to 0.2").
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
from jax import Array

from experiments.models.activation import Activation
from jax_leaky import leaky_relu

NEGATIVE_SLOPE = 0.2


class Discriminator(nn.Module):
    """Four strided convolutions, batch normalisation after all but the first, and one that spans what is left.

    Attributes:
        activation: function that follows each of the four convolutions.
        features: number of channels of each of the four convolutions.
    """

    activation: Activation = leaky_relu
    features: Sequence[int] = (64, 128, 256, 512)

    @nn.compact
    def __call__(self, x: Array, train: bool = True) -> Array:
        """x: (batch, 64, 64, 3) -> (batch,), the logit of "real"."""
        for layer, features in enumerate(self.features):
            x = nn.Conv(features, (4, 4), strides=2, padding=1, use_bias=False)(x)
            if layer:
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
            x = self.activation(x, negative_slope=NEGATIVE_SLOPE)
        return nn.Conv(1, (4, 4), padding="VALID", use_bias=False)(x).reshape(-1)

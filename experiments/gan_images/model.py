"""DCGAN for small grey images: a generator of two transposed convolutions, a discriminator of two strided ones.

References:
    Radford, Metz, Chintala: Unsupervised representation learning with deep convolutional generative adversarial
    networks. ICLR 2016 (arXiv:1511.06434), sections 3 and 4: strides, batch normalisation of both but in the
    discriminator's first layer, ReLU in the generator, LeakyReLU in the discriminator, weights of standard deviation
    0.02.
"""

from __future__ import annotations

import flax.linen as nn
from jax import Array
from jax.typing import ArrayLike

from jax_leaky import leaky_relu

_WEIGHTS = nn.initializers.normal(0.02)


class Generator(nn.Module):
    """Noise to images of side x side pixels in [-1, 1].

    Attributes:
        side: height and width of an image in pixels, a multiple of 4.
        width: number of channels in the last hidden layer; the one before has twice as many.
    """

    side: int = 28
    width: int = 16

    @nn.compact
    def __call__(self, noise: Array, *, train: bool) -> Array:
        """noise: (batch, dimension) -> (batch, side, side, 1); pre-activations are sown as "z"."""

        def activated(x: Array) -> Array:
            z = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
            self.sow("intermediates", "z", z)
            return leaky_relu(z, 0.0)

        first = self.side // 4
        x = nn.Dense(first * first * 2 * self.width, use_bias=False, kernel_init=_WEIGHTS)(noise)
        x = activated(x.reshape(-1, first, first, 2 * self.width))
        x = nn.ConvTranspose(self.width, (4, 4), strides=(2, 2), use_bias=False, kernel_init=_WEIGHTS)(x)
        x = nn.ConvTranspose(1, (4, 4), strides=(2, 2), kernel_init=_WEIGHTS)(activated(x))
        return nn.tanh(x)


class Discriminator(nn.Module):
    """Images to the logit of "real".

    Attributes:
        width: number of channels in the first layer; the second has twice as many.
        normalized: whether the second layer has batch normalisation, as in DCGAN.
    """

    width: int = 16
    normalized: bool = True

    @nn.compact
    def __call__(self, x: Array, negative_slope: ArrayLike, *, train: bool) -> Array:
        """x: (batch, side, side, 1) -> (batch,); pre-activations are sown as "z". The slope may be traced."""
        for layer in range(2):
            normalized = self.normalized and layer > 0
            z = nn.Conv(
                self.width * 2**layer, (4, 4), strides=2, use_bias=not normalized, kernel_init=_WEIGHTS
            )(x)
            if normalized:
                z = nn.BatchNorm(use_running_average=not train, momentum=0.9)(z)
            self.sow("intermediates", "z", z)
            x = leaky_relu(z, negative_slope)
        return nn.Dense(1, kernel_init=_WEIGHTS)(x.reshape(len(x), -1))[:, 0]

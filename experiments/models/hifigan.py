"""The generator of HiFi-GAN, configuration V1: from mel frames to sound, 256 samples a frame.

References:
    Kong, Kim, Bae: HiFi-GAN: generative adversarial networks for efficient and high fidelity speech synthesis.
    NeurIPS 2020 (arXiv 2010.05646), appendix A.1. As in the authors' code, the last activation has the slope 0.01;
    the weight normalisation, which they remove after training, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from experiments.models.activation import Activation
from jax_leaky import leaky_relu

NEGATIVE_SLOPE, LAST_NEGATIVE_SLOPE = 0.1, 0.01


class ResidualBlock(nn.Module):
    """A dilated and a plain convolution for each dilation, the activation before each, their input added.

    Attributes:
        kernel: length of the convolution kernels.
        activation: function before each convolution.
        dilations: dilation of the first convolution of each pair.
    """

    kernel: int
    activation: Activation = leaky_relu
    dilations: Sequence[int] = (1, 3, 5)

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: (batch, samples, channels) -> the same shape."""
        for dilation in self.dilations:
            y = x
            for spacing in (dilation, 1):
                y = self.activation(y, negative_slope=NEGATIVE_SLOPE)
                y = nn.Conv(x.shape[-1], (self.kernel,), kernel_dilation=spacing)(y)
            x += y
        return x


class Generator(nn.Module):
    """Transposed convolutions, after each the mean of residual blocks of several kernels.

    Attributes:
        activation: function before every convolution but the first.
        channels: number of channels before the first upsampling; each upsampling halves it.
        upsampling: factor and kernel length of each upsampling.
        kernels: kernel lengths of the residual blocks.
    """

    activation: Activation = leaky_relu
    channels: int = 512
    upsampling: Sequence[tuple[int, int]] = ((8, 16), (8, 16), (2, 4), (2, 4))
    kernels: Sequence[int] = (3, 7, 11)

    @nn.compact
    def __call__(self, mel: Array) -> Array:
        """mel: (batch, frames, 80) -> (batch, 256 frames, 1), in -1 to 1."""
        x = nn.Conv(self.channels, (7,))(mel)
        for stage, (factor, kernel) in enumerate(self.upsampling, start=1):
            x = self.activation(x, negative_slope=NEGATIVE_SLOPE)
            x = nn.ConvTranspose(self.channels // 2**stage, (kernel,), strides=(factor,))(x)
            x = sum(ResidualBlock(kernel, self.activation)(x) for kernel in self.kernels) / len(self.kernels)
        x = self.activation(x, negative_slope=LAST_NEGATIVE_SLOPE)
        return jnp.tanh(nn.Conv(1, (7,))(x))

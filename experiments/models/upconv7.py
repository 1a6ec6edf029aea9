"""upconv_7 of waifu2x: an image of twice the size by six convolutions and one transposed convolution.

References:
    nagadomi, https://github.com/nagadomi/waifu2x, lib/srcnn.lua: upconv_7.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
from jax import Array

from experiments.models.activation import Activation
from jax_leaky import leaky_relu

NEGATIVE_SLOPE = 0.1
CHANNELS = (16, 32, 64, 128, 128, 256)
BORDER = 7  # pixels of the input on each side that are read and not enlarged


class Upconv7(nn.Module):
    """Seven layers without padding.

    Attributes:
        activation: function that follows each of the first six layers.
    """

    activation: Activation = leaky_relu

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: (batch, height, width, 3), 0 to 1 -> (batch, 2 (height - 14), 2 (width - 14), 3)."""
        for features in CHANNELS:
            x = nn.Conv(features, (3, 3), padding="VALID")(x)
            x = self.activation(x, negative_slope=NEGATIVE_SLOPE)
        # A stride of 2 spreads the input; of what the kernel makes of it, 3 rows and columns a side are cut off.
        return nn.ConvTranspose(3, (4, 4), strides=(2, 2), padding=((0, 0), (0, 0)))(x)


def variables_of(kernels: list[tuple[Any, Any]]) -> dict[str, Any]:
    """Flax's variables.

    Args:
        kernels: kernel (height, width, in, out) and bias (out,) of each layer in order; the last kernel is stored as
            for the gradient of a convolution, as in ncnn, PyTorch and Caffe.
    """
    *convolutions, (kernel, bias) = kernels
    layers = {f"Conv_{i}": {"kernel": k, "bias": b} for i, (k, b) in enumerate(convolutions)}
    # Flax slides a transposed convolution's kernel over the spread input as it stands.
    return {"params": layers | {"ConvTranspose_0": {"kernel": kernel[::-1, ::-1], "bias": bias}}}

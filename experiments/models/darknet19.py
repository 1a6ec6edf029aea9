"""Darknet-19, the body of YOLOv2, as the ImageNet classifier that it was trained as.

References:
    Redmon, Farhadi: YOLO9000: better, faster, stronger. CVPR 2017 (arXiv 1612.08242), table 6. The slope, the batch
    of 128 and the bias of the last layer alone are those of darknet19.cfg in the authors' code.
"""

from __future__ import annotations

import flax.linen as nn
from jax import Array

from experiments.models.activation import Activation
from jax_leaky import leaky_relu

NEGATIVE_SLOPE = 0.1
# Channels between two poolings; the kernels are 3x3 and 1x1 by turns.
STAGES = (
    (32,),
    (64,),
    (128, 64, 128),
    (256, 128, 256),
    (512, 256, 512, 256, 512),
    (1024, 512, 1024, 512, 1024),
)


class Darknet19(nn.Module):
    """Nineteen convolutions, batch normalisation after all but the last.

    Attributes:
        activation: function that follows each normalisation.
        classes: number of channels of the last convolution, which is averaged over the image.
    """

    activation: Activation = leaky_relu
    classes: int = 1000

    @nn.compact
    def __call__(self, x: Array, train: bool = True) -> Array:
        """x: (batch, 224, 224, 3) -> (batch, classes), the logits."""
        for stage, channels in enumerate(STAGES):
            if stage:
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
            for layer, features in enumerate(channels):
                side = 1 if layer % 2 else 3
                x = nn.Conv(features, (side, side), use_bias=False)(x)
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
                x = self.activation(x, negative_slope=NEGATIVE_SLOPE)
        return nn.Conv(self.classes, (1, 1))(x).mean((1, 2))

"""A plain convolutional network: 3x3 convolutions one after the other, in the manner of VGG, for small images.

References:
    Simonyan, Zisserman: Very deep convolutional networks for large-scale image recognition. ICLR 2015
    (arXiv 1409.1556): 3x3 kernels throughout. The strides in place of poolings and the average at the end are those of
    Springenberg et al.: Striving for simplicity: the all convolutional net. ICLR workshop 2015 (arXiv 1412.6806).
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
from jax import Array
from jax.typing import ArrayLike

from experiments.image_classification.rectifier import Rectifier


class PlainCNN(nn.Module):
    """Convolutions, the first of each stage with stride 2, the average over the image, and a dense layer.

    Attributes:
        normalized: whether batch normalisation stands before each activation.
        learned: whether each channel learns its slope (PReLU).
        stages: number of channels of each convolution, by stage; each stage begins with stride 2.
        classes: number of outputs.
    """

    normalized: bool = False
    learned: bool = False
    stages: Sequence[Sequence[int]] = ((16, 16), (32, 32), (64, 64))
    classes: int = 10

    @nn.compact
    def __call__(self, x: Array, negative_slope: ArrayLike, train: bool = True) -> Array:
        """x: (batch, height, width, channels) -> (batch, classes), the logits."""
        for stage in self.stages:
            for layer, features in enumerate(stage):
                x = nn.Conv(
                    features,
                    (3, 3),
                    strides=1 if layer else 2,
                    use_bias=not self.normalized,
                    kernel_init=nn.initializers.he_normal(),
                )(x)
                if self.normalized:
                    x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
                x = Rectifier(self.learned)(x, negative_slope)
        return nn.Dense(self.classes)(x.mean((1, 2)))

"""A small residual network for small images.

References:
    He, Zhang, Ren, Sun: Deep residual learning for image recognition. CVPR 2016 (arXiv 1512.03385), section 4.2: the
    networks for CIFAR-10, basic blocks of two 3x3 convolutions. Here the first convolution has a stride of 2, and a
    1x1 convolution stands in a shortcut that changes its shape (option B).
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
from jax import Array
from jax.typing import ArrayLike

from experiments.image_classification.rectifier import Rectifier


class ResNet(nn.Module):
    """A convolution, basic blocks, the average over the image, and a dense layer.

    Attributes:
        learned: whether each channel learns its slope (PReLU).
        stages: number of channels of each block, by stage; each stage but the first begins with stride 2.
        classes: number of outputs.
    """

    learned: bool = False
    stages: Sequence[Sequence[int]] = ((16,), (32,), (64,))
    classes: int = 10

    @nn.compact
    def __call__(self, x: Array, negative_slope: ArrayLike, train: bool = True) -> Array:
        """x: (batch, height, width, channels) -> (batch, classes), the logits."""

        def convolved(x: Array, features: int, side: int, stride: int) -> Array:
            convolution = nn.Conv(
                features,
                (side, side),
                strides=stride,
                use_bias=False,
                kernel_init=nn.initializers.he_normal(),
            )
            return nn.BatchNorm(use_running_average=not train, momentum=0.9)(convolution(x))

        def activated(z: Array) -> Array:
            return Rectifier(self.learned)(z, negative_slope)

        x = activated(convolved(x, self.stages[0][0], 3, 2))
        for place, stage in enumerate(self.stages):
            for block, features in enumerate(stage):
                stride = 2 if place and not block else 1
                y = activated(convolved(x, features, 3, stride))
                y = convolved(y, features, 3, 1)
                changes = stride == 2 or x.shape[-1] != features
                x = activated(y + (convolved(x, features, 1, stride) if changes else x))
        return nn.Dense(self.classes)(x.mean((1, 2)))

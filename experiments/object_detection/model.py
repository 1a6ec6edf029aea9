"""A small single-stage detector with a body in the manner of Darknet-19, for canvases of 64x64.

References:
    Redmon, Farhadi: YOLO9000: better, faster, stronger. CVPR 2017 (arXiv 1612.08242), table 6: 3x3 kernels with 1x1
    ones between them, batch normalisation and LeakyReLU of slope 0.1 after each. Strides stand in place of poolings,
    as in Redmon, Farhadi: YOLOv3, 2018 (arXiv 1804.02767).
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
from jax import Array
from jax.typing import ArrayLike

from jax_leaky import leaky_relu

NEGATIVE_SLOPE = 0.1


class Detector(nn.Module):
    """Three stages, each of which halves the sides, and a 1x1 convolution that gives every cell its outputs.

    Attributes:
        outputs: number of outputs of each cell.
        stages: number of channels of each convolution, by stage; kernels of a stage are 3x3 and 1x1 by turns, the first
            with stride 2.
    """

    outputs: int
    stages: Sequence[Sequence[int]] = ((16,), (32, 16, 32), (64, 32, 64))

    @nn.compact
    def __call__(self, x: Array, negative_slope: ArrayLike = NEGATIVE_SLOPE, train: bool = True) -> Array:
        """x: (batch, 64, 64, 1) -> (batch, 8, 8, outputs)."""
        for channels in self.stages:
            for layer, features in enumerate(channels):
                side = 1 if layer % 2 else 3
                x = nn.Conv(
                    features,
                    (side, side),
                    strides=1 if layer else 2,
                    use_bias=False,
                    kernel_init=nn.initializers.he_normal(),
                )(x)
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
                x = leaky_relu(x, negative_slope)
        return nn.Conv(self.outputs, (1, 1))(x)

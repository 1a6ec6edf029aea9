"""ESRGAN's generator, and the residual-in-residual dense block (RRDB) of which it has 23.

References:
    Wang et al.: ESRGAN: enhanced super-resolution generative adversarial networks. ECCV workshops 2018
    (arXiv 1809.00219), section 3.1; channels, growth and slope as in the authors' code.
    Wang et al.: Real-ESRGAN: training real-world blind super-resolution with pure synthetic data. ICCV workshops
    2021 (arXiv 2107.10833): the same generator for a factor of 4.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.models.activation import Activation
from jax_leaky import leaky_relu

NEGATIVE_SLOPE = 0.2
RESIDUAL_SCALE = 0.2
BLOCKS = 23


class DenseBlock(nn.Module):
    """Five convolutions, each of which reads the input and the outputs of all before it.

    Attributes:
        activation: function that follows each of the first four convolutions.
        growth: number of channels that each of these adds.
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
        activation: function inside the dense blocks.
    """

    activation: Activation = leaky_relu

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: (batch, height, width, 64) -> the same shape."""
        y = x
        for _ in range(3):
            y = DenseBlock(self.activation)(y)
        return x + RESIDUAL_SCALE * y


class RRDBNet(nn.Module):
    """An image of four times the size: RRDBs at the size of the input, and two enlargements behind them.

    Attributes:
        activation: function inside the blocks and after the three convolutions that follow them.
        blocks: number of RRDBs.
    """

    activation: Activation = leaky_relu
    blocks: int = BLOCKS

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: (batch, height, width, 3), 0 to 1 -> (batch, 4 height, 4 width, 3)."""
        first = nn.Conv(64, (3, 3))(x)

        def step(block: RRDB, y: Array, _: None) -> tuple[Array, None]:
            return block(y), None

        # A loop over the blocks compiles in seconds; 351 convolutions in a row take a minute.
        blocks = nn.scan(
            step,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.blocks,
        )
        y, _ = blocks(RRDB(self.activation), first, None)
        y = first + nn.Conv(64, (3, 3))(y)
        for _ in range(2):
            y = nn.Conv(64, (3, 3))(y.repeat(2, axis=1).repeat(2, axis=2))
            y = self.activation(y, negative_slope=NEGATIVE_SLOPE)
        y = self.activation(nn.Conv(64, (3, 3))(y), negative_slope=NEGATIVE_SLOPE)
        return nn.Conv(3, (3, 3))(y)


def variables_of(kernels: list[tuple[Any, Any]]) -> dict[str, Any]:
    """Flax's variables of an `RRDBNet`.

    Args:
        kernels: kernel (height, width, in, out) and bias (out,) of each convolution, in the order in which they run.
    """
    layers = ({"kernel": kernel, "bias": bias} for kernel, bias in kernels)
    first = next(layers)
    blocks = [
        {
            f"DenseBlock_{dense}": {f"Conv_{i}": layer for i, layer in enumerate(islice(layers, 5))}
            for dense in range(3)
        }
        for _ in range((len(kernels) - 6) // 15)
    ]
    stacked = jax.tree.map(lambda *block: np.stack(block), *blocks)
    last = {f"Conv_{i}": layer for i, layer in enumerate(layers, start=1)}
    return {"params": {"Conv_0": first, "RRDB_0": stacked, **last}}

"""Random networks, drawn and counted: He normal weights, zero biases, and a signal that may die on its way.

References:
    Lu, Shin, Su and Karniadakis: Dying ReLU and Initialization: Theory and Numerical Examples, arXiv:1903.06733.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jax_leaky import leaky_relu

AT_ONCE = 25_000  # networks of one row of the sweep: seconds, so that little is lost in a kill
_WEIGHTS = 2**18  # of one layer of all networks that are drawn together: they fit into a core's cache


class Row(NamedTuple):
    """Some of the networks of a cell.

    Attributes:
        seed: of the run.
        first: the number of the first network; of all that are drawn.
        networks: how many networks the cell has: numbers from there on are drawn, but not counted.
    """

    seed: np.uint32
    first: np.int32
    networks: np.int32


class Counts(NamedTuple):
    """Networks by the number of their hidden layers, per slope: (hidden layers, slopes).

    Attributes:
        born_dead: some layer is negative for every probe, or one layer for some probes and one for the others.
        point_dead: some layer is negative for the first probe.
        collapsed: not born dead, but nothing is left of any probe in float32.
    """

    born_dead: Array
    point_dead: Array
    collapsed: Array


class Signal(NamedTuple):
    """What reaches a hidden layer of some networks.

    Attributes:
        h: (slopes, probes, units, networks), the activations.
        dead: (slopes, probes, networks), whether the layer or one before it killed the probe by its inputs' signs.
    """

    h: Array
    dead: Array


def probes_of(input_dim: int, probes: int) -> np.ndarray:
    """Inputs of length 1 in opposite pairs, (probes, input_dim); 1 and -1 in one dimension."""
    if input_dim == 1:
        return np.array([[1.0], [-1.0]], np.float32)
    directions = np.random.RandomState(0).standard_normal((-(-probes // 2), input_dim))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return np.concatenate([directions, -directions]).astype(np.float32)


def through_layer(signal: Signal, weights: Array, slopes: Array) -> Signal:
    """The signal after a layer of weights (units out, units in, networks), which all slopes share."""
    # A product and a sum rather than a matrix product: the matrices are tiny, and the networks, the last axis, fill
    # a core's vector instructions.
    z = (weights[None, None] * signal.h[:, :, None]).sum(3)
    # Where float32 has lost the signal before, z is 0 and says nothing of the signs. With a slope nothing dies.
    arrives = (signal.h != 0).any(2) & (slopes == 0)[:, None, None]
    dead = signal.dead | (arrives & (z <= 0).all(2))
    return Signal(leaky_relu(z, slopes[:, None, None, None]), dead)


def draw(
    row: Row,
    probes: dict[str, Array],
    *,
    width: int,
    input_dim: int,
    hidden: int,
    negative_slopes: Sequence[float],
) -> Counts:
    """Draws the networks of a row and counts.

    Args:
        row: which networks.
        probes: by input dimension, as `probes_of` gives them.
        width: units of each hidden layer.
        input_dim: numbers in an input.
        hidden: hidden layers; every smaller number of them is counted too.
        negative_slopes: all of which see the same weights.
    """
    inputs, slopes = probes[str(input_dim)], jnp.array(negative_slopes, jnp.float32)
    together = max(1, min(2048, _WEIGHTS // (width * max(width, input_dim))))
    key = jax.random.fold_in(jax.random.key(row.seed), row.first)

    def block(number: Array) -> Counts:
        place = number * together + jnp.arange(together)
        counted = (place < AT_ONCE) & (row.first + place < row.networks)

        def layer(signal: Signal, key: Array) -> tuple[Signal, Counts]:
            fan_in = signal.h.shape[2]
            weights = jax.random.normal(key, (width, fan_in, together)) * math.sqrt(2 / fan_in)
            after = through_layer(signal, weights, slopes)
            born_dead = after.dead.all(1)
            # Without biases the output at 0 is 0, and the output is proportional to the input's length: relative to
            # its own size it is the same everywhere only where it is 0.
            collapsed = (after.h == 0).all((1, 2)) & ~born_dead
            masks = born_dead, after.dead[:, 0], collapsed
            return after, Counts(*((mask & counted).sum(-1) for mask in masks))

        start = Signal(
            jnp.broadcast_to(inputs[:, :, None], (len(slopes), *inputs.shape, together)),
            jnp.zeros((len(slopes), len(inputs), together), bool),
        )
        keys = jax.random.split(jax.random.fold_in(key, number), hidden)
        signal, first = layer(start, keys[0])
        _, rest = lax.scan(layer, signal, keys[1:])
        return jax.tree.map(lambda one, many: jnp.concatenate([one[None], many]), first, rest)

    counts = lax.map(block, jnp.arange(-(-AT_ONCE // together)))
    return jax.tree.map(lambda count: count.sum(0), counts)

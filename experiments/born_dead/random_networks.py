"""Random networks, drawn and counted: He normal weights, zero biases, and a signal that may die on its way.

Whether a ReLU network is constant is decided exactly in input dimension 1, where two opposite inputs stand for all,
and in dimension 2, piece by piece, up to the width WIDEST of `experiments.born_dead.plane`. Elsewhere sampled inputs
decide, which can only overstate it. A unit with a slope other than 0 is never dead, by construction: there only
float32 is asked what is left.

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

from experiments.born_dead import plane
from jax_leaky import leaky_relu

AT_ONCE = 25_000  # networks of one part: seconds, so that little is lost in a kill
_LEAKY_INPUTS = 16  # nothing dies there, so that more would say no more
_WEIGHTS = 2**18  # of one layer of all networks that are drawn together: they fit into a core's cache


class Part(NamedTuple):
    """Some of the networks of a cell.

    Attributes:
        seed: seed of the run, ().
        first: number of the first of the `AT_ONCE` networks that are drawn, ().
        networks: number of networks in the cell, (); networks with this number or a higher one are drawn, not counted.
    """

    seed: np.uint32
    first: np.int32
    networks: np.int32


class Counts(NamedTuple):
    """Networks by the number of their hidden layers, per slope: (hidden layers, slopes).

    Attributes:
        born_dead: networks in which every input is lost in some layer, all of whose units are negative for it; 0 with a
            slope other than 0, by construction.
        point_dead: networks in which one given input, the first, is lost in this way.
        collapsed: networks not born dead in which float32 has rounded every sampled input to 0.
        left_out: pieces of the plane, not networks, for which there was no place; where this is not 0, born_dead can be
            too large.
    """

    born_dead: Array
    point_dead: Array
    collapsed: Array
    left_out: Array


class Signal(NamedTuple):
    """The inputs of a hidden layer, in several networks of one slope.

    Attributes:
        h: activations, (inputs, units, networks).
        dead: whether the layer or one before it has lost the input because all its units were negative, (inputs,
            networks).
        pieces: pieces of the plane that are alive; None where the plane is not followed.
    """

    h: Array
    dead: Array
    pieces: plane.Pieces | None


def is_exact(width: int, input_dim: int, depth: int) -> bool:
    """Whether constant ReLU networks are decided by all inputs, not by samples.

    In more than 2 dimensions that is so up to depth 3, where inputs are no fewer than units: the first layer's output
    then is every vector without negative entries, and the second is negative for all of them if it is for those of a
    single entry, which are among the samples.
    """
    return input_dim == 1 or (input_dim == 2 and width <= plane.WIDEST) or (input_dim >= width and depth <= 3)


def probes_of(input_dim: int, probes: int) -> np.ndarray:
    """Inputs of length 1 in opposite pairs, (probes, input_dim): 1 and -1, equally spaced on the circle, or random."""
    pairs = -(-probes // 2)
    if input_dim == 1:
        directions = np.ones((1, 1))
    elif input_dim == 2:
        angles = np.pi * np.arange(pairs) / pairs
        directions = np.stack([np.cos(angles), np.sin(angles)], 1)
    else:
        directions = np.random.RandomState(0).standard_normal((pairs, input_dim))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return np.concatenate([directions, -directions]).astype(np.float32)


def first_signal(inputs: Array, networks: int, width: int, slope: float) -> Signal:
    """The inputs of the first hidden layer: `inputs`, (inputs, input_dim), or the few of them that suffice."""
    pieces = None
    if slope:
        inputs = inputs[:: max(1, len(inputs) // _LEAKY_INPUTS)]
    elif inputs.shape[1] == 2 and width <= plane.WIDEST:
        inputs, pieces = inputs[:1], plane.whole_plane(networks, width)
    h = jnp.broadcast_to(inputs[:, :, None], (*inputs.shape, networks))
    return Signal(h, jnp.zeros((len(inputs), networks), bool), pieces)


def through_layer(signal: Signal, weights: Array, slope: float) -> tuple[Signal, Array, Array]:
    """The signal after a layer of weights (units out, units in, networks).

    Returns:
        The signal; (networks,), whether all inputs are dead; and how many pieces of the plane were left out.
    """
    # Written out, not as a matrix product or a reduction: the matrices are tiny, and the networks, the last axis, fill
    # a core's vector instructions, in a third of the time that XLA's reduction over so short an axis takes.
    z = jnp.stack([plane.sum_of_products(row, jnp.moveaxis(signal.h, 1, 0)) for row in weights], 1)
    dead = signal.dead
    if not slope:
        # Where float32 has lost the signal before, z is 0 and says nothing of the signs.
        dead |= (signal.h != 0).any(1) & (z <= 0).all(1)
    h = leaky_relu(z, slope)
    if signal.pieces is None:
        return Signal(h, dead, None), dead.all(0), jnp.int32(0)
    pieces, alive, left_out = plane.cut(signal.pieces, weights)
    return Signal(h, dead, pieces), ~alive, left_out


def with_single_entries(signal: Signal) -> Signal:
    """The first layer's output, and as further inputs the vectors of a single entry, which it reaches."""
    _, units, networks = signal.h.shape
    single = jnp.broadcast_to(jnp.eye(units)[:, :, None], (units, units, networks))
    reached = jnp.zeros((units, networks), bool)
    return Signal(jnp.concatenate([signal.h, single]), jnp.concatenate([signal.dead, reached]), None)


def draw(
    part: Part,
    probes: dict[str, Array],
    *,
    width: int,
    input_dim: int,
    hidden: int,
    negative_slopes: Sequence[float],
) -> Counts:
    """Draws the networks of a part and counts.

    Args:
        part: networks to draw.
        probes: inputs (probes, input_dim) by input dimension, as `probes_of` gives them.
        width: number of units in each hidden layer.
        input_dim: number of components of an input.
        hidden: number of hidden layers; every smaller number of them is counted too.
        negative_slopes: slopes of LeakyReLU, all of which see the same weights; 0 is ReLU.
    """
    inputs = probes[str(input_dim)]
    together = max(1, min(2048, _WEIGHTS // (width * max(width, input_dim))))
    key = jax.random.fold_in(jax.random.key(part.seed), part.first)

    def block(number: Array) -> Counts:
        place = number * together + jnp.arange(together)
        counted = (place < AT_ONCE) & (part.first + place < part.networks)

        def layer(signals: list[Signal], key: Array) -> tuple[list[Signal], Counts]:
            fan_in = signals[0].h.shape[1]
            weights = jax.random.normal(key, (width, fan_in, together)) * math.sqrt(2 / fan_in)
            after, counts = [], []
            for signal, slope in zip(signals, negative_slopes, strict=True):
                signal, born_dead, left_out = through_layer(signal, weights, slope)
                # A relative test: output - output at 0 against the output's size. Without biases the output at 0 is 0
                # exactly, so the difference is all of the output, and is small beside it only where it is 0 itself.
                collapsed = (signal.h == 0).all((0, 1)) & ~signal.dead.all(0)
                dead, point, lost = (
                    (mask & counted).sum() for mask in (born_dead, signal.dead[0], collapsed)
                )
                after.append(signal)
                counts.append(Counts(dead, point, lost, left_out))
            return after, jax.tree.map(lambda *slopes: jnp.stack(slopes), *counts)

        start = [first_signal(inputs, together, width, slope) for slope in negative_slopes]
        keys = jax.random.split(jax.random.fold_in(key, number), hidden)
        signals, first = layer(start, keys[0])
        if 2 < input_dim >= width:
            signals = [
                signal if slope else with_single_entries(signal)
                for signal, slope in zip(signals, negative_slopes, strict=True)
            ]
        _, rest = lax.scan(layer, signals, keys[1:])
        return jax.tree.map(lambda one, many: jnp.concatenate([one[None], many]), first, rest)

    counts = lax.map(block, jnp.arange(-(-AT_ONCE // together)))
    counts = jax.tree.map(lambda count: count.sum(0), counts)
    return counts._replace(left_out=counts.left_out.cumsum(0))  # what a layer lacks, those after it lack too

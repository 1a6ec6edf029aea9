"""ReLU networks on the whole plane: what becomes of every input of dimension 2, exactly and not on samples.

Without biases a network is linear along every ray from 0, so the directions stand for all inputs, and between two
neighbouring directions at which no unit changes its sign the network is linear. Such a piece of the plane is known by
what reaches a layer from its two sides. The next layer cuts it where one of its units crosses 0, and the pieces on
which all of its units are negative are lost for ever. A network is constant when it has no piece left. Samples, be
they hundreds, miss the networks that live on a narrow piece alone: at width 4 and depth 10, 64 equally spaced inputs
overstate the share of constant networks, 0.193, by 0.009, and 512 by 0.003 (the same 25,000 networks).

What is not ideal: pieces narrower than float32 tells apart are lost, and the number of pieces grows with the square of
the width, so that beyond WIDEST samples are the better use of the time.
"""

from __future__ import annotations

import functools
import operator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

WIDEST = 6  # units of a hidden layer: a network of depth 50 has 40 pieces at width 5
_CHUNK = 1024  # pieces that are cut at a time: they fit into a core's cache, and only as many as there are cost time
_GROWTH = 3  # of the pieces of a chunk in one layer; see `whole_plane`


class Pieces(NamedTuple):
    """Pieces of the plane on which networks are linear and not yet dead, those of all networks in one list.

    Attributes:
        begin: input of the layer at the piece's first side, (units, places).
        end: input at its last side, (units, places); an input between them is their sum with positive weights.
        network: index of the network whose piece it is, (places,).
        taken: number of places in use, (); the others hold values of earlier layers, which mean nothing.
    """

    begin: Array
    end: Array
    network: Array
    taken: Array


def whole_plane(networks: int, width: int) -> Pieces:
    """The same equal pieces of the plane for each network.

    They are narrower than half the plane, so that their sides span them, and more than the units of the layer that
    cuts them first: its N units make 2N cuts, so that it no more than triples them. Later layers cut less.
    """
    pieces = max(3, width + 1)
    angles = 2 * np.pi * np.arange(pieces + 1) / pieces
    sides = np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    # Room for the most pieces that networks have at any depth, 10 at width 3 and 40 at width 5, twice over.
    chunks = -(-networks * 4 * width**2 // _CHUNK) + _GROWTH
    empty = (0, chunks * _CHUNK - pieces * networks)
    return Pieces(
        jnp.pad(jnp.tile(sides[:, :-1], networks), ((0, 0), empty)),
        jnp.pad(jnp.tile(sides[:, 1:], networks), ((0, 0), empty)),
        jnp.pad(jnp.repeat(jnp.arange(networks), pieces), empty),
        jnp.int32(pieces * networks),
    )


def cut(pieces: Pieces, weights: Array) -> tuple[Pieces, Array, Array]:
    """The pieces that a layer of ReLU units leaves alive.

    Args:
        pieces: pieces of the plane at the input of the layer.
        weights: weights of the layer, (units out, units in, networks).

    Returns:
        The pieces after the layer; (networks,), whether a network has one; and how many pieces found no place, which
        only a network that has lost some of them can feel: deeper down it can be taken for dead while it is not.
    """
    units, fan_in, networks = weights.shape
    places = pieces.network.shape[0]
    room = places - _GROWTH * _CHUNK  # so that a chunk that begins below it is written whole

    def chunk(number: Array, state: tuple[Pieces, Array, Array]) -> tuple[Pieces, Array, Array]:
        after, alive, lost = state
        first = number * _CHUNK
        begin, end = (
            lax.dynamic_slice(side, (0, first), (fan_in, _CHUNK)) for side in (pieces.begin, pieces.end)
        )
        network = lax.dynamic_slice(pieces.network, (first,), (_CHUNK,))
        there = first + jnp.arange(_CHUNK) < pieces.taken
        own = jnp.take(weights, network, axis=2, mode="clip")
        begin, end, parent, found = _cut_chunk(begin, end, there, own)
        network = network[parent]
        written = Pieces(
            lax.dynamic_update_slice(after.begin, begin, (0, after.taken)),
            lax.dynamic_update_slice(after.end, end, (0, after.taken)),
            lax.dynamic_update_slice(after.network, network, (after.taken,)),
            jnp.minimum(after.taken + found, room),
        )
        valid = jnp.arange(len(parent)) < found
        alive = alive.at[jnp.where(valid, network, networks)].set(True, mode="drop")
        # More than the chunk's own places, or more than all.
        without = jnp.maximum(found - len(parent), 0) + jnp.maximum(after.taken + found - room, 0)
        return written, alive, lost + without

    nothing = Pieces(
        jnp.zeros((units, places)), jnp.zeros((units, places)), jnp.zeros(places, jnp.int32), jnp.int32(0)
    )
    state = nothing, jnp.zeros(networks, bool), jnp.int32(0)
    return lax.fori_loop(0, -(-pieces.taken // _CHUNK), chunk, state)


def _cut_chunk(begin: Array, end: Array, there: Array, weights: Array) -> tuple[Array, Array, Array, Array]:
    """Cuts some pieces, each with its own weights, (units out, units in, pieces).

    Returns:
        The sides of the living pieces, twice (units, places), the piece that each comes from, and how many there are.
    """
    units, _, many = weights.shape
    places = _GROWTH * many
    at_begin, at_end = ([sum_of_products(row, side) for row in weights] for side in (begin, end))
    # Where, from 0 at the first side to 1 at the last, each unit crosses 0; 1 if it does not.
    crossings = []
    for one, other in zip(at_begin, at_end, strict=True):
        crosses = (one > 0) != (other > 0)
        crossings.append(jnp.where(crosses, one / jnp.where(crosses, one - other, 1), 1))
    cuts = jnp.concatenate([jnp.zeros((1, many)), _sorted(jnp.stack(crossings)), jnp.ones((1, many))])
    middle = (cuts[:-1] + cuts[1:]) / 2
    lives = jnp.zeros(middle.shape, bool)
    for one, other in zip(at_begin, at_end, strict=True):
        lives |= _between(one, other, middle) > 0
    lives &= (cuts[:-1] < cuts[1:]) & there

    # The living move up to the first places, in order, so that a network's pieces stay neighbours.
    flat = lives.T.reshape(-1)
    place = jnp.cumsum(flat, dtype=jnp.int32) - 1
    into = jnp.where(flat, place, places)
    source = jnp.zeros(places, jnp.int32).at[into].set(jnp.arange(flat.size, dtype=jnp.int32), mode="drop")
    parent, part = source // (units + 1), source % (units + 1)
    first, last = cuts[part, parent], cuts[part + 1, parent]
    from_begin, from_end = jnp.stack(at_begin)[:, parent], jnp.stack(at_end)[:, parent]
    # The signs of a piece are those of its middle: at a side that a unit has made, its own sign is rounding alone.
    active = _between(from_begin, from_end, (first + last) / 2) > 0
    begin, end = (
        jnp.where(active, jnp.maximum(_between(from_begin, from_end, time), 0), 0) for time in (first, last)
    )
    # Only directions count: to the size of 1, so that no depth loses them to float32.
    size = jnp.maximum(begin, end).max(0)
    size = jnp.where(size > 0, size, 1)
    return begin / size, end / size, parent, place[-1] + 1


def sum_of_products(weights: Array, values: Array) -> Array:
    """The sum over the first axis, written out: XLA's own takes 3 to 5 times as long, over so short an axis."""
    return functools.reduce(
        operator.add, (weight * value for weight, value in zip(weights, values, strict=True))
    )


def _between(begin: Array, end: Array, time: Array) -> Array:
    return (1 - time) * begin + time * end


def _sorted(rows: Array) -> Array:
    """The rows sorted against each other, element by element, by exchanges of neighbours.

    The loop is there for XLA: written out, each exchange would be computed again for every one that needs it.
    """

    def exchange(_: int, rows: Array) -> Array:
        for first in (0, 1):
            pairs = [rows[row : row + 2] for row in range(first, len(rows) - 1, 2)]
            swapped = [jnp.stack([pair.min(0), pair.max(0)]) for pair in pairs]
            rest = rows[first + 2 * len(pairs) :]
            rows = jnp.concatenate([rows[:first], *swapped, rest])
        return rows

    return lax.fori_loop(0, (len(rows) + 1) // 2, exchange, rows)

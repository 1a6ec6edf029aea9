"""Many deep and narrow networks with one input and one output, trained side by side.

The networks are the last axis of every array, so that a core's vector instructions run over them: matrix products
with matrices of 2 x 2 would leave them idle. Products of so few units are written out, each unit an array of its own:
at width 2 a step of training takes 1.9 us a network, and 7.3 us as one sum over an axis of two.
"""

from __future__ import annotations

import functools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jax_leaky import leaky_relu

# Of Lu et al.: the standard deviation of the normal weights times sqrt(fan_in) that keeps a layer's signal level.
ASYMMETRIC_DEVIATION = 0.6007
_WRITTEN_OUT = 16  # products of a layer: at width 8 their program is large, and einsum three times as fast
INITIALISATIONS = {"he": "He", "asymmetric": "asymmetric"}


class Layer(NamedTuple):
    """Weights (units out, units in, networks) and biases (units out, networks)."""

    weights: Array
    biases: Array


def draw_layer(initialisation: str, key: Array, fan_in: int, units: int) -> Layer:
    """One layer of one network, without the axis of the networks.

    Args:
        initialisation: "he" for normal weights of variance 2 / fan_in and biases zero; "asymmetric" for parameters that
            are normal with the deviation 0.6007 / sqrt(fan_in) but for one of each unit, any of them, drawn from
            Beta(2, 1).
        key: random key of the layer.
        fan_in: number of units in the layer before.
        units: number of units in the layer.

    References:
        Lu, Shin, Su and Karniadakis: Dying ReLU and Initialization, arXiv:1903.06733, section 4.
    """
    if initialisation == "he":
        weights = jax.random.normal(key, (units, fan_in)) * (2 / fan_in) ** 0.5
        return Layer(weights, jnp.zeros(units))
    normal_key, place_key, beta_key = jax.random.split(key, 3)
    parameters = jax.random.normal(normal_key, (units, fan_in + 1)) * ASYMMETRIC_DEVIATION / fan_in**0.5
    positive = jnp.sqrt(
        jax.random.uniform(beta_key, (units, 1))
    )  # the root of a uniform number is Beta(2, 1)
    chosen = jax.random.randint(place_key, (units, 1), 0, fan_in + 1)
    parameters = jnp.where(jnp.arange(fan_in + 1) == chosen, positive, parameters)
    return Layer(parameters[:, :-1], parameters[:, -1])


def draw(initialisation: str, keys: Array, width: int, depth: int) -> list[Layer]:
    """Networks with `depth` layers of weights, one for each key; each network depends on its own key alone."""
    widths = [1, *[width] * (depth - 1), 1]

    def one(key: Array) -> list[Layer]:
        return [
            draw_layer(initialisation, jax.random.fold_in(key, place), widths[place], widths[place + 1])
            for place in range(depth)
        ]

    return jax.tree.map(lambda array: jnp.moveaxis(array, 0, -1), jax.vmap(one)(keys))


def outputs(layers: list[Layer], x: Array, negative_slope: ArrayLike) -> Array:
    """(points, networks) for the inputs x: (points,)."""
    units = [jnp.broadcast_to(x[:, None], (len(x), layers[0].biases.shape[-1]))]
    for layer in layers[:-1]:
        units = [leaky_relu(z, negative_slope) for z in _pre_activations(layer, units)]
    return _pre_activations(layers[-1], units)[0]


def _pre_activations(layer: Layer, units: list[Array]) -> list[Array]:
    """The sums of a layer's units, (points, networks) each, for the units of the layer before."""
    if len(layer.biases) * len(units) > _WRITTEN_OUT:
        products = jnp.einsum("oin,ipn->opn", layer.weights, jnp.stack(units))
        return list(products + layer.biases[:, None])
    return [
        functools.reduce(operator.add, (w * unit for w, unit in zip(weights, units, strict=True)), bias)
        for weights, bias in zip(layer.weights, layer.biases, strict=True)
    ]

"""Initialisations of a network whose slope may be traced."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jax_leaky import leaky_he_normal

NAMES = {
    "uniform": "default uniform",
    "he": "He",
    "leaky_he": "leaky He",
}


def initial_params(
    initialisation: str, key: Array, widths: Sequence[int], negative_slope: ArrayLike
) -> dict[str, dict[str, Array]]:
    """Parameters for `experiments.lab.nets.mlp.MLP`.

    Args:
        initialisation: "uniform" for weights and biases uniform in +-1/sqrt(fan_in), the default of PyTorch's layers;
            "he" for normal weights of variance 2 / fan_in and biases zero; "leaky_he" for variance 2 / ((1 + a^2)
            fan_in), a being `negative_slope`.
        key: random key; the same key gives "he" and "leaky_he" the same weights up to their scale.
        widths: numbers of inputs, of units in each hidden layer, and of outputs.
        negative_slope: slope of the activation, which may be traced.
    """
    params = {}
    for layer, (fan_in, units) in enumerate(itertools.pairwise(widths)):
        kernel_key, bias_key = jax.random.split(jax.random.fold_in(key, layer))
        if initialisation == "uniform":
            bound = fan_in**-0.5
            kernel = jax.random.uniform(kernel_key, (fan_in, units), minval=-bound, maxval=bound)
            bias = jax.random.uniform(bias_key, (units,), minval=-bound, maxval=bound)
        else:
            slope = negative_slope if initialisation == "leaky_he" else 0.0
            kernel = leaky_he_normal(slope)(kernel_key, (fan_in, units))
            bias = jnp.zeros(units)
        params[f"Dense_{layer}"] = {"kernel": kernel, "bias": bias}
    return params

"""The type of the networks' activation, and no activation at all."""

from __future__ import annotations

from typing import Protocol

from jax import Array


class Activation(Protocol):
    """`jax_leaky.leaky_relu`, `jax.nn.leaky_relu`, or what else has their arguments."""

    def __call__(self, x: Array, /, negative_slope: float) -> Array:
        """An array of the shape of x."""
        ...


def none(x: Array, /, negative_slope: float) -> Array:  # noqa: ARG001  an activation has these arguments
    """No activation: x itself."""
    return x

"""The slopes of the randomized leaky ReLU, which its Linen and its NNX module share."""

import math

import jax
import jax.numpy as jnp
from jax import Array

from jax_leaky._op._arguments import is_float


def check_bounds(lower: float, upper: float) -> None:
    """Raise a ValueError unless lower <= upper, both finite."""
    if not (math.isfinite(lower) and math.isfinite(upper) and lower <= upper):
        raise ValueError(
            f"lower and upper must be finite and in order, got lower={lower}, upper={upper}; "
            "the bounds of the paper are 1/8 and 1/3."
        )


def mean_slope(lower: float, upper: float) -> float:
    """The slope of the evaluation."""
    return (lower + upper) / 2


def random_slopes(key: Array, inputs: Array, lower: float, upper: float) -> Array:
    """One slope for each element of ``inputs``, uniform on [lower, upper)."""
    dtype = jnp.result_type(inputs if is_float(inputs) else float)
    return jax.random.uniform(key, jnp.shape(inputs), dtype, lower, upper)

"""The leaky rectifiers as Flax Linen modules."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jax_leaky._op._leaky_relu import DEFAULT, leaky_relu
from jax_leaky._op._residual import Residual
from jax_leaky._op._rrelu import check_bounds, mean_slope, random_slopes


class LeakyReLU(nn.Module):
    """``leaky_relu`` as a module.

    Attributes:
        negative_slope: the slope below zero.
        residual: what the backward pass keeps; see :func:`jax_leaky.leaky_relu`.
        forward_mode: True to serve forward mode too.

    Example:
        >>> import jax.numpy as jnp
        >>> from jax_leaky.linen import LeakyReLU
        >>> print(LeakyReLU(0.5).apply({}, jnp.array([-2.0, 3.0])))
        [-1.  3.]
    """

    negative_slope: float = 0.01
    residual: Residual = DEFAULT
    forward_mode: bool = False

    def __call__(self, inputs: Array) -> Array:
        """Leaky ReLU of ``inputs`` (any shape)."""
        return leaky_relu(inputs, self.negative_slope, residual=self.residual, forward_mode=self.forward_mode)


class PReLU(nn.Module):
    """Leaky ReLU whose slope is a parameter, ``negative_slope``, learned with the others.

    Attributes:
        negative_slope_init: the slope to start from.
        num_features: None for one slope, shared; or one slope for each of that many channels of the last axis.
        param_dtype: dtype of the parameter.
        residual: what the backward pass keeps; see :func:`jax_leaky.leaky_relu`.
        forward_mode: True to serve forward mode too.

    References:
        He, Zhang, Ren, Sun: Delving deep into rectifiers. ICCV, 2015.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jax_leaky.linen import PReLU
        >>> params = PReLU(0.25, num_features=3).init(jax.random.key(0), jnp.ones((2, 3)))
        >>> print(params["params"]["negative_slope"])
        [0.25 0.25 0.25]
    """

    negative_slope_init: float = 0.01
    num_features: int | None = None
    param_dtype: Any = jnp.float32
    residual: Residual = DEFAULT
    forward_mode: bool = False

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Leaky ReLU of ``inputs`` (..., num_features) with the learned slope."""
        shape = () if self.num_features is None else (self.num_features,)
        negative_slope = self.param(
            "negative_slope", nn.initializers.constant(self.negative_slope_init, self.param_dtype), shape
        )
        return leaky_relu(inputs, negative_slope, residual=self.residual, forward_mode=self.forward_mode)


class RReLU(nn.Module):
    """Leaky ReLU whose slope is drawn for each element in training, and is the mean of the bounds in evaluation.

    Attributes:
        lower: lower bound of the uniform distribution of the slopes.
        upper: upper bound of it.
        deterministic: True for evaluation; here or in the call.
        rng_collection: name of the random stream, as in ``nn.Dropout``.
        residual: what the backward pass keeps beside the slopes; see :func:`jax_leaky.leaky_relu`.
        forward_mode: True to serve forward mode too.

    Raises:
        ValueError: the bounds are not finite or not in order.

    References:
        Xu, Wang, Chen, Li: Empirical evaluation of rectified activations in convolution network.
        arXiv 1505.00853, 2015.

    Example:
        >>> import jax.numpy as jnp
        >>> from jax_leaky.linen import RReLU
        >>> print(RReLU(0.25, 0.75).apply({}, jnp.array([-2.0, 3.0]), deterministic=True))
        [-1.  3.]
    """

    lower: float = 1 / 8
    upper: float = 1 / 3
    deterministic: bool | None = None
    rng_collection: str = "rrelu"
    residual: Residual = DEFAULT
    forward_mode: bool = False

    @nn.compact
    def __call__(
        self, inputs: Array, deterministic: bool | None = None, rng: jax.Array | None = None
    ) -> Array:
        """Randomized leaky ReLU of ``inputs`` (any shape); ``rng`` overrides the module's stream."""
        check_bounds(self.lower, self.upper)
        if nn.merge_param("deterministic", self.deterministic, deterministic):
            slope: float | Array = mean_slope(self.lower, self.upper)
        else:
            key = self.make_rng(self.rng_collection) if rng is None else rng
            slope = random_slopes(key, inputs, self.lower, self.upper)
        return leaky_relu(inputs, slope, residual=self.residual, forward_mode=self.forward_mode)

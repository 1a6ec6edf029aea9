"""The leaky rectifiers as Flax NNX modules."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jax_leaky._op._leaky_relu import DEFAULT, leaky_relu
from jax_leaky._op._residual import Residual
from jax_leaky._op._rrelu import check_bounds, mean_slope, random_slopes


class LeakyReLU(nnx.Module):
    """``leaky_relu`` as a module.

    Args:
        negative_slope: the slope below zero.
        residual: what the backward pass keeps; see :func:`jax_leaky.leaky_relu`.
        forward_mode: True to serve forward mode too.

    Example:
        >>> import jax.numpy as jnp
        >>> from jax_leaky.nnx import LeakyReLU
        >>> print(LeakyReLU(0.5)(jnp.array([-2.0, 3.0])))
        [-1.  3.]
    """

    def __init__(
        self, negative_slope: float = 0.01, *, residual: Residual = DEFAULT, forward_mode: bool = False
    ):
        self.negative_slope = negative_slope
        self.residual = residual
        self.forward_mode = forward_mode

    def __call__(self, inputs: Array) -> Array:
        """Leaky ReLU of ``inputs`` (any shape)."""
        return leaky_relu(inputs, self.negative_slope, residual=self.residual, forward_mode=self.forward_mode)


class PReLU(nnx.Module):
    """Leaky ReLU whose slope is a parameter, ``negative_slope``, learned with the others.

    Args:
        negative_slope_init: the slope to start from.
        num_features: None for one slope, shared; or one slope for each of that many channels of the last axis.
        param_dtype: dtype of the parameter.
        residual: what the backward pass keeps; see :func:`jax_leaky.leaky_relu`.
        forward_mode: True to serve forward mode too.

    References:
        He, Zhang, Ren, Sun: Delving deep into rectifiers. ICCV, 2015.

    Example:
        >>> from jax_leaky.nnx import PReLU
        >>> print(PReLU(0.25, num_features=3).negative_slope[...])
        [0.25 0.25 0.25]
    """

    def __init__(
        self,
        negative_slope_init: float = 0.01,
        *,
        num_features: int | None = None,
        param_dtype: Any = jnp.float32,
        residual: Residual = DEFAULT,
        forward_mode: bool = False,
    ):
        shape = () if num_features is None else (num_features,)
        self.negative_slope = nnx.Param(jnp.full(shape, negative_slope_init, param_dtype))
        self.residual = residual
        self.forward_mode = forward_mode

    def __call__(self, inputs: Array) -> Array:
        """Leaky ReLU of ``inputs`` (..., num_features) with the learned slope."""
        slope = self.negative_slope[...]
        return leaky_relu(inputs, slope, residual=self.residual, forward_mode=self.forward_mode)


class RReLU(nnx.Module):
    """Leaky ReLU whose slope is drawn for each element in training, and is the mean of the bounds in evaluation.

    ``model.train()`` and ``model.eval()`` switch it, as they switch ``nnx.Dropout``.

    Args:
        lower: lower bound of the uniform distribution of the slopes.
        upper: upper bound of it.
        deterministic: True for evaluation.
        rng_collection: name of the random stream, as in ``nnx.Dropout``.
        residual: what the backward pass keeps beside the slopes; see :func:`jax_leaky.leaky_relu`.
        forward_mode: True to serve forward mode too.
        rngs: where the random stream comes from; needed for training only.

    Raises:
        ValueError: the bounds are not finite or not in order; or, in a call, there is no random stream.

    References:
        Xu, Wang, Chen, Li: Empirical evaluation of rectified activations in convolution network.
        arXiv 1505.00853, 2015.

    Example:
        >>> import jax.numpy as jnp
        >>> from jax_leaky.nnx import RReLU
        >>> print(RReLU(0.25, 0.75, deterministic=True)(jnp.array([-2.0, 3.0])))
        [-1.  3.]
    """

    def __init__(
        self,
        lower: float = 1 / 8,
        upper: float = 1 / 3,
        *,
        deterministic: bool = False,
        rng_collection: str = "rrelu",
        residual: Residual = DEFAULT,
        forward_mode: bool = False,
        rngs: nnx.Rngs | None = None,
    ):
        check_bounds(lower, upper)
        self.lower = lower
        self.upper = upper
        self.deterministic = deterministic
        self.rng_collection = rng_collection
        self.residual = residual
        self.forward_mode = forward_mode
        self.rngs = nnx.data(None) if rngs is None else rngs[rng_collection].fork()

    def __call__(
        self,
        inputs: Array,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
    ) -> Array:
        """Randomized leaky ReLU of ``inputs`` (any shape); the arguments override the module's own."""
        if self.deterministic if deterministic is None else deterministic:
            slope: float | Array = mean_slope(self.lower, self.upper)
        else:
            slope = random_slopes(self._key(rngs), inputs, self.lower, self.upper)
        return leaky_relu(inputs, slope, residual=self.residual, forward_mode=self.forward_mode)

    def _key(self, rngs: nnx.Rngs | nnx.RngStream | jax.Array | None) -> jax.Array:
        source = self.rngs if rngs is None else rngs
        if source is None:
            raise ValueError(
                "rngs is None and RReLU draws its slopes in training; pass rngs=nnx.Rngs(0) here or to the "
                "constructor, or call model.eval()."
            )
        if isinstance(source, nnx.Rngs):
            source = source[self.rng_collection]
        return source() if isinstance(source, nnx.RngStream) else source

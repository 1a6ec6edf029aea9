"""The leaky rectifiers as Flax Linen modules."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jax_leaky._op._leaky_relu import DEFAULT, leaky_relu
from jax_leaky._op._prelu import along, check_channels
from jax_leaky._op._residual import Residual
from jax_leaky._op._rrelu import check_bounds, mean_slope, random_slopes


class _Rectifier(nn.Module, kw_only=True):
    """What the modules share.

    Attributes:
        residual: name of what the backward pass keeps.
        forward_mode: whether forward mode is served too.
    """

    residual: Residual = DEFAULT
    forward_mode: bool = False


def _rectified(module: _Rectifier, inputs: Array, slope: float | Array) -> Array:
    """The op as the module keeps it; a method of its own would stand in the names of scopes, and so of sites."""
    return leaky_relu(inputs, slope, residual=module.residual, forward_mode=module.forward_mode)


class LeakyReLU(_Rectifier):
    """``leaky_relu`` as a module.

    Attributes:
        negative_slope: slope below zero.
        residual: name of what the backward pass keeps, as for :func:`jax_leaky.leaky_relu`.
        forward_mode: whether forward mode is served too, as for :func:`jax_leaky.leaky_relu`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jax_leaky.linen import LeakyReLU
        >>> print(LeakyReLU(0.5).apply({}, jnp.array([-2.0, 3.0])))
        [-1.  3.]
    """

    negative_slope: float = 0.01

    def __call__(self, inputs: Array) -> Array:
        """Leaky ReLU of ``inputs`` (any shape)."""
        return _rectified(self, inputs, self.negative_slope)


class PReLU(_Rectifier):
    """Leaky ReLU whose slope is a parameter, ``negative_slope``, learned with the others.

    Attributes:
        negative_slope_init: initial value of the slope.
        num_features: number of channels, each of which has a slope of its own; None for one slope that all share.
        axis: number of the axis of the inputs that holds the channels: -1, or 1 where channels come first.
        param_dtype: dtype of the parameter.
        residual: name of what the backward pass keeps, as for :func:`jax_leaky.leaky_relu`.
        forward_mode: whether forward mode is served too, as for :func:`jax_leaky.leaky_relu`.

    Raises:
        ValueError: in a call, ``num_features`` is not the size of ``axis``.

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
    axis: int = -1
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Leaky ReLU of ``inputs`` (..., num_features, ...) with the learned slope."""
        check_channels(self.num_features, self.axis, inputs)
        shape = () if self.num_features is None else (self.num_features,)
        negative_slope = self.param(
            "negative_slope", nn.initializers.constant(self.negative_slope_init, self.param_dtype), shape
        )
        return _rectified(self, inputs, along(self.axis, negative_slope, inputs))


class RReLU(_Rectifier):
    """Leaky ReLU whose slope is drawn for each element in training, and is the mean of the bounds in evaluation.

    Attributes:
        lower: lower bound of the uniform distribution of the slopes.
        upper: upper bound of the uniform distribution of the slopes.
        deterministic: whether the slope is the mean of the bounds, for evaluation; given here or in the call.
        rng_collection: name of the random stream, as in ``nn.Dropout``.
        residual: name of what the backward pass keeps, as for :func:`jax_leaky.leaky_relu`. The slopes are kept too.
        forward_mode: whether forward mode is served too, as for :func:`jax_leaky.leaky_relu`.

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

    @nn.compact
    def __call__(
        self, inputs: Array, deterministic: bool | None = None, rng: jax.Array | None = None
    ) -> Array:
        """Randomised leaky ReLU of ``inputs`` (any shape); ``rng`` overrides the module's stream."""
        check_bounds(self.lower, self.upper)
        if nn.merge_param("deterministic", self.deterministic, deterministic):
            return _rectified(self, inputs, mean_slope(self.lower, self.upper))
        key = self.make_rng(self.rng_collection) if rng is None else rng
        return _rectified(self, inputs, random_slopes(key, inputs, self.lower, self.upper))

"""The leaky rectifiers as Flax NNX modules."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jax_leaky._op._leaky_relu import DEFAULT, leaky_relu
from jax_leaky._op._prelu import along, check_channels
from jax_leaky._op._residual import Residual
from jax_leaky._op._rrelu import check_bounds, mean_slope, random_slopes


class _Rectifier(nnx.Module):
    """What the modules share.

    Args:
        residual: name of what the backward pass keeps.
        forward_mode: whether forward mode is served too.
    """

    def __init__(self, residual: Residual, forward_mode: bool):
        self.residual = residual
        self.forward_mode = forward_mode

    def _rectified(self, inputs: Array, slope: float | Array) -> Array:
        return leaky_relu(inputs, slope, residual=self.residual, forward_mode=self.forward_mode)


class LeakyReLU(_Rectifier):
    """``leaky_relu`` as a module.

    Args:
        negative_slope: slope below zero.
        residual: name of what the backward pass keeps, as for :func:`jax_leaky.leaky_relu`.
        forward_mode: whether forward mode is served too, as for :func:`jax_leaky.leaky_relu`.

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
        super().__init__(residual, forward_mode)

    def __call__(self, inputs: Array) -> Array:
        """Leaky ReLU of ``inputs`` (any shape)."""
        return self._rectified(inputs, self.negative_slope)


class PReLU(_Rectifier):
    """Leaky ReLU whose slope is a parameter, ``negative_slope``, learned with the others.

    Args:
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
        >>> from jax_leaky.nnx import PReLU
        >>> print(PReLU(0.25, num_features=3).negative_slope[...])
        [0.25 0.25 0.25]
    """

    def __init__(
        self,
        negative_slope_init: float = 0.01,
        *,
        num_features: int | None = None,
        axis: int = -1,
        param_dtype: Any = jnp.float32,
        residual: Residual = DEFAULT,
        forward_mode: bool = False,
    ):
        shape = () if num_features is None else (num_features,)
        self.num_features = num_features
        self.axis = axis
        self.negative_slope = nnx.Param(jnp.full(shape, negative_slope_init, param_dtype))
        super().__init__(residual, forward_mode)

    def __call__(self, inputs: Array) -> Array:
        """Leaky ReLU of ``inputs`` (..., num_features, ...) with the learned slope."""
        check_channels(self.num_features, self.axis, inputs)
        return self._rectified(inputs, along(self.axis, self.negative_slope[...], inputs))


class RReLU(_Rectifier):
    """Leaky ReLU whose slope is drawn for each element in training, and is the mean of the bounds in evaluation.

    ``model.train()``, ``model.eval()`` and ``nnx.view(model, deterministic=...)`` switch it, as they switch
    ``nnx.Dropout``.

    Args:
        lower: lower bound of the uniform distribution of the slopes.
        upper: upper bound of the uniform distribution of the slopes.
        deterministic: whether the slope is the mean of the bounds, for evaluation.
        rng_collection: name of the random stream, as in ``nnx.Dropout``.
        residual: name of what the backward pass keeps, as for :func:`jax_leaky.leaky_relu`. The slopes are kept too.
        forward_mode: whether forward mode is served too, as for :func:`jax_leaky.leaky_relu`.
        rngs: source of the random stream; needed for training only.

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
        super().__init__(residual, forward_mode)
        self.rngs = nnx.data(None) if rngs is None else rngs[rng_collection].fork()

    def __call__(
        self,
        inputs: Array,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
    ) -> Array:
        """Randomised leaky ReLU of ``inputs`` (any shape); the arguments override the module's own."""
        if self.deterministic if deterministic is None else deterministic:
            return self._rectified(inputs, mean_slope(self.lower, self.upper))
        return self._rectified(inputs, random_slopes(self._key(rngs), inputs, self.lower, self.upper))

    def set_view(self, deterministic: bool | None = None) -> None:
        """What ``nnx.view`` calls on the copy that it makes.

        Args:
            deterministic: whether the view is for evaluation; None leaves it as it is.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def _key(self, rngs: nnx.Rngs | nnx.RngStream | jax.Array | None) -> jax.Array:
        source = self.rngs if rngs is None else rngs
        if source is None:
            raise ValueError(
                "rngs must be given where RReLU draws its slopes in training, got None; pass rngs=nnx.Rngs(0) here or "
                "to the constructor, or call model.eval()."
            )
        if isinstance(source, nnx.Rngs):
            source = source[self.rng_collection]
        return source() if isinstance(source, nnx.RngStream) else source

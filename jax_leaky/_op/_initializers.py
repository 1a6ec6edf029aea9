"""He's initialisation for a leaky ReLU."""

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import numpy as np
from jax.nn.initializers import Initializer, variance_scaling
from jax.typing import ArrayLike

from jax_leaky._op._arguments import real

Mode = Literal["fan_in", "fan_out", "fan_avg"]


def leaky_he_normal(
    negative_slope: ArrayLike = 0.01,
    mode: Mode = "fan_in",
    in_axis: int | Sequence[int] = -2,
    out_axis: int | Sequence[int] = -1,
    batch_axis: int | Sequence[int] = (),
    dtype: Any = None,
) -> Initializer:
    r"""He's normal initialiser with the gain of a leaky ReLU.

    .. math:: \mathrm{Var}[w] = \frac{2}{(1 + a^2)\,\mathrm{fan\_in}}

    keeps the second moment of the signal level from layer to layer, where a leaky ReLU of slope :math:`a` follows
    each layer. Slope 0 gives ``jax.nn.initializers.he_normal``, slope 1 LeCun's. As there, the normal distribution
    is truncated at two standard deviations.

    Args:
        negative_slope: slope :math:`a` of the activation that follows, a scalar; it may be traced.
        mode: name of what stands for fan_in in the formula. ``"fan_in"`` keeps the signal level, ``"fan_out"`` the
            gradient, ``"fan_avg"`` (the mean of both) neither quite.
        in_axis: axis or axes of the kernel that hold the inputs.
        out_axis: axis or axes of the kernel that hold the outputs.
        batch_axis: axis or axes of the kernel that belong to neither.
        dtype: dtype of the kernel unless the caller names another; None for JAX's default.

    Returns:
        An initializer: a function of (key, shape, dtype).

    Raises:
        TypeError: ``negative_slope`` is not a real number or an array of one.
        ValueError: ``negative_slope`` is no scalar, or known and not finite; or ``mode`` is unknown.

    References:
        He, Zhang, Ren, Sun: Delving deep into rectifiers. ICCV, 2015, equations 10, 14 and 15.

    Example:
        >>> import jax
        >>> from jax_leaky import leaky_he_normal
        >>> kernel = leaky_he_normal(0.2)(jax.random.key(0), (512, 1024))
        >>> print(f"{kernel.var() * 512 * (1 + 0.2**2):.2f}")
        2.00
    """
    return _scaled("truncated_normal", negative_slope, mode, in_axis, out_axis, batch_axis, dtype)


def leaky_he_uniform(
    negative_slope: ArrayLike = 0.01,
    mode: Mode = "fan_in",
    in_axis: int | Sequence[int] = -2,
    out_axis: int | Sequence[int] = -1,
    batch_axis: int | Sequence[int] = (),
    dtype: Any = None,
) -> Initializer:
    r"""He's uniform initialiser with the gain of a leaky ReLU.

    Uniform on :math:`\pm\sqrt{6 / ((1 + a^2)\,\mathrm{fan\_in})}`, which has the variance of
    :func:`leaky_he_normal`; see there for arguments, errors and source.

    Example:
        >>> import jax
        >>> from jax_leaky import leaky_he_uniform
        >>> kernel = leaky_he_uniform(0.2)(jax.random.key(0), (600, 64))
        >>> bool(abs(kernel).max() <= (6 / ((1 + 0.2**2) * 600)) ** 0.5)
        True
    """
    return _scaled("uniform", negative_slope, mode, in_axis, out_axis, batch_axis, dtype)


def _scaled(
    distribution: Literal["truncated_normal", "uniform"], negative_slope: ArrayLike, mode: Mode, *rest: Any
) -> Initializer:
    if mode not in get_args(Mode):
        raise ValueError(
            f"mode must be 'fan_in', 'fan_out' or 'fan_avg', got {mode!r}; the default is 'fan_in'."
        )
    slope = real("negative_slope", negative_slope)
    if np.shape(slope):
        raise ValueError(
            f"negative_slope must be a scalar, got shape {np.shape(slope)}; make an initializer for each slope."
        )
    if isinstance(slope, jax.core.Tracer):
        slope = slope.astype(float)
    elif not math.isfinite(slope := float(np.asarray(slope, np.float64))):
        raise ValueError(f"negative_slope must be finite, got {slope}; name the activation's own slope.")
    return variance_scaling(2.0 / (1.0 + slope**2), mode, distribution, *rest)

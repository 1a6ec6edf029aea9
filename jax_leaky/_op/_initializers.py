"""He's initialisation for a leaky ReLU."""

import math
from collections.abc import Sequence
from typing import Any

from jax.nn.initializers import Initializer, variance_scaling


def leaky_he_normal(
    negative_slope: float = 0.01,
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
        negative_slope: the slope of the activation that follows.
        in_axis: axis or axes of the kernel that hold the inputs.
        out_axis: axis or axes of the kernel that hold the outputs.
        batch_axis: axis or axes of the kernel that belong to neither.
        dtype: dtype of the kernel unless the caller names another; None for JAX's default.

    Returns:
        An initializer: a function of (key, shape, dtype).

    Raises:
        ValueError: ``negative_slope`` is not finite.

    References:
        He, Zhang, Ren, Sun: Delving deep into rectifiers. ICCV, 2015, equation 15.

    Example:
        >>> import jax
        >>> from jax_leaky import leaky_he_normal
        >>> kernel = leaky_he_normal(0.2)(jax.random.key(0), (512, 1024))
        >>> print(f"{kernel.var() * 512 * (1 + 0.2**2):.2f}")
        2.00
    """
    return variance_scaling(
        _gain(negative_slope), "fan_in", "truncated_normal", in_axis, out_axis, batch_axis, dtype
    )


def leaky_he_uniform(
    negative_slope: float = 0.01,
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
    return variance_scaling(_gain(negative_slope), "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype)


def _gain(negative_slope: float) -> float:
    if not math.isfinite(negative_slope):
        raise ValueError(
            f"negative_slope must be finite, got {negative_slope}; name the activation's own slope."
        )
    return 2.0 / (1.0 + negative_slope**2)

"""Ranks of a layer's activations. They need the whole matrix, and so stand apart from the streamed counts."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jax_leaky.units import _inputs


def effective_rank(a: ArrayLike) -> Array:
    """exp(entropy of sigma / sum(sigma)), sigma being the singular values of `a: (n, units)`.

    0 for a matrix of zeros, NaN where any value is not finite.

    Raises:
        TypeError: if a is not real floating point.
        ValueError: if a is not a matrix with a row and a column.

    References:
        Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.

    Example:
        >>> import jax.numpy as jnp
        >>> import jax_leaky.units as units
        >>> round(float(units.effective_rank(jnp.eye(4))), 4)
        4.0
    """
    sigma, valid = _singular_values(a)
    share = sigma / jnp.where(sigma[0] > 0, jnp.sum(sigma), 1.0)
    entropy = -jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1.0)), 0.0))
    return jnp.where(valid, jnp.where(sigma[0] > 0, jnp.exp(entropy), 0.0), jnp.nan)


def stable_rank(a: ArrayLike) -> Array:
    """Squared Frobenius norm over squared spectral norm of `a: (n, units)`.

    0 for a matrix of zeros, NaN where any value is not finite. Dohare et al. (2024) call another measure,
    `srank`, by this name in their code.

    Raises:
        TypeError: if a is not real floating point.
        ValueError: if a is not a matrix with a row and a column.

    References:
        Rudelson and Vershynin, "Sampling from large matrices", J. ACM 54(4), 2007.

    Example:
        >>> import jax.numpy as jnp
        >>> import jax_leaky.units as units
        >>> round(float(units.stable_rank(jnp.diag(jnp.array([2.0, 1.0, 1.0])))), 4)
        1.5
    """
    sigma, valid = _singular_values(a)
    return jnp.where(valid, jnp.sum((sigma / jnp.where(sigma[0] > 0, sigma[0], 1.0)) ** 2), jnp.nan)


def srank(a: ArrayLike, share: float = 0.99) -> Array:
    """The least k whose first k singular values of `a: (n, units)` hold `share` of their sum.

    A whole number as a float: 0 for a matrix of zeros, NaN where any value is not finite.

    Raises:
        TypeError: if a is not real floating point.
        ValueError: if a is not a matrix with a row and a column, or share is not in (0, 1).

    References:
        Kumar, Agarwal, Ghosh and Levine, "Implicit under-parameterization inhibits data-efficient deep
        reinforcement learning", ICLR 2021.

    Example:
        >>> import jax.numpy as jnp
        >>> import jax_leaky.units as units
        >>> float(units.srank(jnp.diag(jnp.array([98.0, 1.5, 0.5]))))
        2.0
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share!r} is not a share: give a number between 0 and 1, such as 0.99.")
    sigma, valid = _singular_values(a)
    held = jnp.cumsum(sigma)
    k = 1 + jnp.sum(held < share * held[-1])
    return jnp.where(valid, jnp.where(sigma[0] > 0, k, 0).astype(sigma.dtype), jnp.nan)


def _singular_values(a: ArrayLike) -> tuple[Array, Array]:
    """The singular values, and whether all of `a` is finite."""
    a = _inputs.floating("a", a)
    if a.ndim != 2 or 0 in a.shape:
        raise ValueError(
            f"a has the shape {a.shape}: give the activations as (n, units), for a convolution flattened."
        )
    if a.dtype.itemsize < 4:
        a = a.astype(jnp.float32)
    valid = jnp.all(jnp.isfinite(a))
    a = jnp.where(valid, a, jnp.zeros_like(a))
    return jnp.linalg.svd(a, compute_uv=False), valid

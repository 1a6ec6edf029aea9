"""Mixtures of equal Gaussians in the plane, and how well samples cover their modes."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

WITHIN = 3.0  # standard deviations from a mode: a sample of high quality


class Mixture(NamedTuple):
    """Equal Gaussians of one standard deviation.

    Attributes:
        centers: means of the Gaussians, (modes, 2).
        sigma: standard deviation of each coordinate, ().
    """

    centers: Array | np.ndarray
    sigma: ArrayLike


class Coverage(NamedTuple):
    """How samples cover a mixture; all NaN where a sample is not finite.

    Attributes:
        modes: number of modes with at least one sample of high quality, as a float, ().
        high_quality: share of samples within three standard deviations of a mode, (). For samples of the mixture itself
            it is 1 - exp(-4.5) = 98.9 %.
        reverse_kl: KL(p || uniform) of the histogram p of the samples' nearest modes, (). It is 0 where all modes have
            the same share, and log(modes) where one has all.
    """

    modes: Array
    high_quality: Array
    reverse_kl: Array


def ring() -> Mixture:
    """Eight modes on the unit circle, at the angles i 2 pi / 8, with standard deviation 0.01."""
    angles = np.arange(8) * 2 * np.pi / 8
    return Mixture(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32), np.float32(0.01))


def grid() -> Mixture:
    """Twenty-five modes at -4, -2, 0, 2, 4 in each coordinate, with standard deviation 0.05."""
    centers = list(itertools.product(range(-4, 5, 2), repeat=2))
    return Mixture(np.array(centers, np.float32), np.float32(0.05))


def draw(mixture: Mixture, key: Array, samples: int) -> Array:
    """Samples of the mixture, (samples, 2)."""
    mode_key, noise_key = jax.random.split(key)
    modes = jax.random.randint(mode_key, (samples,), 0, len(mixture.centers))
    return jnp.asarray(mixture.centers)[modes] + mixture.sigma * jax.random.normal(noise_key, (samples, 2))


def coverage(mixture: Mixture, samples: Array) -> Coverage:
    """How samples (n, 2) cover the mixture.

    References:
        Srivastava et al.: VEEGAN, NeurIPS 2017 (arXiv:1705.07761): modes and samples of high quality.
        Lin et al.: PacGAN, NeurIPS 2018 (arXiv:1712.04086): the reverse KL divergence of the nearest modes.
    """
    count = len(mixture.centers)
    distance = jnp.linalg.norm(samples[:, None] - jnp.asarray(mixture.centers), axis=-1)
    nearest = jax.nn.one_hot(distance.argmin(1), count)
    good = distance.min(1) < WITHIN * mixture.sigma
    share = nearest.mean(0)
    measured = Coverage(
        modes=(nearest * good[:, None]).any(0).sum().astype(jnp.float32),
        high_quality=good.mean(),
        reverse_kl=jax.scipy.special.xlogy(share, share * count).sum(),
    )
    finite = jnp.isfinite(samples).all()
    return Coverage(*(jnp.where(finite, value, jnp.nan) for value in measured))

"""The Frechet distance between two sets of features, each taken for a sample of a normal distribution."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
    """Mean (features,) and covariance (features, features) of some samples, in float64."""

    mean: np.ndarray
    covariance: np.ndarray


def moments(features: np.ndarray) -> Moments:
    """Mean and covariance of features (samples, features), of two samples or more."""
    values = np.asarray(features, np.float64)
    return Moments(values.mean(0), np.cov(values, rowvar=False))


def frechet_distance(one: Moments, other: Moments) -> float:
    """|m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2)); NaN where a moment is not finite.

    The last trace is the sum of the square roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric: no
    root of a general matrix is taken, and rounding cannot make the result complex.

    References:
        Dowson and Landau: The Frechet distance between multivariate normal distributions. Journal of Multivariate
        Analysis 12, 1982.
        Heusel et al.: GANs trained by a two time-scale update rule converge to a local Nash equilibrium. NeurIPS 2017
        (arXiv:1706.08500): with features of an Inception network, FID.
    """
    if not all(np.isfinite(part).all() for part in (*one, *other)):
        return float("nan")
    values, vectors = np.linalg.eigh(one.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    cross = np.linalg.eigvalsh(root @ other.covariance @ root)
    traces = np.trace(one.covariance) + np.trace(other.covariance) - 2 * np.sqrt(np.maximum(cross, 0)).sum()
    return float(max(((one.mean - other.mean) ** 2).sum() + traces, 0.0))

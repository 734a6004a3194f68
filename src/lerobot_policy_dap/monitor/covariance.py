"""Means and shrunk covariances of few samples in many dimensions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def shrunk_covariance(samples: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Mean `[D]` and covariance `[D, D]` of samples `[n, D]`, drawn towards a multiple of the identity.

    The weight of the identity is that of O. Ledoit and M. Wolf, A well-conditioned estimator for large-dimensional
    covariance matrices (2004), so that the result can be inverted from any number of samples.
    """
    x = np.asarray(samples, np.float64)
    n, D = x.shape
    mean = x.mean(axis=0)
    x = x - mean
    covariance = x.T @ x / n
    scale = np.trace(covariance) / D
    identity = scale * np.eye(D)
    away = np.square(covariance - identity).sum()
    # The mean squared distance of a sample's x xᵀ from the covariance, without building any of them.
    noise = (np.square(np.square(x).sum(axis=1)).sum() / n - np.square(covariance).sum()) / n
    weight = min(1.0, noise / away) if away > 0 else 1.0
    return mean, weight * identity + (1 - weight) * covariance


def whitening(samples: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean `[D]` and a matrix W `[D, D]` such that the norm of W (x - mean) is the Mahalanobis distance of x."""
    mean, covariance = shrunk_covariance(samples)
    values, vectors = np.linalg.eigh(covariance)
    least = max(float(values[-1]) * 1e-9, 1e-12)  # dimensions that never vary: a change there counts as huge
    W = vectors.T / np.sqrt(np.maximum(values, least))[:, None]
    return mean.astype(np.float32), W.astype(np.float32)

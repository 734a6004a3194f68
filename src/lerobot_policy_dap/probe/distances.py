"""How far apart two chunks are: pure functions on arrays.

Distances are in standard deviations σ of the dataset's actions, one for each action dimension, so that radians,
metres and gripper openings count alike. Over dimensions and executed steps they are root mean squares.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_STD = 1e-6
"""An action dimension that varies less never moved in the dataset, and has no unit to be measured in."""


def moving_dims(std: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which action dimensions have a unit: `[A]`, given their standard deviations."""
    moves: NDArray[np.bool_] = np.asarray(std) > LEAST_STD
    return moves


def by_dimension(
    one: NDArray[np.floating],
    other: NDArray[np.floating],
    std: NDArray[np.floating],
    valid: NDArray[np.bool_] | None = None,
) -> Array:
    """RMS over steps of (one - other) / σ for each frame and dimension.

    Args:
        one, other: chunks `[N, H, A]`, in the dataset's units.
        std: `[A]`, all positive.
        valid: `[N, H]`, the steps that count; at least one in each row. All if None.

    Returns:
        `[N, A]`
    """
    squares = ((np.asarray(one, np.float64) - other) / std) ** 2
    weights = np.ones(squares.shape[:2]) if valid is None else valid.astype(np.float64)
    mean: Array = (squares * weights[..., None]).sum(axis=1) / weights.sum(axis=1)[:, None]
    return np.sqrt(mean)


def overall(distances: Array) -> Array:
    """The RMS over dimensions, `[N]`, of what `by_dimension` returned."""
    total: Array = np.sqrt((distances**2).mean(axis=-1))
    return total

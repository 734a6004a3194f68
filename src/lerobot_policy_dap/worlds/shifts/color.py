"""sRGB and CIELAB, and colours at a given distance.

Source: IEC 61966-2-1 (sRGB) and CIE 15 (L*a*b*, white D65, difference ΔE*ab of 1976).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = _TO_XYZ.sum(axis=1)
_KNEE = 6 / 29


def to_lab(rgb: NDArray[np.floating]) -> NDArray[np.float64]:
    """L*a*b* `[..., 3]` of sRGB values in [0, 1]."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = linear @ _TO_XYZ.T / _WHITE
    f = np.where(ratio > _KNEE**3, np.cbrt(ratio), ratio / (3 * _KNEE**2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def to_rgb(lab: NDArray[np.floating]) -> NDArray[np.float64]:
    """sRGB of L*a*b* `[..., 3]`, not clipped: outside [0, 1] the colour cannot be shown."""
    lightness, a, b = np.moveaxis(np.asarray(lab, np.float64), -1, 0)
    y = (lightness + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    ratio = np.where(f > _KNEE, f**3, 3 * _KNEE**2 * (f - 4 / 29))
    linear = (ratio * _WHITE) @ np.linalg.inv(_TO_XYZ).T
    curve = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, 12.92 * linear, curve)


def delta_e(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """ΔE*ab between sRGB colours `[..., 3]`."""
    distance: NDArray[np.float64] = np.linalg.norm(to_lab(a) - to_lab(b), axis=-1)
    return distance


def at_distance(
    rgb: NDArray[np.floating], distance: float, reach: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A colour at ΔE*ab = `distance` from `rgb`, in a random direction in which `reach` can be shown as well.

    One generator state gives one direction, so that every distance up to `reach` lies on one ray.
    """
    start = to_lab(np.asarray(rgb, np.float64))
    directions = rng.normal(size=(1000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    shown = np.ones(len(directions), bool)
    for step in np.linspace(0.2, 1, 5) * reach:
        colors = to_rgb(start + step * directions)
        shown &= ((colors >= 0) & (colors <= 1)).all(axis=1)
    if not shown.any():
        raise ValueError(f"no colour at distance {reach} from {rgb}")
    return to_rgb(start + distance * directions[int(shown.argmax())]).clip(0, 1)

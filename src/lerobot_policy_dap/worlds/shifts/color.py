"""sRGB and CIELAB, colours at a given distance, and the colours of black bodies.

Sources: IEC 61966-2-1 (sRGB); CIE 15 (L*a*b*, white D65, difference ΔE*ab of 1976); Kim et al., Design of Advanced
Color Temperature Control System for HDTV Applications, J. Korean Phys. Soc. 41, 865 (2002) (cubic fits of the
Planckian locus).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = _TO_XYZ.sum(axis=1)
_KNEE = 6 / 29
_NEUTRAL = 6504.0
"""Correlated colour temperature of D65, sRGB's white, in K."""


def to_linear(rgb: NDArray[np.floating]) -> NDArray[np.float64]:
    """Light in proportion to radiance, of sRGB values in [0, 1]."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((np.maximum(rgb, 0.04045) + 0.055) / 1.055) ** 2.4)


def from_linear(light: NDArray[np.floating]) -> NDArray[np.float64]:
    """sRGB values of light in proportion to radiance, not clipped."""
    curve = 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, 12.92 * light, curve)


def to_lab(rgb: NDArray[np.floating]) -> NDArray[np.float64]:
    """L*a*b* `[..., 3]` of sRGB values in [0, 1]."""
    ratio = to_linear(rgb) @ _TO_XYZ.T / _WHITE
    f = np.where(ratio > _KNEE**3, np.cbrt(ratio), ratio / (3 * _KNEE**2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def to_rgb(lab: NDArray[np.floating]) -> NDArray[np.float64]:
    """sRGB of L*a*b* `[..., 3]`, not clipped: outside [0, 1] the colour cannot be shown."""
    lightness, a, b = np.moveaxis(np.asarray(lab, np.float64), -1, 0)
    y = (lightness + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    ratio = np.where(f > _KNEE, f**3, 3 * _KNEE**2 * (f - 4 / 29))
    return from_linear((ratio * _WHITE) @ np.linalg.inv(_TO_XYZ).T)


def delta_e(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """ΔE*ab between sRGB colours `[..., 3]`."""
    distance: NDArray[np.float64] = np.linalg.norm(to_lab(a) - to_lab(b), axis=-1)
    return distance


def at_distance(
    colors: NDArray[np.floating], distance: float, reach: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Colours `[N, 3]` at ΔE*ab = `distance` from `colors`, all in one random direction of L*a*b*.

    The direction is one in which `reach` can be shown as well; one generator state gives one direction, so that
    every distance up to `reach` lies on one ray. Where no direction suits all colours, each goes its own way.
    """
    directions = rng.normal(size=(1000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    starts = to_lab(np.asarray(colors, np.float64))
    steps = np.linspace(0.2, 1, 5)[:, None, None, None] * reach
    reached = to_rgb(starts[:, None] + steps * directions)
    shown = np.logical_and.reduce((reached >= 0) & (reached <= 1), axis=(0, 3))
    if np.logical_and.reduce(shown, axis=0).any():
        shown = np.broadcast_to(np.logical_and.reduce(shown, axis=0), shown.shape)
    possible = np.logical_or.reduce(shown, axis=1)
    if not possible.all():
        raise ValueError(f"no colour at distance {reach} from {colors[~possible][0]}")
    return to_rgb(starts + distance * directions[shown.argmax(axis=1)]).clip(0, 1)


def planckian_xy(kelvin: float) -> tuple[float, float]:
    """CIE 1931 chromaticity of a black body from 1667 to 25000 K (Kim et al. 2002, equations 8 and 9).

    Raises:
        ValueError: another temperature.
    """
    if not 1667 <= kelvin <= 25000:
        raise ValueError(f"colour temperature {kelvin} K is not from 1667 to 25000 K")
    of_inverse = (
        (-0.2661239e9, -0.2343589e6, 0.8776956e3, 0.179910)
        if kelvin <= 4000
        else (-3.0258469e9, 2.1070379e6, 0.2226347e3, 0.240390)
    )
    x = float(np.polyval(of_inverse, 1 / kelvin))
    if kelvin <= 2222:
        of_x = (-1.1063814, -1.34811020, 2.18555832, -0.20219683)
    elif kelvin <= 4000:
        of_x = (-0.9549476, -1.37418593, 2.09137015, -0.16748867)
    else:
        of_x = (3.0817580, -5.87338670, 3.75112997, -0.37001483)
    return x, float(np.polyval(of_x, x))


def lamp_gains(kelvin: float) -> NDArray[np.float64]:
    """What the light of a black body does to linear sRGB `[3]`, against one of 6504 K and the same luminance.

    Raises:
        ValueError: `kelvin` is not from 1667 to 25000.
    """
    gains = _planckian_rgb(kelvin) / _planckian_rgb(_NEUTRAL)
    scaled: NDArray[np.float64] = gains / (_TO_XYZ[1] @ gains)
    return scaled


def _planckian_rgb(kelvin: float) -> NDArray[np.float64]:
    x, y = planckian_xy(kelvin)
    rgb = np.linalg.inv(_TO_XYZ) @ np.array([x / y, 1, (1 - x - y) / y])
    return np.asarray(rgb.clip(0, None), np.float64)  # below 1900 K it has less blue than the display can show

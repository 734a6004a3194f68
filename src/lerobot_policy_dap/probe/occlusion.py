"""Things between the lens and the scene: opaque patches, and a shadow with a soft edge.

As in `worlds/shifts/sensor.py`, every function takes (frame, magnitude, generator) with uint8 frames `[H, W, 3]` and
returns a new frame. What it draws does not depend on the magnitude: one generator state gives the same places at
every severity.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..worlds.shifts.color import from_linear, to_linear

Frame = NDArray[np.uint8]

SHADOW_SHARE = 0.35
"""Share of the image that lies in more than half of the shadow's darkness."""

_PATCHES = 200
_SIDES = (0.1, 0.3)  # of a patch, as shares of the image's height and width
_PENUMBRA = 0.25  # half the width of the soft edge, as a share of the shadow's radius
_LINEAR = to_linear(np.arange(256) / 255).astype(np.float32)


def patches(frame: Frame, percent: float, rng: np.random.Generator) -> Frame:
    """Opaque rectangles of plain colours that cover `percent` of the image, to within a row of one patch.

    The patches of a smaller share are the first ones of a larger.
    """
    height, width = frame.shape[:2]
    corners = rng.uniform(-_SIDES[0] / 2, 1 - _SIDES[0] / 2, size=(_PATCHES, 2))
    sides = rng.uniform(*_SIDES, size=(_PATCHES, 2))
    colors = rng.integers(256, size=(_PATCHES, 3), dtype=np.uint8)
    covered = np.zeros((height, width), bool)
    shown = frame.copy()
    missing = round(percent / 100 * height * width)
    for corner, side, color in zip(corners, sides, colors, strict=True):
        if missing <= 0:
            break
        top, left = np.rint(corner.clip(0, 1) * (height, width)).astype(int)
        bottom, right = np.rint((corner + side) * (height, width)).astype(int)
        rows = np.cumsum((~covered[top:bottom, left:right]).sum(axis=1))
        bottom = top + min(int(np.searchsorted(rows, missing)) + 1, len(rows))
        missing -= int((~covered[top:bottom, left:right]).sum())
        shown[top:bottom, left:right] = np.where(
            covered[top:bottom, left:right, None], shown[top:bottom, left:right], color
        )
        covered[top:bottom, left:right] = True
    return shown


def shadow(frame: Frame, percent: float, rng: np.random.Generator) -> Frame:
    """An elliptical shadow that leaves `percent` of the light at its core, with a penumbra.

    Light is scaled in linear sRGB, where it adds up. `SHADOW_SHARE` of the image loses more than half of what the
    core loses.
    """
    height, width = frame.shape[:2]
    centre = rng.uniform(0.2, 0.8, size=2) * (height, width)
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 2.5)
    y, x = np.mgrid[:height, :width] + 0.5 - centre[:, None, None]
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    distance = np.hypot(along / stretch, across)
    radius = np.quantile(distance, SHADOW_SHARE)
    depth = ((radius - distance) / (2 * _PENUMBRA * radius) + 0.5).clip(0, 1)
    depth = depth * depth * (3 - 2 * depth)
    gain = (1 - (1 - percent / 100) * depth).astype(np.float32)
    light = from_linear(_LINEAR[frame] * gain[..., None])
    darkened: Frame = np.rint(255 * light).clip(0, 255).astype(np.uint8)
    return darkened

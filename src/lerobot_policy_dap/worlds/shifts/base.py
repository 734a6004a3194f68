"""What a shift is: a pure generator of values, apart from what applies them.

The division is dm_control's (`composer/variation`): a shift maps what the scene was at first, a magnitude and a
random generator to a `Change`; `apply` writes it. Severity fixes the magnitude, the episode's seed everything
else (directions, places), so one seed meets the same direction at every severity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..rendering import VisualGeom

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Scene:
    """The untouched scene of one episode, as a shift may read it.

    Arrays are copies: a shift cannot change the world.
    """

    values: Mapping[str, Array]
    """Model arrays that `apply` can write, by name: `light_dir`, `geom_rgba`, …"""
    table_geoms: tuple[int, ...]
    object_geoms: tuple[int, ...]
    """Visible geoms of the bodies that move and are not the robot."""
    geom_color: Array
    """sRGB `[ngeom, 3]` in [0, 1]: mean of the texture times the material's colour."""
    geom_opacity: Array
    """`[ngeom]`, 1 where nothing shines through."""
    table_height: float
    """Of the table's highest top, in metres: two tasks have a thicker table."""
    solids: Array
    """Bounding boxes (low, high) of all visible things but table and floor, `[N, 2, 3]`, metres."""
    eyes: tuple[Array, ...]
    """Where each camera is, `[3]`, in the order of `views`."""
    keep_out: tuple[tuple[float, float, float, float], ...]
    """Rectangles (x, y, half x, half y) in metres that the task's things cover on the table."""
    path: tuple[tuple[float, float], ...]
    """Points (x, y) in metres which the gripper passes: its start, the objects, the goal."""
    views: tuple[Array, ...]
    """For each camera, the `[3, 4]` map from a world point to (right, up, depth), in units of the half image."""


@dataclass(frozen=True)
class Change:
    """What differs from the untouched scene."""

    values: Mapping[str, Array] = field(default_factory=dict)
    geoms: tuple[VisualGeom, ...] = ()


class Shift(Protocol):
    """One factor of visual shift."""

    name: str
    quantity: str
    """What is changed, in a few words."""
    unit: str
    magnitudes: tuple[float, float, float, float, float]
    """In `unit`, for severities 1 to 5."""

    def draw(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """The change of one episode. Pure: it reads its arguments and touches nothing else."""
        ...

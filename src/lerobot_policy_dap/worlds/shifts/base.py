"""What a factor is: a pure generator of values, apart from what applies them.

The division is dm_control's (`composer/variation`): a factor maps a scene, a magnitude and a random generator to a
`Change`; `apply` writes it. Severity fixes the magnitude, the episode's seed everything else (directions, places),
so one seed meets the same direction at every severity. Factors are composed by `&`.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError
from ..rendering import VisualGeom

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Scene:
    """The scene of one episode, as a factor may read it.

    Arrays are copies: a factor cannot change the world.
    """

    values: Mapping[str, Array]
    """Model arrays that `apply` can write, by name: `light_dir`, `geom_rgba`, …"""
    palettes: Mapping[int, Array]
    """For each texture that can be seen, its distinct colours: sRGB `[N, 3]` in [0, 1]."""
    texture_means: Mapping[int, Array]
    """For each of them, the mean of its untouched texels: sRGB `[3]`."""
    texel_counts: Mapping[int, Array]
    """For each of them, how many texels have each colour of its palette: `[N]`."""
    lit_textures: tuple[int, ...]
    """Those on things, which lamps light; what is behind everything shines by itself."""
    table_textures: tuple[int, ...]
    background_textures: tuple[int, ...]
    """Of the floor, the wall around the table, and what is behind them."""
    object_geoms: tuple[int, ...]
    """Visible geoms of the things that move, or of which a part moves, and that are not the robot."""
    loose_objects: tuple[str, ...]
    """Bodies of the task that nothing holds."""
    cameras: tuple[int, ...]
    """The model's ids of the cameras that look."""
    geom_color: Array
    """sRGB `[ngeom, 3]` in [0, 1]: mean of the texture times the material's colour."""
    geom_opacity: Array
    """`[ngeom]`, 1 where nothing shines through."""
    table_height: float
    """Of the table's highest top, in metres: two tasks have a thicker table."""
    solids: Array
    """Bounding boxes (low, high) of all visible things but table and floor, `[N, 2, 3]`, metres."""
    things: Array
    """Those of the task's things alone."""
    eyes: tuple[Array, ...]
    """Where each camera is that the robot does not carry, `[3]`, in the order of `views`."""
    path: tuple[tuple[float, float, float], ...]
    """Points in metres which the gripper passes: its start, the objects, the goal."""
    views: tuple[Array, ...]
    """For each of them, the `[3, 4]` map from a world point to (right, up, depth), in units of the half image."""

    def texture_mean(self, texture: int) -> Array:
        """The mean of a texture's texels as they are now: sRGB `[3]`."""
        counts = self.texel_counts[texture]
        # Of 8-bit levels, which add up without rounding: untouched, it is `texture_means` bit for bit.
        mean: Array = counts @ (255 * self.palettes[texture]) / counts.sum() / 255
        return mean

    def after(self, change: Change) -> Scene:
        """The scene with the change in it, for a factor that acts on top of another."""
        return replace(
            self,
            values={**self.values, **change.values},
            palettes={**self.palettes, **change.palettes},
        )


@dataclass(frozen=True)
class FrameEffect:
    """Something done to every frame `[H, W, 3]` after it is rendered."""

    effect: Callable[[NDArray[np.uint8], float, np.random.Generator], NDArray[np.uint8]]
    """A pure function of (frame, magnitude, generator), as those of `sensor`."""
    magnitude: float
    reference_height: int = 0
    """If not 0: `magnitude` is in pixels of a frame of this height, and grows with the frame."""

    def __call__(self, frame: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """The frame as the camera gives it."""
        scale = frame.shape[0] / self.reference_height if self.reference_height else 1.0
        return self.effect(frame, self.magnitude * scale, rng)


@dataclass(frozen=True)
class Change:
    """What differs from the untouched scene."""

    values: Mapping[str, Array] = field(default_factory=dict)
    palettes: Mapping[int, Array] = field(default_factory=dict)
    geoms: tuple[VisualGeom, ...] = ()
    frame_effects: tuple[FrameEffect, ...] = ()
    object_scale: float = 1.0
    """Of the loose objects: the one thing here that physics feels."""

    def then(self, later: Change) -> Change:
        """Both changes, where `later` was drawn from the scene after this one."""
        return Change(
            {**self.values, **later.values},
            {**self.palettes, **later.palettes},
            self.geoms + later.geoms,
            self.frame_effects + later.frame_effects,
            self.object_scale * later.object_scale,
        )


class Factor(ABC):
    """One factor of shift. To add one: a subclass in a file of its own, and a line in `SHIFTS`."""

    name: str
    quantity: str
    """What is changed, in a few words."""
    unit: str
    magnitudes: tuple[float, float, float, float, float]
    """In `unit`, for severities 1 to 5."""
    physical: bool = False
    """Whether the robot can feel it: such a factor changes the task, and is reported apart."""
    needs: str = "nothing"
    """What a task must have, in words."""

    @abstractmethod
    def change(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """The change of one episode. Pure: it reads its arguments and touches nothing else."""

    def lacks(self, scene: Scene) -> str | None:
        """Why this scene cannot take the factor, or nothing if it can."""
        return None

    def require(self, scene: Scene) -> None:
        """Raises `UserError` with what the scene lacks, if it lacks anything."""
        lacking = self.lacks(scene)
        if lacking is not None:
            raise UserError(f"shift {self.name}: {lacking}")

    def draw(self, scene: Scene, severity: int, seed: int) -> Change:
        """The change that an episode's seed gives at a severity from 1 to 5.

        Raises:
            UserError: the scene lacks what the factor needs.
        """
        self.require(scene)
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        return self.change(scene, self.magnitudes[severity - 1], rng)

    def __and__(self, other: Factor) -> Factor:
        """Both factors at one severity."""
        from .combined import Combined

        return Combined(self, other)

"""The table and what surrounds it: colours and grain of their textures."""

from __future__ import annotations

import numpy as np

from .base import Array, Change, Factor, Scene
from .color import at_distance, to_lab, to_rgb

_FARTHEST = 50.0


class _SurfaceColor(Factor):
    """Textures moved through CIELAB as a whole: every texel by the same vector, so that the grain stays.

    A texel that leaves what a display can show is clipped.
    """

    unit = "ΔE"
    magnitudes = (10.0, 20.0, 30.0, 40.0, _FARTHEST)

    def textures(self, scene: Scene) -> tuple[int, ...]:
        raise NotImplementedError

    def change(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """See `Factor`."""
        textures = self.textures(scene)
        means = np.array([scene.texture_means[texture] for texture in textures])
        moves = to_lab(at_distance(means, magnitude, _FARTHEST, rng)) - to_lab(means)
        return Change(
            palettes={
                texture: to_rgb(to_lab(scene.palettes[texture]) + move).clip(0, 1)
                for texture, move in zip(textures, moves, strict=True)
            }
        )


class TableColor(_SurfaceColor):
    """The wooden table top in another colour, its grain as it was."""

    name = "table_color"
    quantity = "colour of the table top (CIELAB), texture kept"
    needs = "a table with a texture"

    def textures(self, scene: Scene) -> tuple[int, ...]:
        """See `_SurfaceColor`."""
        return scene.table_textures

    def lacks(self, scene: Scene) -> str | None:
        """See `Factor`."""
        return None if scene.table_textures else "this task has no table with a texture"


class BackgroundColor(_SurfaceColor):
    """Floor, the wall around the table and what is behind them, all moved in one direction."""

    name = "background_color"
    quantity = "colour of floor, wall and backdrop (CIELAB), texture kept"
    needs = "a floor with a texture"

    def textures(self, scene: Scene) -> tuple[int, ...]:
        """See `_SurfaceColor`."""
        return scene.background_textures

    def lacks(self, scene: Scene) -> str | None:
        """See `Factor`."""
        return None if scene.background_textures else "this task has no floor with a texture"


class TextureContrast(Factor):
    """The grain of table, floor and wall m times as strong: texels m times as far from their mean.

    From their mean as it is now: what another factor has done to the colour is left as it is.
    """

    name = "texture_contrast"
    quantity = "strength of the grain of table, floor and wall"
    unit = "times"
    magnitudes = (1.5, 2.0, 3.0, 4.5, 6.0)
    needs = "a table with a texture"

    def lacks(self, scene: Scene) -> str | None:
        """See `Factor`."""
        return None if scene.table_textures else "this task has no table with a texture"

    def change(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """See `Factor`."""
        return Change(
            palettes={
                texture: _stretched(scene.palettes[texture], scene.texture_mean(texture), magnitude)
                for texture in (*scene.table_textures, *scene.background_textures)
            }
        )


def _stretched(palette: Array, mean: Array, factor: float) -> Array:
    stretched: Array = (mean + factor * (palette - mean)).clip(0, 1)
    return stretched

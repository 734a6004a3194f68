"""Another colour on the table or on the manipulated object."""

from __future__ import annotations

import numpy as np

from ...errors import UserError
from .base import Change, Scene
from .color import at_distance

_FARTHEST = 50.0


def painted(scene: Scene, geoms: tuple[int, ...], magnitude: float, rng: np.random.Generator) -> Change:
    """The geoms in plain paint at CIELAB distance `magnitude` from their own mean colours.

    They leave their materials, which other things may share, and with them any texture. Geoms of one colour get
    one new colour; all move in the same random direction where their colours allow it.
    """
    rgba, material = scene.values["geom_rgba"].copy(), scene.values["geom_matid"].copy()
    state = rng.bit_generator.state
    for geom in geoms:
        rng.bit_generator.state = state
        rgba[geom, :3] = at_distance(scene.geom_color[geom], magnitude, _FARTHEST, rng)
        rgba[geom, 3] = scene.geom_opacity[geom]
        material[geom] = -1
    return Change({"geom_rgba": rgba, "geom_matid": material})


class _Paint:
    unit = "ΔE"
    magnitudes = (10.0, 20.0, 30.0, 40.0, _FARTHEST)


class TableColor(_Paint):
    """The wooden table top in plain paint."""

    name = "table_color"
    quantity = "colour of the table top (CIELAB, from its mean colour)"

    def draw(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """See `Shift`."""
        if not scene.table_geoms:
            raise UserError("shift table_color: this task has no table")
        return painted(scene, scene.table_geoms, magnitude, rng)


class ObjectColor(_Paint):
    """The manipulated object in another paint; everything else untouched."""

    name = "object_color"
    quantity = "colour of the manipulated object (CIELAB)"

    def draw(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """See `Shift`."""
        if not scene.object_geoms:
            raise UserError("shift object_color: this task has no object that moves")
        return painted(scene, scene.object_geoms, magnitude, rng)

"""Another colour on the manipulated object."""

from __future__ import annotations

import numpy as np

from .base import Change, Factor, Scene
from .color import at_distance

_FARTHEST = 75.0


class ObjectColor(Factor):
    """The manipulated object in another paint; everything else untouched.

    A thing of which only a part moves, such as a door or a drawer in its case, is painted whole. Its geoms leave
    their materials, which other things may share, and with them any texture. All colours move in one random
    direction where there is one that all can be shown in.
    """

    name = "object_color"
    quantity = "colour of the manipulated object (CIELAB)"
    unit = "ΔE"
    magnitudes = (15.0, 30.0, 45.0, 60.0, _FARTHEST)
    needs = "an object that moves"

    def lacks(self, scene: Scene) -> str | None:
        """See `Factor`."""
        return None if scene.object_geoms else "this task has no object that moves"

    def change(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """See `Factor`."""
        rgba, material = scene.values["geom_rgba"].copy(), scene.values["geom_matid"].copy()
        geoms = list(scene.object_geoms)
        rgba[geoms, :3] = at_distance(scene.geom_color[geoms], magnitude, _FARTHEST, rng)
        rgba[geoms, 3] = scene.geom_opacity[geoms]
        material[geoms] = -1
        return Change({"geom_rgba": rgba, "geom_matid": material})

"""How large the manipulated object is."""

from __future__ import annotations

import numpy as np

from .base import Change, Factor, Scene


class ObjectSize(Factor):
    """The loose objects m % larger or smaller, which is drawn from the seed; density and place stay.

    Physical: a gripper may no longer close around a larger object, so its success is read beside the expert's.
    Parts of a mechanism (drawers, doors, buttons) are left alone: Meta-World writes their goals in metres, and a
    scaled mechanism could not reach them.
    """

    name = "object_size"
    quantity = "size of the loose objects, larger or smaller"
    unit = "%"
    magnitudes = (5.0, 10.0, 15.0, 20.0, 30.0)
    physical = True
    needs = "an object that nothing holds"

    def lacks(self, scene: Scene) -> str | None:
        """See `Factor`."""
        return None if scene.loose_objects else "this task's object is part of a mechanism, which cannot be scaled"

    def change(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """See `Factor`."""
        return Change(object_scale=float(1 + magnitude / 100 * rng.choice((-1, 1))))

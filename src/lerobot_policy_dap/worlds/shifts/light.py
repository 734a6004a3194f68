"""Lamps: how bright, and from where."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from .base import Change, Scene

_LAMPS = ("light_ambient", "light_diffuse", "light_specular")
_HEADLIGHT = ("headlight_ambient", "headlight_diffuse", "headlight_specular")
_CENTRE = np.array([0.0, 0.6, 0.0])  # of the table, in metres


class LightIntensity:
    """All lamps 2^±m times as bright; darker or brighter is drawn from the seed."""

    name = "light_intensity"
    quantity = "brightness of every lamp, halved or doubled each stop"
    unit = "stops"
    magnitudes = (0.5, 1.0, 1.5, 2.0, 2.5)

    def draw(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """See `Shift`."""
        factor = 2.0 ** (magnitude * rng.choice((-1, 1)))
        return Change({name: scene.values[name] * factor for name in (*_LAMPS, *_HEADLIGHT)})


class LightDirection:
    """The lamps turn together about a horizontal axis through the table's centre, drawn from the seed.

    The camera's own fill light stays: it has no direction to turn.
    """

    name = "light_direction"
    quantity = "turn of the lamps about the table's centre"
    unit = "degrees"
    magnitudes = (15.0, 30.0, 45.0, 60.0, 75.0)

    def draw(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """See `Shift`."""
        heading = rng.uniform(0, 2 * np.pi)
        axis = np.array([np.cos(heading), np.sin(heading), 0.0])
        turn = Rotation.from_rotvec(np.deg2rad(magnitude) * axis)
        return Change(
            {
                "light_dir": turn.apply(scene.values["light_dir"]),
                "light_pos": _CENTRE + turn.apply(scene.values["light_pos"] - _CENTRE),
            }
        )

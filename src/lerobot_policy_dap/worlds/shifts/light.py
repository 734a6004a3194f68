"""Lamps: how bright, from where, and of what colour."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from .base import Array, Change, Factor, Scene
from .color import lamp_gains

_LAMPS = ("light_ambient", "light_diffuse", "light_specular")
_HEADLIGHT = ("headlight_ambient", "headlight_diffuse", "headlight_specular")
_LIGHT_ON_THE_TABLE = 1.25  # at most, in the untouched world, where 1 is white
_GAMMA = 2.1  # of sRGB around middling paints: d log light / d log value
_CENTRE = np.array([0.0, 0.6, 0.0])  # of the table, in metres


def _scaled(scene: Scene, gains: float | Array) -> dict[str, Array]:
    """Every lamp, ambient, diffuse and specular, times the gains."""
    return {name: scene.values[name] * gains for name in (*_LAMPS, *_HEADLIGHT)}


class LightIntensity(Factor):
    """All lamps 2^±m times as bright; darker or brighter is drawn from the seed.

    OpenGL clips light at white before it multiplies the texels, and the table has that much already. So where lamps
    are brighter, texels are brightened as well.
    """

    name = "light_intensity"
    quantity = "brightness of every lamp, halved or doubled each stop"
    unit = "stops"
    magnitudes = (0.25, 0.5, 0.75, 1.0, 1.25)
    directions: tuple[int, ...] = (-1, 1)

    def change(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """See `Factor`."""
        gain = float(2.0 ** (magnitude * rng.choice(self.directions)))
        brightened = {t: (gain * scene.palettes[t]).clip(0, 1) for t in scene.lit_textures} if gain > 1 else {}
        return Change(_scaled(scene, gain), brightened)


class LightDimmer(LightIntensity):
    """All lamps 2^-m times as bright."""

    name = "light_dimmer"
    quantity = "brightness of every lamp, halved each stop"
    magnitudes = (0.5, 1.0, 1.5, 2.0, 2.5)
    directions = (-1,)


class LightBrighter(LightIntensity):
    """All lamps 2^m times as bright."""

    name = "light_brighter"
    quantity = "brightness of every lamp, doubled each stop"
    directions = (1,)


class LightDirection(Factor):
    """The lamps turn together about a horizontal axis through the table's centre, drawn from the seed.

    The camera's own fill light stays: it has no direction to turn.
    """

    name = "light_direction"
    quantity = "turn of the lamps about the table's centre"
    unit = "degrees"
    magnitudes = (15.0, 30.0, 45.0, 60.0, 75.0)

    def change(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """See `Factor`."""
        heading = rng.uniform(0, 2 * np.pi)
        axis = np.array([np.cos(heading), np.sin(heading), 0.0])
        turn = Rotation.from_rotvec(np.deg2rad(magnitude) * axis)
        return Change(
            {
                "light_dir": turn.apply(scene.values["light_dir"]),
                "light_pos": _CENTRE + turn.apply(scene.values["light_pos"] - _CENTRE),
            }
        )


class LightColor(Factor):
    """Every lamp in the colour of a black body, warmer than the 6504 K of the untouched world.

    Warmer only: the Planckian locus turns so slowly above 6504 K that its far end, 25000 K, is a mild blue.
    OpenGL multiplies lamps and paints as sRGB values, so the gains of light are encoded about as those are; and it
    clips light at white, so they are scaled down until no channel is clipped on the table: warmer is dimmer too.
    """

    name = "light_color"
    quantity = "correlated colour temperature of every lamp"
    unit = "K"
    magnitudes = (5000.0, 4000.0, 3200.0, 2600.0, 2000.0)

    def change(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """See `Factor`."""
        gains = lamp_gains(magnitude) ** (1 / _GAMMA)
        return Change(_scaled(scene, gains / gains.max() / _LIGHT_ON_THE_TABLE))

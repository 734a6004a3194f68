"""The factors of shift. To add one: a file beside these, and a line in `_FACTORS`."""

from __future__ import annotations

from ...errors import UserError
from .base import Change, Factor, Scene
from .camera import CameraPose
from .camera_sensor import SensorBlur, SensorExposure, SensorJpeg, SensorNoise
from .combined import Combined
from .distractors import Distractors
from .light import LightBrighter, LightColor, LightDimmer, LightDirection, LightIntensity
from .paint import ObjectColor
from .size import ObjectSize
from .surfaces import BackgroundColor, TableColor, TextureContrast

CLEAN = "none"
"""The name of no shift."""

_FACTORS: tuple[Factor, ...] = (
    LightIntensity(),
    LightDimmer(),
    LightBrighter(),
    LightDirection(),
    LightColor(),
    TableColor(),
    BackgroundColor(),
    TextureContrast(),
    ObjectColor(),
    Distractors(),
    CameraPose(),
    SensorBlur(),
    SensorExposure(),
    SensorNoise(),
    SensorJpeg(),
    ObjectSize(),
)
_HALVES = ("light_dimmer", "light_brighter")
"""The two directions of `light_intensity`, each as a factor of its own."""
_VISUAL = [factor for factor in _FACTORS if not factor.physical and factor.name not in _HALVES]
# The grain first: brighter and recoloured texels are clipped, and then there may be none left to stretch.
_EVERYTHING = Combined(*sorted(_VISUAL, key=lambda f: not isinstance(f, TextureContrast)), name="combined")

SHIFTS: dict[str, Factor] = {factor.name: factor for factor in (*_FACTORS, _EVERYTHING)}


def check_shift(name: str, severity: int) -> None:
    """Raises `UserError` unless `name` is a shift, or "none", and `severity` one of its levels."""
    if name != CLEAN and name not in SHIFTS:
        raise UserError(f"unknown shift {name!r}; choose one of: {', '.join([CLEAN, *SHIFTS])}")
    if isinstance(severity, bool) or severity not in range(6):
        raise UserError(f"severity is {severity!r}; it must be a whole number from 0 (untouched) to 5")


def draw(name: str, severity: int, scene: Scene, seed: int) -> Change:
    """The change that an episode's seed gives; nothing at severity 0 or for "none"."""
    check_shift(name, severity)
    if name == CLEAN or severity == 0:
        return Change()
    return SHIFTS[name].draw(scene, severity, seed)


__all__ = ["CLEAN", "SHIFTS", "Change", "Combined", "Factor", "Scene", "check_shift", "draw"]

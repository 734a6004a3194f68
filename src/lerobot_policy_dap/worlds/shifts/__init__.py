"""The factors of visual shift. To add one: a file beside these, and a line in `SHIFTS`."""

from __future__ import annotations

import zlib

import numpy as np

from ...errors import UserError
from .base import Change, Scene, Shift
from .distractors import Distractors
from .light import LightDirection, LightIntensity
from .paint import ObjectColor, TableColor

CLEAN = "none"
"""The name of no shift."""

SHIFTS: dict[str, Shift] = {
    shift.name: shift for shift in (LightIntensity(), LightDirection(), TableColor(), ObjectColor(), Distractors())
}


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
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return SHIFTS[name].draw(scene, SHIFTS[name].magnitudes[severity - 1], rng)


__all__ = ["CLEAN", "SHIFTS", "Change", "Scene", "Shift", "check_shift", "draw"]

"""The image-space factors, five graded severities each. To add one: a line in `FACTORS`.

Severity fixes the magnitude. What a factor draws (a place, a pattern) follows from the seed, the episode and the
camera, and is the same at every severity; severity 0 is the untouched frame.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..worlds.shifts import sensor
from . import occlusion

Frame = NDArray[np.uint8]
Effect = Callable[[Frame, float, np.random.Generator], Frame]

CLEAN = "clean"
"""The name of no factor."""


@dataclass(frozen=True)
class Factor:
    """One way in which a picture differs."""

    name: str
    quantity: str
    """What is changed, in a few words."""
    unit: str
    magnitudes: tuple[float, float, float, float, float]
    """In `unit`, for severities 1 to 5."""
    effect: Effect
    lasts: bool = True
    """Whether a whole episode shares what is drawn, as it does a dirty lens; noise is new in every frame."""

    def shift(self, frames: Frame, severity: int, seed: int, camera: str, episode: int, frame: int) -> Frame:
        """The frames `[T, H, W, 3]` that one camera showed up to `frame` of an episode, shifted; a new array."""
        if severity == 0:
            return frames.copy()
        magnitude = self.magnitudes[severity - 1]
        key = [seed, zlib.crc32(self.name.encode()), zlib.crc32(camera.encode()), episode]
        if self.lasts:
            return np.stack([self.effect(image, magnitude, np.random.default_rng(key)) for image in frames])
        rng = np.random.default_rng([*key, frame])
        return np.stack([self.effect(image, magnitude, rng) for image in frames])


def _blur_by_height(frame: Frame, percent: float, rng: np.random.Generator) -> Frame:
    """Cameras differ in size: the same share of the height is the same loss of detail."""
    return sensor.blur(frame, percent / 100 * frame.shape[0], rng)


FACTORS: dict[str, Factor] = {
    factor.name: factor
    for factor in (
        Factor("darker", "exposure", "stops", (-0.5, -1.0, -1.5, -2.0, -2.5), sensor.exposure),
        Factor("brighter", "exposure", "stops", (0.5, 1.0, 1.5, 2.0, 2.5), sensor.exposure),
        Factor(
            "lower_contrast", "contrast about the mean grey", "×", (0.85, 0.7, 0.55, 0.4, 0.25), sensor.contrast
        ),
        Factor(
            "higher_contrast", "contrast about the mean grey", "×", (1.25, 1.5, 1.75, 2.0, 2.5), sensor.contrast
        ),
        Factor(
            "warmer",
            "colour temperature of the light (clean: 6504)",
            "K",
            (5500.0, 4500.0, 3700.0, 3000.0, 2500.0),
            sensor.colour_temperature,
        ),
        Factor(
            "cooler",
            "colour temperature of the light (clean: 6504)",
            "K",
            (7500.0, 9000.0, 11_000.0, 14_000.0, 20_000.0),
            sensor.colour_temperature,
        ),
        Factor(
            "noise",
            "σ of Gaussian noise",
            "of 255",
            (5.0, 10.0, 20.0, 35.0, 50.0),
            sensor.noise,
            lasts=False,
        ),
        Factor("blur", "σ of Gaussian blur", "% of height", (0.5, 1.0, 1.5, 2.0, 3.0), _blur_by_height),
        Factor("jpeg", "quality of JPEG compression", "of 100", (60.0, 40.0, 25.0, 15.0, 8.0), sensor.jpeg),
        Factor(
            "patches",
            "share of the image behind opaque patches",
            "%",
            (2.0, 5.0, 10.0, 20.0, 30.0),
            occlusion.patches,
        ),
        Factor(
            "shadow",
            "light left in a soft shadow over a third of the image",
            "%",
            (80.0, 60.0, 45.0, 30.0, 20.0),
            occlusion.shadow,
        ),
    )
}


def check_factors(names: tuple[str, ...], severities: tuple[int, ...]) -> None:
    """Raises `UserError` unless all are factors, and all severities levels from 0 (untouched) to 5."""
    for name in names:
        if name not in FACTORS:
            raise UserError(f"unknown factor {name!r}; choose among: {', '.join(FACTORS)}, or all")
    for severity in severities:
        if severity not in range(6):
            raise UserError(f"severity is {severity}; it must be a whole number from 0 (untouched) to 5")
    if not names or not severities:
        raise UserError("nothing to probe: give at least one --factor and one --severity")

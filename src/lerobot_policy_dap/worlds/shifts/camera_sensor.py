"""Factors of the camera's sensor and of what carries its pictures: they act on rendered frames."""

from __future__ import annotations

import numpy as np

from . import sensor
from .base import Change, Factor, FrameEffect, Scene

BLUR_HEIGHT = 84
"""Blur is stated in pixels of a frame this high, so that a larger frame shows the same blur."""


class SensorNoise(Factor):
    """Gaussian noise on every pixel and channel, new in every step."""

    name = "sensor_noise"
    quantity = "standard deviation of the sensor's noise"
    unit = "8-bit levels"
    magnitudes = (4.0, 8.0, 15.0, 25.0, 40.0)

    def change(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """See `Factor`."""
        return Change(frame_effects=(FrameEffect(sensor.noise, magnitude),))


class SensorBlur(Factor):
    """Gaussian blur, as of a lens out of focus."""

    name = "sensor_blur"
    quantity = f"standard deviation of the blur, in pixels of a frame {BLUR_HEIGHT} high"
    unit = "px"
    magnitudes = (0.5, 0.8, 1.2, 1.8, 2.5)

    def change(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """See `Factor`."""
        return Change(frame_effects=(FrameEffect(sensor.blur, magnitude, BLUR_HEIGHT),))


class SensorJpeg(Factor):
    """Frames that went through JPEG, colour at half resolution."""

    name = "sensor_jpeg"
    quantity = "quality of the JPEG that carries the frames (libjpeg's scale; lower is worse)"
    unit = "quality"
    magnitudes = (60.0, 40.0, 25.0, 15.0, 8.0)

    def change(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """See `Factor`."""
        return Change(frame_effects=(FrameEffect(sensor.jpeg, magnitude),))


class SensorExposure(Factor):
    """Exposed too long or too short, which is drawn from the seed; in linear light, clipped at white."""

    name = "sensor_exposure"
    quantity = "exposure too long or too short, doubled or halved each stop"
    unit = "stops"
    magnitudes = (0.5, 1.0, 1.5, 2.0, 2.5)

    def change(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """See `Factor`."""
        return Change(frame_effects=(FrameEffect(sensor.exposure, float(magnitude * rng.choice((-1, 1)))),))

"""What a camera does to a picture: pure functions of uint8 frames `[H, W, 3]`, for simulators and recordings alike.

Every function takes (frame, magnitude, generator) and returns a new frame of the same shape; only `noise` draws
from the generator. Light is scaled where it adds up, in linear sRGB (IEC 61966-2-1); values that leave the range
are clipped, as a sensor clips them.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .color import from_linear, lamp_gains, to_linear

Frame = NDArray[np.uint8]

_LEVELS = np.arange(256) / 255
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow and torchvision


def noise(frame: Frame, sigma: float, rng: np.random.Generator) -> Frame:
    """Gaussian noise of standard deviation `sigma` in 8-bit units, independent for each pixel and channel."""
    drawn = rng.standard_normal(frame.shape, np.float32)
    return _to_8_bit(frame + np.float32(sigma) * drawn)


def blur(frame: Frame, sigma_px: float, rng: np.random.Generator) -> Frame:
    """Gaussian blur of standard deviation `sigma_px` in pixels; the border is mirrored."""
    if sigma_px == 0:
        return frame.copy()
    blurred = cv2.GaussianBlur(frame, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, np.uint8)


def jpeg(frame: Frame, quality: float, rng: np.random.Generator) -> Frame:
    """Saved as JPEG of libjpeg's `quality`, 1 (worst) to 95, with colour at half resolution, and read again."""
    content = io.BytesIO()
    Image.fromarray(frame).save(content, "JPEG", quality=round(quality), subsampling="4:2:0")
    return np.array(Image.open(content).convert("RGB"))


def exposure(frame: Frame, stops: float, rng: np.random.Generator) -> Frame:
    """2^`stops` times the light; negative stops are an exposure too short."""
    return _curve(from_linear(2.0**stops * to_linear(_LEVELS)))[frame]


def colour_temperature(frame: Frame, kelvin: float, rng: np.random.Generator) -> Frame:
    """The scene in the light of a black body at `kelvin` in place of one at 6504 K, at the same luminance.

    The camera's white balance stays: white turns orange below 6504 K and blue above. From 1667 to 25000 K.
    """
    light = to_linear(_LEVELS)[:, None] * lamp_gains(kelvin)
    table = _curve(from_linear(light))
    return np.stack([table[frame[..., c], c] for c in range(3)], axis=-1)


def brightness(frame: Frame, factor: float, rng: np.random.Generator) -> Frame:
    """8-bit values times `factor`, as Pillow's and torchvision's brightness."""
    return _curve(factor * _LEVELS)[frame]


def contrast(frame: Frame, factor: float, rng: np.random.Generator) -> Frame:
    """8-bit values `factor` times as far from the frame's mean grey, as Pillow's and torchvision's contrast."""
    grey = float((frame @ _LUMA).mean()) / 255
    return _curve(grey + factor * (_LEVELS - grey))[frame]


def _curve(values: NDArray[np.floating]) -> Frame:
    """A table from 8-bit values to 8-bit values, of `values` in [0, 1] and beyond."""
    return _to_8_bit(255 * values)


def _to_8_bit(values: NDArray[np.floating]) -> Frame:
    rounded: Frame = np.rint(values).clip(0, 255).astype(np.uint8)
    return rounded

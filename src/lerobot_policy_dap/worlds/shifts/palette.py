"""Textures as a few distinct colours and which texel has which: recolouring is then a matter of the colours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_TEXEL = np.dtype("V3")


@dataclass(frozen=True, eq=False)
class Indexed:
    """A texture of N distinct colours and P texels."""

    colors: NDArray[np.float64]
    """sRGB `[N, 3]` in [0, 1]."""
    index: NDArray[np.intp]
    """`[P]`, the colour of each texel."""
    counts: NDArray[np.float64]
    """`[N]`, the texels of each colour."""
    mean: NDArray[np.float64]
    """sRGB `[3]`, over the texels."""

    def with_colors(self, colors: NDArray[np.floating]) -> bytes:
        """The texels, 3 bytes each, with other colours `[N, 3]`."""
        rounded = np.rint(255 * np.asarray(colors)).clip(0, 255).astype(np.uint8)
        texels: bytes = rounded.view(_TEXEL)[:, 0][self.index].tobytes()  # three bytes at once
        return texels


@lru_cache(maxsize=32)
def indexed(texels: bytes, channels: int) -> Indexed:
    """The texture of these texels; cached, since all tasks share their table and floor.

    Raises:
        ValueError: texels are not of 3 channels.
    """
    if channels != 3:
        raise ValueError(f"a texture of {channels} channels is not sRGB")
    values = np.frombuffer(texels, np.uint8).reshape(-1, 3)
    codes = values @ np.array([1 << 16, 1 << 8, 1], np.int32)
    distinct, index, counts = np.unique(codes, return_inverse=True, return_counts=True)
    colors = np.stack([distinct >> 16, distinct >> 8 & 255, distinct & 255], axis=1) / 255
    return Indexed(colors, index, counts.astype(np.float64), values.mean(axis=0) / 255)

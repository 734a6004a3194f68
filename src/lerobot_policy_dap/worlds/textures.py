"""Other texels for a rendering context's textures, without uploading them again for every frame."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

_KEPT = 16
"""Versions of a texture kept in the context: worlds that are rendered in turn each have theirs."""


@dataclass(frozen=True, eq=False)
class Bitmap:
    """Other texels for one of the model's textures."""

    texture: int
    texels: bytes
    """As in the model's `tex_data`."""


class TextureSwitch:
    """Points a MuJoCo context at other textures of the same sizes.

    An upload takes about 10 ms, more than a frame: each version is uploaded once and kept under an OpenGL name.

    Args:
        model: whose texels are overwritten, and nothing else of it.
        context: made of this model.
    """

    def __init__(self, model: Any, context: Any) -> None:
        self._model, self._context = model, context
        self._first = {int(texture): int(context.texture[texture]) for texture in range(model.ntex)}
        self._names: dict[int, OrderedDict[bytes, int]] = {}

    def show(self, bitmaps: tuple[Bitmap, ...]) -> None:
        """What is rendered next has these textures, and the model's own for all others."""
        for texture in self._names:
            self._context.texture[texture] = self._first[texture]
        for bitmap in bitmaps:
            self._context.texture[bitmap.texture] = self._name(bitmap)

    def close(self) -> None:
        """Forgets every version but the model's own, which goes with the context."""
        self.show(())
        kept = [name for names in self._names.values() for name in names.values()]
        self._names.clear()
        if kept:
            from OpenGL import GL  # type: ignore[import-untyped]

            GL.glDeleteTextures(kept)

    def _name(self, bitmap: Bitmap) -> int:
        from OpenGL import GL

        names = self._names.setdefault(bitmap.texture, OrderedDict())
        if bitmap.texels not in names:
            name = names.popitem(last=False)[1] if len(names) >= _KEPT else int(GL.glGenTextures(1))
            self._upload(bitmap, name)
            names[bitmap.texels] = name
        names.move_to_end(bitmap.texels)
        return names[bitmap.texels]

    def _upload(self, bitmap: Bitmap, name: int) -> None:
        import mujoco

        first = int(self._model.tex_adr[bitmap.texture])
        self._model.tex_data[first : first + len(bitmap.texels)] = np.frombuffer(bitmap.texels, np.uint8)
        self._context.texture[bitmap.texture] = name
        mujoco.mjr_uploadTexture(self._model, self._context, bitmap.texture)

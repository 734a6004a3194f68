"""Offscreen rendering without a display: one GL context a process, frames only when asked for."""

from __future__ import annotations

import atexit
import os
import sys
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .textures import Bitmap, TextureSwitch

if sys.platform == "linux" and not os.environ.get("MUJOCO_GL"):
    os.environ["MUJOCO_GL"] = "egl"  # read when mujoco is imported, below

# `corner2` is mounted upside down in Meta-World.
_UPSIDE_DOWN = ("corner2",)
_MAX_GEOMS = 4000


@dataclass(frozen=True)
class RenderSettings:
    """What a frame looks like and costs. Training data and evaluation must share one setting.

    The defaults leave out multisampling, shadows and reflections: a frame is ten times cheaper on a CPU.
    """

    width: int = 84
    height: int = 84
    samples: int = 0
    """Samples a pixel for anti-aliasing."""
    shadows: bool = False
    reflections: bool = False

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            size = getattr(self, name)
            if isinstance(size, bool) or not isinstance(size, int) or not 16 <= size <= 1024:
                raise UserError(f"image {name} is {size!r}; it must be a whole number from 16 to 1024 pixels")
        if isinstance(self.samples, bool) or self.samples not in (0, 2, 4, 8, 16):
            raise UserError(f"samples is {self.samples!r}; it must be 0, 2, 4, 8 or 16")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class VisualGeom:
    """An object that is seen and not felt: added to the rendered scene, absent from physics."""

    kind: str
    """`box`, `sphere`, `cylinder`, `capsule` or `ellipsoid`"""
    size: tuple[float, float, float]
    """MuJoCo's half sizes in metres."""
    position: tuple[float, float, float]
    """Centre in metres, world frame."""
    yaw: float
    """Rotation about the vertical in radians."""
    rgba: tuple[float, float, float, float]


@cache
def require_backend() -> None:
    """Raises `UserError` with the package to install where no frame can be rendered."""
    try:
        _gl()
    except Exception as error:
        backend = os.environ.get("MUJOCO_GL", "default")
        # MuJoCo's half-made context complains from its destructor, through Python's hook for such errors.
        sys.unraisablehook = lambda *_: None
        raise UserError(
            f"cannot render: MUJOCO_GL={backend} gives no context ({type(error).__name__}); install software "
            "rendering with: sudo apt-get install libegl1 libgl1-mesa-dri (or libosmesa6, for MUJOCO_GL=osmesa)"
        ) from error


@cache
def _gl() -> Any:
    import mujoco

    # By name: had MuJoCo been imported before us, its own default would be GLFW, which needs a display.
    if sys.platform == "linux" and os.environ["MUJOCO_GL"].lower().strip() == "egl":
        from mujoco.egl import GLContext
    else:
        GLContext = mujoco.GLContext
    context = GLContext(64, 64)
    context.make_current()
    # GLFW without a display only warns: whether GL works shows when MuJoCo first uses it.
    mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), mujoco.mjtFontScale.mjFONTSCALE_100).free()
    atexit.register(context.free)  # before EGL shuts down, or its destructor complains
    return context


class SceneRenderer:
    """Renders any number of worlds of one task through one context, which holds their meshes and textures.

    Args:
        model: a MuJoCo model; the worlds rendered later must share its meshes and textures.
        samples: samples a pixel.
    """

    def __init__(self, model: Any, samples: int) -> None:
        import mujoco

        require_backend()
        _gl().make_current()
        kept = model.vis.quality.offsamples
        model.vis.quality.offsamples = samples
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        self._textures = TextureSwitch(model, self._context)
        model.vis.quality.offsamples = kept
        self._scene = mujoco.MjvScene(model, maxgeom=_MAX_GEOMS)
        self._options = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED

    def render(
        self,
        model: Any,
        data: Any,
        camera: str,
        settings: RenderSettings,
        extra: tuple[VisualGeom, ...] = (),
        bitmaps: tuple[Bitmap, ...] = (),
    ) -> NDArray[np.uint8]:
        """A frame `[H, W, 3]` of the model in its present state, with objects and texels that it does not have."""
        import mujoco

        _gl().make_current()
        wide, high = settings.width, settings.height
        if self._context.offWidth < wide or self._context.offHeight < high:
            mujoco.mjr_resizeOffscreen(
                max(wide, self._context.offWidth), max(high, self._context.offHeight), self._context
            )
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._camera.fixedcamid = model.camera(camera).id
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(model, data, self._options, None, self._camera, everything, self._scene)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = settings.shadows
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = settings.reflections
        for geom in extra:
            self._add(geom)
        self._textures.show(bitmaps)
        rect = mujoco.MjrRect(0, 0, wide, high)
        mujoco.mjr_render(rect, self._scene, self._context)
        frame = np.empty((high, wide, 3), np.uint8)
        mujoco.mjr_readPixels(frame, None, rect, self._context)
        upright = frame[::-1]  # OpenGL's first row is the lowest
        return np.ascontiguousarray(upright[::-1, ::-1] if camera in _UPSIDE_DOWN else upright)

    def close(self) -> None:
        """Frees what the context holds; nothing is rendered through it any more."""
        _gl().make_current()
        self._textures.close()
        self._context.free()

    def _add(self, geom: VisualGeom) -> None:
        import mujoco

        slot = self._scene.geoms[self._scene.ngeom]
        c, s = np.cos(geom.yaw), np.sin(geom.yaw)
        mujoco.mjv_initGeom(
            slot,
            getattr(mujoco.mjtGeom, f"mjGEOM_{geom.kind.upper()}"),
            np.asarray(geom.size, np.float64),
            np.asarray(geom.position, np.float64),
            np.array([c, -s, 0, s, c, 0, 0, 0, 1], np.float64),
            np.asarray(geom.rgba, np.float32),
        )
        slot.category = mujoco.mjtCatBit.mjCAT_DECOR
        self._scene.ngeom += 1

"""Frames of a world, and what their pixels show."""

import numpy as np
from numpy.typing import NDArray

import lerobot_policy_dap
from lerobot_policy_dap.worlds.rendering import RenderSettings, VisualGeom
from lerobot_policy_dap.worlds.world import World, _renderer

ROOM_ALONE = f"""
import sys, types
package = sys.modules["lerobot_policy_dap"] = types.ModuleType("lerobot_policy_dap")
package.__path__ = {list(lerobot_policy_dap.__path__)!r}
"""
"""Code for a fresh process: makes `worlds` importable without the policy, whose imports take ten seconds."""


def geoms_seen(
    world: World, extra: tuple[VisualGeom, ...] = (), size: int = 84, scale: float = 1.0
) -> NDArray[np.int64]:
    """What each pixel of corner2 shows, [size, size]: a geom id, -1 for anything else, -2 - k for extra geom k."""
    import mujoco

    renderer = _renderer(world.task, 0, scale)
    scene, add = renderer._scene, renderer._add
    flags = (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR)

    def add_with_id(geom: VisualGeom) -> None:
        add(geom)
        scene.geoms[scene.ngeom - 1].segid = scene.ngeom - 1

    renderer._add = add_with_id  # type: ignore[method-assign]
    for flag in flags:
        scene.flags[flag] = 1
    try:
        settings = RenderSettings(size, size)
        colours = renderer.render(world._env.model, world._env.data, "corner2", settings, extra)
    finally:
        renderer._add = add  # type: ignore[method-assign]
        for flag in flags:
            scene.flags[flag] = 0
    ids = np.full(scene.ngeom + 1, -1)  # MuJoCo writes segid + 1, and 0 for the background: index -1 stays -1
    for index, geom in enumerate(scene.geoms[: scene.ngeom]):
        if index >= scene.ngeom - len(extra):
            ids[geom.segid] = -2 - (index - (scene.ngeom - len(extra)))
        elif geom.objtype == mujoco.mjtObj.mjOBJ_GEOM:
            ids[geom.segid] = geom.objid
    return ids[colours.astype(np.int64) @ np.array([1, 1 << 8, 1 << 16]) - 1]


def frame(world: World, shift: str, severity: int, seed: int = 0, size: int = 84) -> NDArray[np.uint8]:
    """The first frame of an episode."""
    world.set_shift(shift, severity)
    world.reset(seed)
    return world.render(settings=RenderSettings(size, size))

"""A model with its loose objects larger or smaller: the one shift that physics feels."""

from __future__ import annotations

from typing import Any

import numpy as np


def scaled_model(path: str, bodies: tuple[str, ...], scale: float) -> Any:
    """The model of an XML file in which some bodies are `scale` times as large, of the same density.

    A body grows about the point of its frame's axis on which it stands, so that it stands where it stood. The
    names and the order of everything are those of the unscaled model.

    Args:
        path: the MJCF file.
        bodies: names of bodies; everything that hangs on them is scaled with them.
        scale: of lengths; masses grow with its cube.
    """
    import mujoco

    first = mujoco.MjModel.from_xml_path(path)
    spec = mujoco.MjSpec.from_file(path)
    scaled: set[str] = set()
    for name in bodies:
        root = spec.body(name)
        _scale_inside(spec, root, scale, scaled)
        _raise(root, (1 - scale) * _lowest(first, name))
    return spec.compile()


def _scale_inside(spec: Any, body: Any, scale: float, scaled: set[str]) -> None:
    body.ipos, body.mass, body.inertia = body.ipos * scale, body.mass * scale**3, body.inertia * scale**5
    body.fullinertia = body.fullinertia * scale**5
    for geom in body.geoms:
        geom.pos, geom.size, geom.mass = geom.pos * scale, geom.size * scale, geom.mass * scale**3
        geom.fromto = geom.fromto * scale
        if geom.meshname and geom.meshname not in scaled:
            scaled.add(geom.meshname)
            mesh = spec.mesh(geom.meshname)
            mesh.scale = mesh.scale * scale
    for site in body.sites:
        site.pos, site.size = site.pos * scale, site.size * scale
    for joint in body.joints:
        joint.pos = joint.pos * scale
    for child in body.bodies:
        child.pos = child.pos * scale
        _scale_inside(spec, child, scale, scaled)


def _raise(body: Any, height: float) -> None:
    up = np.array([0, 0, height])
    body.ipos = body.ipos + up
    for part in (*body.geoms, *body.sites, *body.bodies):
        part.pos = part.pos + up
    for geom in body.geoms:
        geom.fromto = geom.fromto + np.tile(up, 2)  # not a number where it is not used, and stays so


def _lowest(model: Any, name: str) -> float:
    """Height in metres of the lowest point of a body and what hangs on it, in the body's frame, which is upright."""
    import mujoco

    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    root = model.body(name).id
    lows = []
    for geom in range(model.ngeom):
        if model.body_rootid[model.geom_bodyid[geom]] != root:
            continue
        centre, half = np.split(model.geom_aabb[geom], 2)
        turn = data.geom_xmat[geom].reshape(3, 3)
        lows.append(data.geom_xpos[geom][2] + (turn @ centre)[2] - (np.abs(turn) @ half)[2])
    return float(min(lows) - data.xpos[root][2])

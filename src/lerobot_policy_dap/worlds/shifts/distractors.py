"""Things on the table that have nothing to do with the task."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ...errors import UserError
from ..rendering import VisualGeom
from .base import Array, Change, Factor, Scene

CLEARANCE = 0.04
"""Least distance in metres from a distractor's rim to the task's things and to other distractors."""
PATH_CLEARANCE = 0.10
"""Least distance in metres from a distractor's rim to the gripper's path, seen from above."""

_TABLE = ((-0.62, 0.27), (0.62, 0.93))  # the part of the table top inside its rim, in metres
_CANDIDATES = 4000
_POINTS_A_LEG = 12  # of the gripper's path, a few centimetres apart
_MARGIN = 0.01  # between a distractor and what it must not cover, in half images
_KINDS = ("box", "sphere", "cylinder", "capsule", "ellipsoid")


class Distractors(Factor):
    """Solid objects of several shapes and colours, 4 to 10 cm wide, standing on the table in sight of a camera.

    They are drawn and not simulated: nothing can touch them. None stands on the task's things, its goal or the
    gripper's way between them, nor covers one of them in a camera's first frame. The objects of a lower severity are
    the first ones of a higher. Cameras that the robot carries are not asked: what they see changes as it moves.
    """

    name = "distractors"
    quantity = "objects that have nothing to do with the task"
    unit = "objects"
    magnitudes = (1.0, 2.0, 4.0, 6.0, 8.0)

    needs = "room on the table"

    def change(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """See `Factor`."""
        spots = rng.uniform(*_TABLE, size=(_CANDIDATES, 2))
        sizes = rng.uniform(0.02, 0.05, size=(_CANDIDATES, 3))
        kinds = rng.choice(_KINDS, size=_CANDIDATES)
        colors = rng.uniform(0.05, 0.95, size=(_CANDIDATES, 3))
        yaws = rng.uniform(0, np.pi, size=_CANDIDATES)
        way = _way(scene)
        placed: list[VisualGeom] = []
        taken: list[tuple[Array, float]] = []
        solids = scene.solids
        for spot, size, kind, color, yaw in zip(spots, sizes, kinds, colors, yaws, strict=True):
            geom = _standing(str(kind), size, spot, float(yaw), color, scene.table_height)
            rim = footprint_radius(geom)
            if not _is_free(scene, spot, rim):
                continue
            if any(np.linalg.norm(spot - other) < rim + radius + CLEARANCE for other, radius in taken):
                continue
            if not _in_sight(scene, geom, solids, way):
                continue
            placed.append(geom)
            taken.append((spot, rim))
            solids = np.concatenate([solids, _box(geom)[None]])
            if len(placed) == int(magnitude):
                return Change(geoms=tuple(placed))
        raise UserError(f"shift distractors: the table has room for {len(placed)} of {int(magnitude)} objects")


def footprint_radius(geom: VisualGeom) -> float:
    """Radius in metres of the circle on the table that contains the object."""
    x, y, _ = geom.size
    return float(np.hypot(x, y)) if geom.kind == "box" else max(x, y if geom.kind == "ellipsoid" else x)


def _standing(kind: str, size: Array, spot: Array, yaw: float, color: Array, floor: float) -> VisualGeom:
    x, y, z = (float(v) for v in size)
    half = {"box": (x, y, z), "sphere": (x, x, x), "cylinder": (x, x, z), "capsule": (0.6 * x, 0.6 * x, z)}
    dims = half.get(kind, (x, y, z))
    height = floor + dims[2] + (dims[0] if kind == "capsule" else 0)
    rgba = (float(color[0]), float(color[1]), float(color[2]), 1.0)
    return VisualGeom(kind, dims, (float(spot[0]), float(spot[1]), height), yaw, rgba)


def _is_free(scene: Scene, spot: Array, rim: float) -> bool:
    low, high = scene.things[:, 0, :2], scene.things[:, 1, :2]
    outside = np.maximum(np.maximum(low - spot, spot - high), 0)
    if (np.linalg.norm(outside, axis=1) < rim + CLEARANCE).any():
        return False
    points = [np.asarray(p[:2]) for p in scene.path]
    legs = list(pairwise(points)) or [(p, p) for p in points]
    return all(distance_to_segment(spot, a, b) >= rim + PATH_CLEARANCE for a, b in legs)


def _way(scene: Scene) -> Array:
    """Points `[N, 3]` along the gripper's path."""
    points = np.array(scene.path).reshape(-1, 3)
    part = np.linspace(0, 1, _POINTS_A_LEG)[:, None]
    return np.concatenate([points, *((1 - part) * a + part * b for a, b in pairwise(points))])


def distance_to_segment(point: Array, a: Array, b: Array) -> float:
    """Distance in metres from a point `[2]` to the segment between `a` and `b`."""
    along = b - a
    length = float(along @ along)
    part = float(np.clip((point - a) @ along / length, 0, 1)) if length > 0 else 0.0
    return float(np.linalg.norm(point - a - part * along))


def _in_sight(scene: Scene, geom: VisualGeom, solids: Array, way: Array) -> bool:
    """Whether a camera has the object's centre inside its image with a free view of it, and it hides nothing."""
    if not scene.views:
        return True
    centre, box = np.array(geom.position), _box(geom)
    middles = solids.mean(axis=1)
    seen = False
    for view, eye in zip(scene.views, scene.eyes, strict=True):
        right, up, depth = view @ np.array([*centre, 1.0])
        inside = depth > 0 and max(abs(right), abs(up)) < 0.9 * depth
        seen |= bool(inside and not _blocked(eye, centre, solids).any())
        if any(_blocked(eye, thing, box[None]).any() for thing in middles):
            return False
        if _hides(view, eye, box, np.concatenate([scene.things, np.stack([way, way], axis=1)])):
            return False
    return seen


def _hides(view: Array, eye: Array, box: Array, things: Array) -> bool:
    """Whether the box may cover a part of a thing behind it: whether the rectangles around them in the image meet."""
    low, high = _rectangles(view, box[None])
    their_low, their_high = _rectangles(view, things)
    meets = ((low <= their_high + _MARGIN) & (their_low <= high + _MARGIN)).all(axis=1)
    nearest = np.linalg.norm(_corners(box[None]) - eye, axis=2).min()
    behind = np.linalg.norm(_corners(things) - eye, axis=2).max(axis=1) > nearest
    return bool((meets & behind).any())


def _corners(boxes: Array) -> Array:
    """`[N, 8, 3]` of boxes (low, high) `[N, 2, 3]`."""
    which = np.indices((2, 2, 2)).reshape(3, 8)
    corners: Array = np.stack([boxes[:, which[axis], axis] for axis in range(3)], axis=2)
    return corners


def _rectangles(view: Array, boxes: Array) -> tuple[Array, Array]:
    """Low and high corners `[N, 2]` of the boxes in the image, in half images; everything for one behind the eye."""
    seen = np.concatenate([_corners(boxes), np.ones((len(boxes), 8, 1))], axis=2) @ view.T
    depth = seen[..., 2:]
    places = np.where(depth > 0, seen[..., :2] / np.where(depth > 0, depth, 1), np.nan)
    return (
        np.nan_to_num(places.min(axis=1), nan=-np.inf),
        np.nan_to_num(places.max(axis=1), nan=np.inf),
    )


def _box(geom: VisualGeom) -> Array:
    """A box (low, high) around the object, `[2, 3]`, metres."""
    rim = footprint_radius(geom)
    tall = geom.size[2] + (geom.size[0] if geom.kind == "capsule" else 0)
    centre, half = np.array(geom.position), np.array([rim, rim, tall])
    return np.stack([centre - half, centre + half])


def _blocked(eye: Array, point: Array, boxes: Array) -> Array:
    """For each box `[N, 2, 3]`, whether it is on the way from `eye` to `point` and not around it (slab test)."""
    way = np.where(np.abs(point - eye) < 1e-9, 1e-9, point - eye)
    near, far = np.sort((boxes - eye) / way, axis=1).transpose(1, 0, 2)
    enters, leaves = near.max(axis=1), far.min(axis=1)
    ends_inside = ((boxes[:, 0] <= point) & (point <= boxes[:, 1])).all(axis=1)
    blocked: Array = (enters < leaves) & (enters > 0) & (enters < 1) & ~ends_inside
    return blocked

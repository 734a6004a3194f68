"""From a model to the scene a shift may read, and from a change back into the model.

Everything is written over the model's *first* values, so nothing adds up over episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Array, Change, Scene

_MODEL_FIELDS = (
    "light_ambient",
    "light_diffuse",
    "light_specular",
    "light_dir",
    "light_pos",
    "geom_rgba",
    "geom_matid",
)
_HEADLIGHT_FIELDS = ("ambient", "diffuse", "specular")
_VISIBLE_GROUPS = (0, 1, 2)  # MuJoCo draws these by default; Meta-World keeps collision shapes in group 4
_TABLE_MATERIAL, _TABLE_BODY, _RIM_BODY = "table_wood", "tablelink", "RetainingWall"
_DEFAULT_GREY = np.array([0.5, 0.5, 0.5, 1], np.float32)
_TEXTURE_ROLE_RGB = 1  # mjtTextureRole.mjTEXROLE_RGB


class ModelPainter:
    """Reads and writes the visual arrays of one model.

    Args:
        model, data: MuJoCo's, just constructed: its arrays as they are now are the untouched ones.
        cameras: in whose sight things count as visible.
    """

    def __init__(self, model: Any, data: Any, cameras: tuple[str, ...]) -> None:
        self._model, self._data, self._cameras = model, data, cameras
        self._first = {name: np.copy(array) for name, array in self._arrays().items()}
        self._colors = _geom_colors(model)
        robot = model.body_rootid[model.body("hand").id]
        visible = [g for g in range(model.ngeom) if model.geom_group[g] in _VISIBLE_GROUPS]
        self._table = tuple(g for g in visible if _is_table_top(model, g))
        task = [g for g in visible if _belongs_to_task(model, g, robot)]
        self._task_geoms = tuple(task)
        self._solids = [g for g in visible if g not in self._table and model.geom_type[g] != 0]
        self._opacity = _geom_opacity(model)
        self._objects = tuple(g for g in task if _moves(model, model.geom_bodyid[g]))

    def scene(self, path: Sequence[NDArray[np.floating]]) -> Scene:
        """The untouched scene as it stands now; `path` are points `[3]` in metres that the gripper passes."""
        return Scene(
            values={name: array.copy() for name, array in self._first.items()},
            table_geoms=self._table,
            object_geoms=self._objects,
            geom_color=self._colors.copy(),
            geom_opacity=self._opacity.copy(),
            table_height=float(self._boxes(self._table)[:, 1, 2].max()),
            solids=self._boxes(self._solids),
            eyes=tuple(self._data.cam_xpos[self._model.camera(c).id].copy() for c in self._cameras),
            keep_out=tuple(self._rectangle(g) for g in self._task_geoms),
            path=tuple((float(p[0]), float(p[1])) for p in path),
            views=tuple(_view(self._model, self._data, camera) for camera in self._cameras),
        )

    def apply(self, change: Change) -> None:
        """Writes the first values, and the change over them."""
        import mujoco

        for name, array in self._arrays().items():
            array[:] = change.values.get(name, self._first[name])
        mujoco.mj_camlight(self._model, self._data)  # lamps' places in the world; physics does not read them

    def _arrays(self) -> dict[str, Array]:
        arrays = {name: getattr(self._model, name) for name in _MODEL_FIELDS}
        headlight = self._model.vis.headlight
        return arrays | {f"headlight_{name}": getattr(headlight, name) for name in _HEADLIGHT_FIELDS}

    def _boxes(self, geoms: Sequence[int]) -> Array:
        """Bounding boxes (low, high) in the world, `[N, 2, 3]`."""
        chosen = list(geoms)
        centre, half = np.split(self._model.geom_aabb[chosen], 2, axis=1)
        turn = self._data.geom_xmat[chosen].reshape(-1, 3, 3)
        middle = self._data.geom_xpos[chosen] + np.einsum("gij,gj->gi", turn, centre)
        reach = np.einsum("gij,gj->gi", np.abs(turn), half)
        return np.stack([middle - reach, middle + reach], axis=1)

    def _rectangle(self, geom: int) -> tuple[float, float, float, float]:
        """The geom's bounding box, seen from above."""
        centre, half = np.split(self._model.geom_aabb[geom], 2)
        turn = self._data.geom_xmat[geom].reshape(3, 3)
        x, y, _ = self._data.geom_xpos[geom] + turn @ centre
        half_x, half_y, _ = np.abs(turn) @ half
        return float(x), float(y), float(half_x), float(half_y)


def _is_table_top(model: Any, geom: int) -> bool:
    # By material: pick-out-of-hole lays a second top, with a hole, on the table.
    material = int(model.geom_matid[geom])
    return material >= 0 and str(model.mat(material).name) == _TABLE_MATERIAL


def _belongs_to_task(model: Any, geom: int, robot: int) -> bool:
    root = model.body_rootid[model.geom_bodyid[geom]]
    known = model.body(root).name in (_TABLE_BODY, _RIM_BODY, "mocap")
    return root not in (0, robot) and not known and not _is_table_top(model, geom)


def _moves(model: Any, body: int) -> bool:
    while body != 0:
        if model.body_dofnum[body] > 0:
            return True
        body = model.body_parentid[body]
    return False


def _geom_colors(model: Any) -> Array:
    """sRGB `[ngeom, 3]`: the geom's colour, or its material's times the mean of its texture."""
    colors: Array = model.geom_rgba[:, :3].astype(np.float64)
    for geom in range(model.ngeom):
        material = model.geom_matid[geom]
        if material < 0:
            continue
        # As MuJoCo does: a geom that keeps the default grey takes its material's colour.
        if np.array_equal(model.geom_rgba[geom], _DEFAULT_GREY):
            colors[geom] = model.mat_rgba[material, :3]
        texture = model.mat_texid[material, _TEXTURE_ROLE_RGB]
        if texture >= 0:
            first = model.tex_adr[texture]
            pixels = model.tex_height[texture] * model.tex_width[texture]
            channels = model.tex_nchannel[texture]
            texels = model.tex_data[first : first + pixels * channels].reshape(pixels, channels)
            colors[geom] *= texels[:, :3].mean(axis=0) / 255
    return np.clip(colors, 0, 1)


def _geom_opacity(model: Any) -> Array:
    opacity: Array = model.geom_rgba[:, 3].astype(np.float64)
    for geom in range(model.ngeom):
        if model.geom_matid[geom] >= 0 and np.array_equal(model.geom_rgba[geom], _DEFAULT_GREY):
            opacity[geom] = model.mat_rgba[model.geom_matid[geom], 3]
    return opacity


def _view(model: Any, data: Any, camera: str) -> Array:
    """The `[3, 4]` map from a homogeneous world point to (right, up, depth) of a square image."""
    index = model.camera(camera).id
    turn = data.cam_xmat[index].reshape(3, 3).T  # rows: the camera's right, up and backward
    half = np.tan(np.deg2rad(model.cam_fovy[index]) / 2)
    scaled = turn / np.array([[half], [half], [-1.0]])
    projection: Array = np.hstack([scaled, -scaled @ data.cam_xpos[index][:, None]])
    return projection

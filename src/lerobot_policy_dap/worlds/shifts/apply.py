"""From a model to the scene a factor may read, and from a change back into the model.

Everything is written over the model's *first* values, so nothing adds up over episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..textures import Bitmap
from .base import Array, Change, Scene
from .palette import Indexed, indexed

_MODEL_FIELDS = (
    "light_ambient",
    "light_diffuse",
    "light_specular",
    "light_dir",
    "light_pos",
    "geom_rgba",
    "geom_matid",
    "cam_pos",
    "cam_quat",
    "cam_pos0",  # these two where MuJoCo lets a camera track a body, as both of the gripper's do
    "cam_mat0",
)
_HEADLIGHT_FIELDS = ("ambient", "diffuse", "specular")
_VISIBLE_GROUPS = (0, 1, 2)  # MuJoCo draws these by default; Meta-World keeps collision shapes in group 4
_TABLE_MATERIAL, _TABLE_BODY, _RIM_BODY = "table_wood", "tablelink", "RetainingWall"
_DEFAULT_GREY = np.array([0.5, 0.5, 0.5, 1], np.float32)
_TEXTURE_ROLE_RGB = 1  # mjtTextureRole.mjTEXROLE_RGB
_SKYBOX = 2  # mjtTexture.mjTEXTURE_SKYBOX


class ModelPainter:
    """Reads and writes the visual arrays of one model.

    Args:
        model, data: MuJoCo's, just constructed: its arrays as they are now are the untouched ones.
        cameras: in whose sight things count as visible.
    """

    def __init__(self, model: Any, data: Any, cameras: tuple[str, ...]) -> None:
        self._model, self._data, self._cameras = model, data, cameras
        self._fixed = tuple(name for name in cameras if not _is_carried(model, name))
        self._first = {name: np.copy(array) for name, array in self._arrays().items()}
        self._colors = _geom_colors(model)
        robot = model.body_rootid[model.body("hand").id]
        visible = [g for g in range(model.ngeom) if model.geom_group[g] in _VISIBLE_GROUPS]
        self._table = tuple(g for g in visible if _is_table_top(model, g))
        task = [g for g in visible if _belongs_to_task(model, g, robot)]
        self._task_geoms = tuple(task)
        self._solids = [g for g in visible if g not in self._table and model.geom_type[g] != 0]
        self._opacity = _geom_opacity(model)
        moving = {int(model.body_rootid[model.jnt_bodyid[j]]) for j in range(model.njnt)}
        self._objects = tuple(g for g in task if model.body_rootid[model.geom_bodyid[g]] in moving)
        self._loose = loose_bodies(model)
        around = [g for g in visible if model.geom_bodyid[g] == 0 or _body_name(model, g) == _RIM_BODY]
        backdrop = [t for t in range(model.ntex) if model.tex_type[t] == _SKYBOX]
        self._table_textures = _textures(model, self._table)
        self._background_textures = (*_textures(model, around), *backdrop)
        self._lit_textures = _textures(model, visible)
        self._textures = {t: _bitmap(model, t) for t in (*self._lit_textures, *backdrop)}
        self.bitmaps: tuple[Bitmap, ...] = ()
        """The textures that differ from the model's."""

    def scene(self, path: Sequence[NDArray[np.floating]]) -> Scene:
        """The untouched scene as it stands now; `path` are points `[3]` in metres that the gripper passes."""
        return Scene(
            values={name: array.copy() for name, array in self._first.items()},
            palettes={texture: image.colors.copy() for texture, image in self._textures.items()},
            texture_means={texture: image.mean.copy() for texture, image in self._textures.items()},
            texel_counts={texture: image.counts.copy() for texture, image in self._textures.items()},
            lit_textures=self._lit_textures,
            table_textures=self._table_textures,
            background_textures=self._background_textures,
            object_geoms=self._objects,
            loose_objects=self._loose,
            cameras=tuple(int(self._model.camera(name).id) for name in self._cameras),
            geom_color=self._colors.copy(),
            geom_opacity=self._opacity.copy(),
            table_height=float(self._boxes(self._table)[:, 1, 2].max()),
            solids=self._boxes(self._solids),
            things=self._boxes(self._task_geoms),
            eyes=tuple(self._data.cam_xpos[self._model.camera(c).id].copy() for c in self._fixed),
            path=tuple((float(p[0]), float(p[1]), float(p[2])) for p in path),
            views=tuple(_view(self._model, self._data, camera) for camera in self._fixed),
        )

    def apply(self, change: Change) -> None:
        """Writes the first values, and the change over them."""
        import mujoco

        for name, array in self._arrays().items():
            array[:] = change.values.get(name, self._first[name])
        mujoco.mj_camlight(self._model, self._data)  # lamps' and cameras' places; physics does not read them
        self.bitmaps = tuple(
            Bitmap(texture, self._textures[texture].with_colors(colors))
            for texture, colors in change.palettes.items()
        )

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


def _is_table_top(model: Any, geom: int) -> bool:
    # By material: pick-out-of-hole lays a second top, with a hole, on the table.
    material = int(model.geom_matid[geom])
    return material >= 0 and str(model.mat(material).name) == _TABLE_MATERIAL


def _belongs_to_task(model: Any, geom: int, robot: int) -> bool:
    root = model.body_rootid[model.geom_bodyid[geom]]
    known = model.body(root).name in (_TABLE_BODY, _RIM_BODY, "mocap")
    return root not in (0, robot) and not known and not _is_table_top(model, geom)


def loose_bodies(model: Any) -> tuple[str, ...]:
    """Names of the bodies that no joint holds to anything."""
    import mujoco

    free = [j for j in range(model.njnt) if model.jnt_type[j] == mujoco.mjtJoint.mjJNT_FREE]
    return tuple(str(model.body(model.jnt_bodyid[j]).name) for j in free)


def _is_carried(model: Any, camera: str) -> bool:
    """Whether the camera moves with a part of the robot."""
    body = int(model.cam_bodyid[model.camera(camera).id])
    while body:
        if model.body_dofnum[body] > 0:
            return True
        body = int(model.body_parentid[body])
    return False


def _body_name(model: Any, geom: int) -> str:
    return str(model.body(model.geom_bodyid[geom]).name)


def _textures(model: Any, geoms: Sequence[int]) -> tuple[int, ...]:
    """The textures on these geoms, each once."""
    materials = [int(model.geom_matid[g]) for g in geoms if model.geom_matid[g] >= 0]
    found = (int(model.mat_texid[material, _TEXTURE_ROLE_RGB]) for material in materials)
    return tuple(dict.fromkeys(texture for texture in found if texture >= 0))


def _bitmap(model: Any, texture: int) -> Indexed:
    first, channels = model.tex_adr[texture], model.tex_nchannel[texture]
    size = model.tex_height[texture] * model.tex_width[texture] * channels
    return indexed(model.tex_data[first : first + size].tobytes(), int(channels))


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
            colors[geom] *= _bitmap(model, int(texture)).mean
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

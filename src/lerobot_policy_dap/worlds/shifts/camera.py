"""Where the camera is and looks."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from .base import Change, Factor, Scene


class CameraPose(Factor):
    """Each camera m cm away in a random direction, and turned by m degrees about a random axis."""

    name = "camera_pose"
    quantity = "displacement in cm, and as many degrees of turn, of every camera"
    unit = "cm and degrees"
    magnitudes = (1.0, 2.0, 4.0, 6.0, 8.0)

    def change(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """See `Factor`."""
        names = ("cam_pos", "cam_quat", "cam_pos0", "cam_mat0")
        position, quaternion, tracked, matrix = (scene.values[name].copy() for name in names)
        for camera in scene.cameras:
            way, axis = (v / np.linalg.norm(v) for v in rng.standard_normal((2, 3)))
            position[camera] += magnitude / 100 * way
            tracked[camera] += magnitude / 100 * way
            turn = Rotation.from_rotvec(np.deg2rad(magnitude) * axis)
            first = Rotation.from_quat(quaternion[camera], scalar_first=True)
            quaternion[camera] = (turn * first).as_quat(scalar_first=True)
            matrix[camera] = (turn.as_matrix() @ matrix[camera].reshape(3, 3)).ravel()
        return Change(dict(zip(names, (position, quaternion, tracked, matrix), strict=True)))

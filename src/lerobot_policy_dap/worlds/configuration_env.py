"""`--env.type=metaworld_shift`: the environment in LeRobot's commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium as gym
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.envs.utils import _LazyAsyncVectorEnv, freeze_after_episode_end
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

from ..errors import UserError
from .rendering import RenderSettings
from .shifts import CLEAN, check_shift
from .tasks import resolve_task
from .world import ACTION_NAMES, FPS, MAX_STEPS, STATE_NAMES, check_cameras


@EnvConfig.register_subclass("metaworld_shift")
@dataclass
class MetaworldShiftEnvConfig(EnvConfig):
    """Meta-World tasks under a visual shift of a chosen severity."""

    task: str | None = "drawer-open"
    """One task or several, separated by commas, with or without `-v3`."""
    fps: int = FPS
    camera_name: str = "corner2"
    """One camera or several, separated by commas."""
    image_size: int = 84
    """Side of the square frames in pixels."""
    shift: str = CLEAN
    severity: int = 0
    """0 (untouched) to 5."""
    episode_length: int = MAX_STEPS
    samples: int = 0
    shadows: bool = False
    reflections: bool = False
    visualization_size: int = 256
    """Side of the frames in videos."""
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    features_map: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_shift(self.shift, self.severity)
        if not 1 <= self.episode_length <= MAX_STEPS:
            raise UserError(f"env.episode_length is {self.episode_length}; Meta-World allows 1 to {MAX_STEPS}")
        self.tasks = [resolve_task(name.strip()) for name in (self.task or "").split(",")]
        self.cameras = check_cameras([c.strip() for c in self.camera_name.split(",") if c.strip()])
        RenderSettings(self.visualization_size, self.visualization_size)
        self.settings = RenderSettings(
            self.image_size, self.image_size, self.samples, self.shadows, self.reflections
        )
        self.features = {
            ACTION: PolicyFeature(FeatureType.ACTION, (len(ACTION_NAMES),)),
            "agent_pos": PolicyFeature(FeatureType.STATE, (len(STATE_NAMES),)),
        }
        self.features_map = {ACTION: ACTION, "agent_pos": OBS_STATE}
        for camera in self.cameras:
            shape = (self.image_size, self.image_size, 3)
            self.features[f"pixels/{camera}"] = PolicyFeature(FeatureType.VISUAL, shape)
            self.features_map[f"pixels/{camera}"] = f"{OBS_IMAGES}.{camera}"

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Arguments of `MetaworldShiftEnv` besides the task."""
        return {
            "cameras": self.cameras,
            "settings": self.settings,
            "shift": self.shift,
            "severity": self.severity,
            "episode_length": self.episode_length,
            "visualization_size": self.visualization_size,
        }

    def create_envs(
        self, n_envs: int, use_async_envs: bool = False
    ) -> dict[str, dict[int, gym.vector.VectorEnv[Any, Any, Any]]]:
        """One group a task, each with `n_envs` environments that stop working when their episode ends."""
        from .env import MetaworldShiftEnv

        envs: dict[str, dict[int, gym.vector.VectorEnv[Any, Any, Any]]] = {}
        for task in self.tasks:
            make = partial(MetaworldShiftEnv, task, **self.gym_kwargs)
            if use_async_envs and n_envs > 1:
                # Freezes by itself, and starts a task's processes when that task is evaluated.
                envs[task] = {0: _LazyAsyncVectorEnv([make] * n_envs)}
            else:
                envs[task] = {0: gym.vector.SyncVectorEnv([freeze_after_episode_end(make)] * n_envs)}
        return envs

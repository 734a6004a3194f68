"""`World` as a Gymnasium environment, in the shape LeRobot's evaluation expects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from .rendering import RenderSettings
from .shifts import CLEAN
from .tasks import description, resolve_task
from .world import ACTION_NAMES, FPS, MAX_STEPS, STATE_NAMES, World


class MetaworldShiftEnv(gym.Env[dict[str, Any], NDArray[np.float32]]):
    """Ends with success, or after `episode_length` steps. The world is made where it is first used.

    A Gymnasium observation holds its frames, so every step renders; `dap eval` drives `World` itself and
    renders only when a chunk is planned.
    """

    def __init__(
        self,
        task: str,
        cameras: Sequence[str] = ("corner2",),
        settings: RenderSettings | None = None,
        shift: str = CLEAN,
        severity: int = 0,
        episode_length: int = MAX_STEPS,
        visualization_size: int = 256,
    ) -> None:
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": FPS}
        self.render_mode = "rgb_array"
        self.task = resolve_task(task)
        self.task_description = description(self.task)
        self._max_episode_steps = episode_length
        self._settings = settings or RenderSettings()
        self._video = RenderSettings(visualization_size, visualization_size, samples=self._settings.samples)
        self._arguments = (tuple(cameras), self._settings, shift, severity)
        self._world: World | None = None
        self._seed, self._steps = 0, 0
        frame = spaces.Box(0, 255, (self._settings.height, self._settings.width, 3), np.uint8)
        self.observation_space = spaces.Dict(
            {
                "pixels": spaces.Dict(dict.fromkeys(cameras, frame)),
                "agent_pos": spaces.Box(-np.inf, np.inf, (len(STATE_NAMES),), np.float32),
            }
        )
        self.action_space = spaces.Box(-1, 1, (len(ACTION_NAMES),), np.float32)

    @property
    def world(self) -> World:
        """The world, constructed in the process that asks first."""
        if self._world is None:
            cameras, settings, shift, severity = self._arguments
            self._world = World(self.task, cameras, settings, shift, severity)
        return self._world

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts the episode of `seed`; without one, the episode after the last."""
        super().reset(seed=seed)
        self._seed = self._seed + 1 if seed is None else seed
        self._steps = 0
        self.world.reset(self._seed)
        return self._observation(), {"is_success": False}

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Executes one action `[4]`."""
        step = self.world.step(action)
        self._steps += 1
        truncated = self._steps >= self._max_episode_steps
        info: dict[str, Any] = {"is_success": step.success}
        if step.success or truncated:
            info["final_info"] = {"is_success": step.success}
        return self._observation(), step.reward, step.success, truncated, info

    def render(self) -> Any:
        """A frame for videos, at the visualisation's size."""
        return self.world.render(settings=self._video)

    def _observation(self) -> dict[str, Any]:
        return {"pixels": self.world.images(), "agent_pos": self.world.state}

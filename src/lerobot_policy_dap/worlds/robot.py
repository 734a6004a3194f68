"""`World` as a LeRobot robot: `lerobot-rollout`, `lerobot-record` and `lerobot-replay` drive it as they are."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from lerobot.robots import Robot
from lerobot.utils.errors import DeviceAlreadyConnectedError, DeviceNotConnectedError
from numpy.typing import NDArray

from ..errors import UserError
from .config_robot import MetaworldSimConfig
from .world import ACTION_NAMES, MAX_STEPS, STATE_NAMES, World

log = logging.getLogger(__name__)

# LeRobot's rollout takes nothing but `.pos` for a state, and `.pos` or `.vel` for an action.
_POSITIONS = tuple(f"{name}.pos" for name in STATE_NAMES)
_ACTIONS = tuple(f"{name}.vel" for name in ACTION_NAMES)


class MetaworldSim(Robot):
    """A simulated arm. Every action is one control step of the world, which stands still in between.

    LeRobot commands positions in one case, to bring an arm back to where it started, at the end of an episode and
    before it says goodbye. Somebody then puts the objects back: here the episode of the next seed begins.

    Observations are `hand_x.pos` … `gripper_opening.pos` and a frame `[H, W, 3]`, uint8, of each camera; actions
    `delta_x.vel` … `gripper.vel` in [-1, 1] (`ACTION_NAMES`).
    """

    config_class = MetaworldSimConfig
    name = "metaworld_sim"

    def __init__(self, config: MetaworldSimConfig) -> None:
        super().__init__(config)
        self.config = config
        # LeRobot counts the cameras of a robot for its image writers.
        self.cameras = dict.fromkeys(config.camera_names)
        self._world: World | None = None
        self._seed = config.seed
        self._steps = 0
        self._stopped = False
        self._success_step: int | None = None

    @property
    def observation_features(self) -> dict[str, type | tuple[int, ...]]:
        """Scalars and the shape of each camera's frames."""
        shape = (self.config.settings.height, self.config.settings.width, 3)
        return {**dict.fromkeys(_POSITIONS, float), **dict.fromkeys(self.config.camera_names, shape)}

    @property
    def action_features(self) -> dict[str, type]:
        """Scalars."""
        return dict.fromkeys(_ACTIONS, float)

    @property
    def is_connected(self) -> bool:
        """Whether there is a world."""
        return self._world is not None

    @property
    def is_calibrated(self) -> bool:
        """There is nothing to calibrate."""
        return True

    def calibrate(self) -> None:
        """There is nothing to calibrate."""

    def configure(self) -> None:
        """There is nothing to configure."""

    def connect(self, calibrate: bool = True) -> None:
        """Makes the world and begins the first episode."""
        if self.is_connected:
            raise DeviceAlreadyConnectedError(f"{self} is already connected")
        c = self.config
        if c.episodes_file is not None:
            c.episodes_file.parent.mkdir(parents=True, exist_ok=True)
        self._world = World(c.task, c.camera_names, c.settings, c.shift, c.severity)
        self._world.reset(self._seed)

    def disconnect(self) -> None:
        """Ends the episode under way."""
        if not self.is_connected:
            raise DeviceNotConnectedError(f"{self} is not connected")
        self._end()
        self._world = None

    def get_observation(self) -> dict[str, Any]:
        """What the arm feels and its cameras see."""
        world = self._connected()
        state = dict(zip(_POSITIONS, map(float, world.state), strict=True))
        return {**state, **world.images()}

    def send_action(self, action: Mapping[str, Any]) -> dict[str, Any]:
        """Executes one action, or, given positions, begins the next episode; returns what was commanded.

        Raises:
            UserError: it is neither a whole action nor positions, or not finite.
        """
        world = self._connected()
        if set(action) == set(_POSITIONS):
            if self._steps:
                self._end()
                self._seed += 1
                self._steps, self._stopped, self._success_step = 0, False, None
                world.reset(self._seed)
            return dict(action)
        if set(action) != set(_ACTIONS):
            raise UserError(f"metaworld_sim was sent {sorted(action)}; an action has: {', '.join(_ACTIONS)}")
        command = np.array([action[name] for name in _ACTIONS], np.float32)
        if not np.isfinite(command).all():
            raise UserError(f"metaworld_sim was sent {command.tolist()}; actions are finite numbers")
        self._step(world, command)
        return dict(zip(_ACTIONS, np.clip(command, -1, 1).tolist(), strict=True))

    def _step(self, world: World, command: NDArray[np.float32]) -> None:
        if self._steps == MAX_STEPS:
            if not self._stopped:
                log.warning("seed %d: Meta-World ends an episode after %d steps; the arm stands still until it is "
                            "brought back", self._seed, MAX_STEPS)  # fmt: skip
            self._stopped = True
            return
        self._steps += 1
        if world.step(command).success and self._success_step is None:
            self._success_step = self._steps
            log.info("seed %d: success after %d steps", self._seed, self._steps)

    def _end(self) -> None:
        """Notes how the episode went, if there was one."""
        if not self._steps or self.config.episodes_file is None:
            return
        episode = {"seed": self._seed, "steps": self._steps, "success_step": self._success_step}
        with self.config.episodes_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(episode) + "\n")

    def _connected(self) -> World:
        if self._world is None:
            raise DeviceNotConnectedError(f"{self} is not connected")
        return self._world

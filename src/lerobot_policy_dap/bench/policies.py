"""Any LeRobot checkpoint as something that plans for several worlds at once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies import make_policy, make_pre_post_processors
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE
from numpy.typing import NDArray
from torch import Tensor

from ..checkpoints import WEIGHTS_FILE, policy_config
from ..errors import UserError
from ..files import read_json, read_recording, sha256
from ..observing import observation_queues
from ..worlds.configuration_env import MetaworldShiftEnvConfig
from ..worlds.rendering import RenderSettings
from ..worlds.tasks import description
from ..worlds.world import CAMERAS, World, world_versions
from .rollout import Look, Watcher


def recorded_world(folder: Path) -> dict[str, Any] | None:
    """The world in which the checkpoint's training frames were recorded, where it or its dataset says so."""
    recording = read_recording(folder)
    train = folder / "train_config.json"
    if recording is None and train.exists():
        root = read_json(train).get("dataset", {}).get("root")
        recording = read_recording(Path(root) / "meta") if root else None
    return None if recording is None else recording.get("world")


class Rendering(NamedTuple):
    """How the frames of a checkpoint's training were rendered, and so those that it is shown."""

    known: bool
    """Whether the checkpoint or its dataset says so; the environment's defaults otherwise."""
    options: dict[str, Any]
    """`samples`, `shadows` and `reflections`."""


def rendering(folder: Path) -> Rendering:
    """How the checkpoint's training frames were rendered.

    Of another policy's checkpoint than DAP's only its dataset says so, where that is still found.
    """
    recorded = recorded_world(folder)
    shown = asdict(RenderSettings()) if recorded is None else recorded["settings"]
    return Rendering(recorded is not None, {name: shown[name] for name in ("samples", "shadows", "reflections")})


def environment_for(folder: Path, task: str, max_steps: int) -> MetaworldShiftEnvConfig:
    """The environment as the checkpoint's training data shows it.

    Raises:
        UserError: the data was recorded with other versions of the simulator, or the policy asks for features
            that the environment does not have.
    """
    config = policy_config(folder)
    images = config.image_features
    for key in images:
        if key not in {f"{OBS_IMAGES}.{camera}" for camera in CAMERAS}:
            raise UserError(
                f"{folder} looks at {key}; Meta-World's cameras are {OBS_IMAGES}.*, with one of: {', '.join(CAMERAS)} "
                "(for the data of a real robot there is `dap probe`)"
            )
    size = next(iter(images.values())).shape[-1] if images else 84
    cameras = [key.removeprefix(f"{OBS_IMAGES}.") for key in images]
    settings: dict[str, Any] = {"image_size": size} | rendering(folder).options
    recorded = recorded_world(folder)
    if recorded is not None:
        for name, ours in world_versions().items():
            theirs = recorded["versions"].get(name)
            if theirs != ours:
                raise UserError(
                    f"{folder} learned from frames of {name} {theirs}, and {ours} is installed; "
                    "dynamics and pixels differ between versions: collect and train again"
                )
        shown = recorded["settings"]
        if (shown["width"], shown["height"]) != (size, size):
            raise UserError(
                f"{folder} takes images of {size} pixels, but its data was rendered at "
                f"{shown['width']}x{shown['height']}"
            )
    env = MetaworldShiftEnvConfig(
        task=task, camera_name=",".join(cameras) or "corner2", episode_length=max_steps, **settings
    )
    _check_features(folder, config, env)
    return env


def _check_features(folder: Path, config: PreTrainedConfig, env: MetaworldShiftEnvConfig) -> None:
    offered = {env.features_map[key]: feature for key, feature in env.features.items()}
    for key, feature in (config.input_features or {}).items():
        if key not in offered:
            raise UserError(f"{folder} needs {key}; the environment offers: {', '.join(sorted(offered))}")
        theirs, ours = tuple(feature.shape), tuple(offered[key].shape)
        if theirs not in (ours, (ours[-1], *ours[:-1])):  # images: channels first or last
            raise UserError(f"{folder} needs {key} of shape {theirs}; the environment's is {ours}")
    action, taken = config.action_feature, tuple(offered[ACTION].shape)
    if action is not None and tuple(action.shape) != taken:
        raise UserError(f"{folder} gives actions of shape {tuple(action.shape)}; the environment takes {taken}")


def _calls_a_plan(config: PreTrainedConfig) -> int:
    """How many calls of `select_action` one computed chunk lasts, for the policies known to look back."""
    if config.type in ("dap", "diffusion"):
        return int(config.n_action_steps)
    if config.type == "vqbet":
        return int(config.action_chunk_size)
    return 1


class Planner:
    """Plans actions for a batch of worlds.

    A policy that plans whole chunks from one observation sees a frame only when it plans; any other
    (`n_obs_steps` above 1, temporal ensembling) is shown every step through `select_action`. Of those, LeRobot's
    `diffusion` is known to read nothing but the last `n_obs_steps` frames when it plans: in between it is shown
    old frames, which saves their rendering and changes no action.

    Args:
        folder: the checkpoint.
        env: the environment it is to act in.
        device: torch's name of a device.
    """

    def __init__(self, folder: Path, env: MetaworldShiftEnvConfig, device: str = "cpu") -> None:
        config = policy_config(folder)
        config.device = device
        self.config = config
        with redirect_stdout(StringIO()):  # LeRobot prints while it loads
            self.policy = make_policy(config, env_cfg=env)
        self.policy.eval()
        self.preprocess, self.postprocess = make_pre_post_processors(
            config,
            pretrained_path=str(folder),
            preprocessor_overrides={"device_processor": {"device": device}},
        )
        self.hash = sha256(folder / WEIGHTS_FILE)
        self.cameras = [key.removeprefix(f"{OBS_IMAGES}.") for key in config.image_features]
        self.size = env.image_size
        self.chunked = (
            config.n_obs_steps == 1
            and not observation_queues(self.policy)  # which `select_action` alone fills, of one observation too
            and hasattr(config, "n_action_steps")
            and getattr(config, "temporal_ensemble_coeff", None) is None
        )
        self.period = 1 if self.chunked else _calls_a_plan(config)
        self._calls = 0
        self._frames: dict[str, NDArray[np.uint8]] = {}
        self._last: tuple[dict[str, Any], Tensor | None] = ({}, None)

    def reset(self, seeds: Sequence[int]) -> None:
        """Starts the episodes of a unit; everything random in the policy follows from the first seed."""
        torch.manual_seed(seeds[0])
        np.random.seed(seeds[0] % 2**32)  # other people's policies draw from these two
        random.seed(seeds[0])
        self.policy.reset()
        self._calls = 0
        self._frames = {}

    @property
    def plans_next(self) -> bool:
        """Whether the next call of `plan` computes a chunk, and does not only take the next action of the last."""
        return self._calls % self.period == 0

    def observe(self, worlds: Sequence[World], running: Sequence[bool], blind: bool = False) -> dict[str, Any]:
        """What the worlds show now, as LeRobot's batch; `blind` zeroes the images.

        Args:
            worlds: of one call, each in the same place as in the last if the policy is not `chunked`.
            running: whose actions are still of interest: only these are rendered.
        """
        batch: dict[str, Any] = {OBS_STATE: torch.from_numpy(np.stack([w.state for w in worlds]))}
        for camera in self.cameras:
            if blind:
                frames = torch.zeros(len(worlds), 3, self.size, self.size)
            else:
                frames = torch.from_numpy(self._look(camera, worlds, running)).permute(0, 3, 1, 2).float() / 255
            batch[f"{OBS_IMAGES}.{camera}"] = frames
        batch["task"] = [description(w.task) for w in worlds]
        return batch

    def _look(self, camera: str, worlds: Sequence[World], running: Sequence[bool]) -> NDArray[np.uint8]:
        """A frame of each world `[worlds, H, W, 3]`, the last one where no action depends on a new one."""
        if self.chunked or camera not in self._frames:
            self._frames[camera] = np.stack([world.render(camera) for world in worlds])
        elif self._will_be_read():
            for i, world in enumerate(worlds):
                if running[i]:
                    self._frames[camera][i] = world.render(camera)
        return self._frames[camera]

    def _will_be_read(self) -> bool:
        """Whether the next plan looks back as far as the frame of this call."""
        since = self._calls % self.period
        return since == 0 or self.period - since < self.config.n_obs_steps

    @torch.inference_mode()
    def plan(self, observation: dict[str, Any]) -> NDArray[np.float32]:
        """Actions `[worlds, steps, A]` for what `observe` returned."""
        self._calls += 1
        batch = self.preprocess(observation)
        with torch.autocast(torch.device(self.config.device).type, enabled=self.config.use_amp):  # as lerobot-eval
            if self.chunked:
                whole = self.policy.predict_action_chunk(batch)
                chunk = whole[:, : self.config.n_action_steps]
                self._last = batch, whole
            else:
                chunk = self.policy.select_action(batch).unsqueeze(1)
                self._last = batch, None
        actions: NDArray[np.float32] = self.postprocess(chunk).float().cpu().numpy()
        return actions

    def look_back(self, watcher: Watcher, looks: Sequence[Look]) -> None:
        """Shows `watcher` the last batch and chunk."""
        watcher.look(self.policy, *self._last, looks)

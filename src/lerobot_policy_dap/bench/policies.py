"""Any LeRobot checkpoint as something that plans for several worlds at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies import make_policy, make_pre_post_processors
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE
from numpy.typing import NDArray

from ..errors import UserError
from ..files import RECORDING_FILE, read_json, sha256
from ..worlds.configuration_env import MetaworldShiftEnvConfig
from ..worlds.tasks import description
from ..worlds.world import World, world_versions

WEIGHTS_FILE = "model.safetensors"


def checkpoint_folder(path: Path) -> Path:
    """The folder with `config.json`, given it, a step's folder, or a training run's.

    Raises:
        UserError: there is none, or it lacks its weights.
    """
    for folder in (path, path / "pretrained_model", path / "checkpoints" / "last" / "pretrained_model"):
        if (folder / "config.json").exists():
            if not (folder / WEIGHTS_FILE).exists():
                raise UserError(f"{folder} has no {WEIGHTS_FILE}; the checkpoint is not whole")
            return folder
    raise UserError(
        f"{path} is no checkpoint: there is no config.json in it or in checkpoints/last/pretrained_model"
    )


def recorded_world(folder: Path) -> dict[str, Any] | None:
    """The world in which the checkpoint's training frames were recorded, where it or its dataset says so."""
    own = folder / RECORDING_FILE
    if own.exists():
        recording = read_json(own)
        return recording.get("world") if isinstance(recording, dict) else None
    train = folder / "train_config.json"
    root = read_json(train).get("dataset", {}).get("root") if train.exists() else None
    beside = Path(root) / "meta" / RECORDING_FILE if root else None
    if beside is not None and beside.exists():
        world: dict[str, Any] | None = read_json(beside).get("world")
        return world
    return None


def environment_for(folder: Path, task: str, max_steps: int) -> MetaworldShiftEnvConfig:
    """The environment as the checkpoint's training data shows it.

    Raises:
        UserError: the data was recorded with other versions of the simulator, or the policy asks for features
            that the environment does not have.
    """
    config = _config(folder)
    images = config.image_features
    size = next(iter(images.values())).shape[-1] if images else 84
    cameras = [key.removeprefix(f"{OBS_IMAGES}.") for key in images]
    settings: dict[str, Any] = {"image_size": size}
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
        settings |= {name: shown[name] for name in ("samples", "shadows", "reflections")}
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


def _config(folder: Path) -> PreTrainedConfig:
    logging.getLogger("lerobot.configs.policies").setLevel(logging.ERROR)
    try:
        config = PreTrainedConfig.from_pretrained(folder)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{folder}/config.json is no policy configuration ({error})") from error
    config.pretrained_path = folder
    return config


class Planner:
    """Plans actions for a batch of worlds.

    A policy that plans whole chunks from one observation sees a frame only when it plans; any other
    (`n_obs_steps` above 1, temporal ensembling) is shown every step through `select_action`.

    Args:
        folder: the checkpoint.
        env: the environment it is to act in.
        device: torch's name of a device.
    """

    def __init__(self, folder: Path, env: MetaworldShiftEnvConfig, device: str = "cpu") -> None:
        config = _config(folder)
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
            and hasattr(config, "n_action_steps")
            and getattr(config, "temporal_ensemble_coeff", None) is None
        )

    def reset(self, seed: int) -> None:
        """Starts a unit of episodes; everything random in the policy follows from `seed`."""
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # other people's policies draw from it
        self.policy.reset()

    def observe(self, worlds: Sequence[World], blind: bool = False) -> dict[str, Any]:
        """What each world shows now, as LeRobot's batch; `blind` zeroes the images."""
        batch: dict[str, Any] = {OBS_STATE: torch.from_numpy(np.stack([w.state for w in worlds]))}
        for camera in self.cameras:
            if blind:
                frames = torch.zeros(len(worlds), 3, self.size, self.size)
            else:
                stacked = np.stack([w.render(camera) for w in worlds])
                frames = torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 255
            batch[f"{OBS_IMAGES}.{camera}"] = frames
        batch["task"] = [description(w.task) for w in worlds]
        return batch

    @torch.inference_mode()
    def plan(self, observation: dict[str, Any]) -> NDArray[np.float32]:
        """Actions `[worlds, steps, A]` for what `observe` returned."""
        batch = self.preprocess(observation)
        if self.chunked:
            chunk = self.policy.predict_action_chunk(batch)[:, : self.config.n_action_steps]
        else:
            chunk = self.policy.select_action(batch).unsqueeze(1)
        actions: NDArray[np.float32] = self.postprocess(chunk).float().cpu().numpy()
        return actions

"""Any LeRobot checkpoint as a map from recorded observations to action chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.policies import make_policy, make_pre_post_processors
from lerobot.policies.utils import populate_queues
from lerobot.utils.constants import ACTION, OBS_IMAGES
from lerobot.utils.feature_utils import dataset_to_policy_features
from numpy.typing import NDArray

from ..checkpoints import policy_config
from ..errors import UserError
from ..files import read_json
from ..observing import observation_queues, shown_inputs
from .dataset import rgb_cameras

_PREPROCESSOR = "policy_preprocessor.json"
_RENAME = "rename_observations_processor"


class Checkpoint:
    """What a checkpoint says of itself, against the dataset it is to be shown; no weights are loaded.

    Attributes:
        inputs: the observations it takes, in the dataset's names.
        cameras: those of them that are RGB pictures.
        history: observations up to now that it sees.
        steps: how many actions of a chunk are executed before the next is planned.

    Raises:
        UserError: its features are not the dataset's, or it sees no picture.
    """

    def __init__(self, folder: Path, meta: Any) -> None:
        self.folder = folder
        self.meta = meta
        self.config = policy_config(folder)
        self.renamed = _rename_map(folder)
        offered = dataset_to_policy_features(meta.features)
        by_policy_name = {self.renamed.get(key, key): key for key in offered}
        wanted = shown_inputs(self.config)
        for key in wanted:
            if key not in by_policy_name:
                known = ", ".join(sorted(key for key in offered if key != ACTION))
                raise UserError(f"{folder} needs {key}; the dataset has: {known}")
        for key, feature in wanted.items():
            _check_shape(folder, key, feature.shape, offered[by_policy_name[key]].shape)
        if self.config.action_feature is not None:
            _check_shape(folder, ACTION, self.config.action_feature.shape, offered[ACTION].shape)
        self.inputs = [by_policy_name[key] for key in wanted]
        self.cameras = [key for key in self.inputs if key in rgb_cameras(meta)]
        if not self.cameras:
            raise UserError(f"{folder} sees no camera of the dataset; there is nothing to shift")
        self.history = int(self.config.n_obs_steps)
        self.steps = _executed_steps(self.config)


class ChunkPlanner:
    """A loaded policy that plans from recorded observations as it would on the robot.

    Args:
        checkpoint: checked against the dataset.
        device: torch's name of a device.
    """

    def __init__(self, checkpoint: Checkpoint, device: str) -> None:
        self.checkpoint = checkpoint
        config = checkpoint.config
        config.device = device
        if hasattr(config, "inference_seed"):
            config.inference_seed = None  # such a policy would draw the same noise whatever we seed
        with redirect_stdout(StringIO()):  # LeRobot prints while it loads
            self.policy = make_policy(config, ds_meta=checkpoint.meta, rename_map=checkpoint.renamed)
        self.policy.eval()
        self.preprocess, self.postprocess = make_pre_post_processors(
            config,
            pretrained_path=str(checkpoint.folder),
            preprocessor_overrides={"device_processor": {"device": device}},
        )

    @torch.inference_mode()
    def plan(
        self,
        images: Mapping[str, NDArray[np.uint8]],
        others: Mapping[str, NDArray[np.float32]],
        tasks: Sequence[str],
        seed: int,
    ) -> NDArray[np.float32]:
        """The actions that would be executed, `[B, steps, A]` in the dataset's units.

        Args:
            images: uint8 `[B, T, height, width, 3]` by the dataset's names, the last of T being now. T may exceed
                what this policy looks back to.
            others: `[B, T, …]`, as `images`.
            tasks: B instructions.
            seed: of everything random in the policy. One seed gives two batches of one size the same noise, row
                by row.
        """
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # other people's policies draw from it
        self.policy.reset()
        history = self.checkpoint.history
        batch: dict[str, Any] = {}
        for back in range(history, 0, -1):
            observation: dict[str, Any] = {
                key: torch.from_numpy(np.array(value[:, -back])).movedim(-1, 1).float() / 255
                for key, value in images.items()
            }
            observation |= {key: torch.from_numpy(np.array(value[:, -back])) for key, value in others.items()}
            batch = self.preprocess({**observation, "task": list(tasks)})
            batch.pop(ACTION, None)  # the processors leave a place for it, which policies would take for an action
            batch = self._remember(batch)
        try:
            chunk = self.policy.predict_action_chunk(batch)
        except NotImplementedError as error:
            raise self._unsupported("plans no action chunks") from error
        if chunk.ndim != 3 or len(chunk) != len(tasks):
            raise self._unsupported(f"gives chunks of shape {tuple(chunk.shape)} for {len(tasks)} observations")
        actions: NDArray[np.float32] = self.postprocess(chunk[:, : self.checkpoint.steps]).float().cpu().numpy()
        return actions

    def _remember(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Puts one observation where `select_action` would put it, for the policies that keep their own history."""
        queues = observation_queues(self.policy)
        if not queues:
            if self.checkpoint.history > 1:
                raise self._unsupported("looks back, but keeps no queue of observations that LeRobot could fill")
            return batch
        if not {OBS_IMAGES, *self.checkpoint.config.image_features} & queues.keys():
            raise self._unsupported("keeps its pictures where LeRobot's other policies do not")
        if OBS_IMAGES in queues:
            images = [batch[key] for key in self.checkpoint.config.image_features]
            batch = {**batch, OBS_IMAGES: torch.stack(images, dim=-4)}
        populate_queues(queues, batch)
        return batch

    def _unsupported(self, why: str) -> UserError:
        return UserError(f"{self.checkpoint.folder}: policy type {self.checkpoint.config.type} {why}")


def _executed_steps(config: Any) -> int:
    if getattr(config, "temporal_ensemble_coeff", None) is not None:
        return int(config.chunk_size)  # every step of a chunk goes into some action
    for name in ("n_action_steps", "action_chunk_size"):
        if getattr(config, name, None):
            return int(getattr(config, name))
    return sum(delta >= 0 for delta in config.action_delta_indices)


def _check_shape(folder: Path, key: str, theirs: Sequence[int], ours: Sequence[int]) -> None:
    if tuple(theirs) != tuple(ours):
        raise UserError(
            f"{folder} was trained with {key} of shape {tuple(theirs)}; the dataset's is {tuple(ours)}"
        )


def _rename_map(folder: Path) -> dict[str, str]:
    """Dataset's names to the policy's, where it was trained with `--rename_map`."""
    for step in read_json(folder / _PREPROCESSOR).get("steps", []):
        if step.get("registry_name") == _RENAME:
            return dict(step.get("config", {}).get("rename_map") or {})
    return {}

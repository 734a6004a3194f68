"""What a policy looks at: the observation now and, where it has a history, those of the steps before."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from lerobot.configs import PolicyFeature, PreTrainedConfig
from lerobot.policies.utils import populate_queues
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE
from torch import Tensor

from .errors import UserError

log = logging.getLogger(__name__)


def observation_queues(policy: Any) -> dict[str, Any]:
    """The queues in which LeRobot's policies keep what they saw; `predict_action_chunk` reads them."""
    return {key: queue for key, queue in (getattr(policy, "_queues", None) or {}).items() if key != ACTION}


def shown_inputs(config: PreTrainedConfig) -> dict[str, PolicyFeature]:
    """The observations that a policy is to be shown, by name, in its configuration's order.

    Not among them are cameras that nobody has: `empty_cameras` of LeRobot's vision-language policies, which fill them.
    """
    inputs = config.input_features or {}
    return {key: feature for key, feature in inputs.items() if not key.startswith(f"{OBS_IMAGES}.empty_camera_")}


class Observing:
    """Reads observations out of LeRobot's batches, with the history that `select_action` builds up.

    Args:
        keys: the features that the policy looks at.
        steps: T, observations up to now. A history is LeRobot's: the first observation of an episode fills it.
    """

    def __init__(self, keys: Sequence[str], steps: int) -> None:
        self.keys = tuple(keys)
        self.steps = steps
        self._silent = False
        self.reset()

    def reset(self) -> None:
        """An episode begins."""
        # Where LeRobot's other policies have them, so that whoever fills theirs fills ours.
        self.queues: dict[str, deque[Tensor]] = (
            {key: deque(maxlen=self.steps) for key in self.keys} if self.steps > 1 else {}
        )

    def remember(self, batch: Mapping[str, Any]) -> None:
        """Adds the observation `[B, …]` of one control step."""
        populate_queues(self.queues, {key: batch[key] for key in self.queues})

    def recall(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The observation of a batch; where there is a remembered history, that."""
        if self.queues and all(self.queues.values()):
            return {key: torch.stack(list(queue), dim=1) for key, queue in self.queues.items()}
        return {key: batch[key] for key in self.keys}

    def history(self, x: Tensor) -> Tensor:
        """The observations up to now, `[B, T, …]`, of images `[B, (≥ T), C, H, W]` or states `[B, (≥ T), D]`.

        What has no time axis is the observation of all T.

        Raises:
            UserError: there are fewer than T.
        """
        if x.ndim not in (3, 5):
            return x.unsqueeze(1).expand(-1, self.steps, *x.shape[1:])
        if x.shape[1] < self.steps:
            raise UserError(f"the batch shows {x.shape[1]} observations; the policy looks at {self.steps}")
        return x[:, : self.steps]

    def now(self, x: Tensor) -> Tensor:
        """The observation now, `[B, …]`."""
        return self.history(x)[:, -1]

    def overlook_task(self, batch: Mapping[str, Any]) -> None:
        """Says, once, that the task in words is not read."""
        task = batch.get("task")
        if not self._silent and (any(task) if isinstance(task, list | tuple) else task):
            self._silent = True
            log.info("the task text is ignored: dap looks at %s alone", ", ".join(self.keys))


def spelled_out(batch: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """A training batch whose states and actions have their last axis.

    LeRobot stores a feature of one number without it, and so collates `[B, T]` where it says `[B, T, 1]`.

    Args:
        shapes: of the features, as the dataset gives them.
    """
    alone = [key for key in (OBS_STATE, ACTION) if tuple(shapes.get(key, ())) == (1,)]
    return {**batch, **{key: batch[key].unsqueeze(-1) for key in alone if key in batch and batch[key].ndim == 2}}


def padding(batch: Mapping[str, Any], kind: str, like: str) -> Bool[Tensor, "B T"]:
    """Which steps of a batch lie past the episode's end; none where LeRobot does not say.

    Args:
        kind: how the names of such features begin. They have their steps in common, and not always their names with
            their masks: LeRobot renames (`--rename_map`) an observation alone.
        like: one of them, `[B, T, …]`.
    """
    for name, said in batch.items():
        if name.startswith(kind) and name.endswith("_is_pad"):
            mask: Tensor = said
            return mask
    return torch.zeros(batch[like].shape[:2], dtype=torch.bool, device=batch[like].device)


def imitated(batch: Mapping[str, Any], dynamics_only: Sequence[str], draws: int) -> Bool[Tensor, "R"] | None:
    """Which of the `draws` repetitions of each row are imitated, by its task; None where all are."""
    tasks = batch.get("task")
    if not isinstance(tasks, list | tuple):
        return None
    wanted = [task not in dynamics_only for task in tasks]
    if all(wanted):
        return None
    return torch.tensor(wanted, device=batch[ACTION].device).repeat_interleave(draws)

"""A LeRobot policy that asks a server for its chunks, so that `lerobot-rollout` drives a robot over the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np
import torch
from jaxtyping import Float
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies import PreTrainedPolicy
from lerobot.utils.constants import ACTION
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UserError
from ..realtime import executable
from .client import PolicyClient
from .configuration_remote import DAPRemoteConfig


class DAPRemotePolicy(PreTrainedPolicy):
    """The policy of a `dap serve`, for one robot.

    Observations and actions are in the robot's units: the server normalises. A lost connection is made again
    within `config.deadline`; after it, and when the server refuses an observation, the call raises.

    Raises:
        ServerUnavailable: there is no server within the deadline.
        Refused: the server does not take the key, or an observation.
        UserError: the key cannot be read.
    """

    config_class = DAPRemoteConfig
    name = "dap_remote"

    def __init__(self, config: DAPRemoteConfig, **kwargs: Any) -> None:
        super().__init__(config)
        self.config: DAPRemoteConfig = config
        self._client = PolicyClient(config.url, api_key=_key(config.api_key_file), deadline=config.deadline)
        self.served = self._client.get_server_metadata()
        config.input_features = _features(self.served["observation"])
        shape = (int(self.served["action"]["length"]),)
        config.output_features = {ACTION: PolicyFeature(FeatureType.ACTION, shape)}
        config.n_obs_steps = int(self.served["n_obs_steps"])
        config.n_action_steps = config.n_action_steps or int(self.served["n_action_steps"])
        self.reset()

    @classmethod
    def from_pretrained(
        cls, pretrained_name_or_path: str | Path | None = None, *, config: Any = None, **kwargs: Any
    ) -> Self:
        """Connects; the weights are the server's."""
        return cls(config or DAPRemoteConfig())

    def reset(self) -> None:
        """An episode begins, here and at the server."""
        self._client.reset()
        self._queue: deque[Tensor] = deque()
        self._history: deque[dict[str, NDArray[Any]]] = deque(maxlen=self.config.n_obs_steps)

    def supports_rtc(self) -> bool:
        """Whether chunks can be asked for while others are executed: where one observation is enough.

        The server guides the new chunk by the left-over, or keeps what will be executed of it.
        """
        return bool(self.config.n_obs_steps == 1)

    def predict_action_chunk(self, batch: dict[str, Any], **kwargs: Any) -> Float[Tensor, "1 n A"]:
        """The server's chunk for an observation.

        Args:
            batch: images `[1, C, H, W]` in [0, 1], vectors `[1, D]`, and `task`.
            kwargs: `inference_delay` (control steps) and `prev_chunk_left_over` `[k, A]` or `[1, k, A]`, for
                real-time chunks.
        """
        request = self._stacked(list(self._history) or [self._seen(batch)])
        task = batch.get("task", "")
        request["task"] = task if isinstance(task, str) else next(iter(task), "")
        left_over = executable(kwargs.get("prev_chunk_left_over"))
        if left_over is not None:
            request["prev_chunk_left_over"] = left_over.float().cpu().numpy()[0]
            request["inference_delay"] = int(kwargs.get("inference_delay") or 0)
        return torch.from_numpy(self._client.infer(request)["actions"].copy()).unsqueeze(0)

    def select_action(self, batch: dict[str, Any], **kwargs: Any) -> Float[Tensor, "1 A"]:
        """The next action; asks for a chunk when the last one is used up."""
        if self.config.n_obs_steps > 1:
            self._history.append(self._seen(batch))
        if not self._queue:
            chunk = self.predict_action_chunk(batch)
            self._queue.extend(chunk[:, : self.config.n_action_steps].unbind(dim=1))
        return self._queue.popleft()

    def forward(self, batch: dict[str, Tensor]) -> NoReturn:
        """Raises `UserError`: it is not trained."""
        self.config.get_optimizer_preset()

    def get_optim_params(self) -> Any:
        """There are none."""
        return []

    def _stacked(self, seen: list[dict[str, NDArray[Any]]]) -> dict[str, Any]:
        """Observations as the server takes them: without a time axis where one is all it looks at."""
        steps = self.config.n_obs_steps
        if steps == 1:
            return dict(seen[-1])
        seen = [seen[0]] * (steps - len(seen)) + seen  # LeRobot's rule: the first fills the whole history
        return {key: np.stack([frame[key] for frame in seen]) for key in seen[-1]}

    def _seen(self, batch: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """The one row of a batch, images as uint8 `[H, W, C]`."""
        frame = {}
        for key, feature in (self.config.input_features or {}).items():
            if key not in batch:
                had = ", ".join(k for k in batch if k.startswith("observation"))
                raise UserError(
                    f"the server wants {key}; the robot shows: {had}. Use --rename_map, or --rename there"
                )
            value: Tensor = batch[key]
            if len(value) != 1:
                raise UserError(f"{key} has {len(value)} rows; a remote policy drives one robot")
            if feature.type is FeatureType.VISUAL:
                frame[key] = (value[0] * 255).round().to(torch.uint8).movedim(0, -1).contiguous().cpu().numpy()
            else:
                frame[key] = value[0].float().cpu().numpy()
        return frame


def _features(observation: Mapping[str, Mapping[str, Any]]) -> dict[str, PolicyFeature]:
    return {
        key: PolicyFeature(FeatureType.VISUAL, (shown["channels"], shown["height"], shown["width"]))
        if shown["kind"] == "image"
        else PolicyFeature(FeatureType.STATE, (shown["length"],))
        for key, shown in observation.items()
    }


def _key(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"policy.api_key_file {file} cannot be read ({error})") from error

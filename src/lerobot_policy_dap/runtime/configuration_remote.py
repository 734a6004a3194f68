"""`--policy.type=dap_remote`: a policy that lives behind `dap serve`, in LeRobot's rollout."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from lerobot.configs import NormalizationMode, PreTrainedConfig

from ..errors import UserError


@PreTrainedConfig.register_subclass("dap_remote")
@dataclass
class DAPRemoteConfig(PreTrainedConfig):
    """Where the server is. What the policy sees and gives is asked of the server when the policy is made."""

    url: str = "ws://127.0.0.1:8000"
    """`ws://` or `wss://`, with the port."""
    api_key_file: Path | None = None
    """File that holds the server's key."""
    deadline: float = 5.0
    """Seconds that an answer may take, reconnecting included; then the rollout ends with an error."""
    n_action_steps: int | None = None
    """Actions executed before the server is asked again (synchronous inference); as many as it says by default."""
    normalization_mapping: dict[str, NormalizationMode] = field(default_factory=dict)
    """Nothing: the server normalises."""

    @property
    def observation_delta_indices(self) -> None:
        """It is not trained."""
        return

    @property
    def action_delta_indices(self) -> None:
        """It is not trained."""
        return

    @property
    def reward_delta_indices(self) -> None:
        """It is not trained."""
        return

    def get_optimizer_preset(self) -> NoReturn:
        """Raises `UserError`: it is not trained."""
        raise UserError("policy.type is dap_remote, which asks a server and cannot be trained; train a dap")

    def get_scheduler_preset(self) -> NoReturn:
        """Raises `UserError`: it is not trained."""
        self.get_optimizer_preset()

    def validate_features(self) -> None:
        """The server validates what it is sent."""

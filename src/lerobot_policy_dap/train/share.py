"""A finished policy on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lerobot.configs.train import TrainPipelineConfig

from ..errors import UserError


def needs_repository(config: TrainPipelineConfig) -> None:
    """Uploads nothing where no `--policy.repo_id` says where to; LeRobot's default would refuse to begin."""
    if config.policy is not None and not config.policy.repo_id:
        config.policy.push_to_hub = False


def upload(
    config: TrainPipelineConfig, policy: Any, preprocessor: Any, postprocessor: Any, meta: Any, checkpoint: Path
) -> None:
    """Policy, model card and processors to `--policy.repo_id`, as LeRobot does at the end of a training.

    Args:
        meta: of the dataset.
        checkpoint: where the same is on disk.

    Raises:
        UserError: the Hub cannot be reached or refuses.
    """
    assert config.policy is not None
    repository = config.policy.repo_id
    try:
        policy.push_model_to_hub(config, dataset_meta=meta)
        preprocessor.push_to_hub(repository)
        postprocessor.push_to_hub(repository)
    except Exception as error:  # of the network, of HTTP, of a token: the training is not lost
        raise UserError(
            f"{checkpoint} is finished, but was not uploaded to {repository} ({error}); repeat the command to try again"
        ) from error

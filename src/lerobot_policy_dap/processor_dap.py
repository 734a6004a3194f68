"""What happens to observations before the policy and to actions after it."""

from __future__ import annotations

from typing import Any

import torch
from lerobot.processor import PolicyAction, PolicyProcessorPipeline, make_default_pre_post_processors

from .configuration_dap import DAPConfig


def make_dap_pre_post_processors(
    config: DAPConfig, dataset_stats: dict[str, dict[str, torch.Tensor]] | None = None
) -> tuple[
    PolicyProcessorPipeline[dict[str, Any], dict[str, Any]],
    PolicyProcessorPipeline[PolicyAction, PolicyAction],
]:
    """LeRobot's own steps: rename, batch, device, normalise; and unnormalise, to the CPU."""
    before, after = make_default_pre_post_processors(config, dataset_stats)
    return before, after

"""The server normalises: what goes to a remote policy and comes from it is in the robot's units."""

from __future__ import annotations

from typing import Any

from lerobot.processor import PolicyAction, PolicyProcessorPipeline, make_default_pre_post_processors

from .configuration_remote import DAPRemoteConfig


def make_dap_remote_pre_post_processors(
    config: DAPRemoteConfig, dataset_stats: dict[str, Any] | None = None
) -> tuple[
    PolicyProcessorPipeline[dict[str, Any], dict[str, Any]],
    PolicyProcessorPipeline[PolicyAction, PolicyAction],
]:
    """LeRobot's own steps, without statistics."""
    before, after = make_default_pre_post_processors(config, {})
    return before, after

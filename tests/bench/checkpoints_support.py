"""Small untrained checkpoints of any LeRobot type for the drawer-open task, and a plan that takes seconds."""

from pathlib import Path
from typing import Any

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies import make_policy_config, make_pre_post_processors
from lerobot.policies.factory import get_policy_class

from lerobot_policy_dap.bench.episodes import Episode
from lerobot_policy_dap.bench.plan import Plan, Policy, make_plan

SIZE = 48
SMALL: dict[str, dict[str, Any]] = {
    "dap": {"image_size": 36, "encoder_width": 8, "latent_dim": 8, "hidden_dim": 16, "depth": 1, "horizon": 8, "n_action_steps": 4},
    "act": {
        "dim_model": 32, "n_heads": 2, "dim_feedforward": 32, "n_encoder_layers": 1, "chunk_size": 8, "n_action_steps": 4,
        "pretrained_backbone_weights": None,
    },
    "diffusion": {
        "down_dims": (16, 32), "horizon": 8, "n_action_steps": 4, "n_groups": 4, "diffusion_step_embed_dim": 16,
        "spatial_softmax_num_keypoints": 4, "noise_scheduler_type": "DDIM", "num_inference_steps": 2,
        "pretrained_backbone_weights": None, "crop_shape": (40, 40),
    },
    "vqbet": {"crop_shape": (40, 40), "pretrained_backbone_weights": None, "gpt_n_layer": 1, "gpt_n_head": 2, "gpt_hidden_dim": 32,
              "gpt_input_dim": 32, "gpt_output_dim": 32},
}  # fmt: skip


def make_checkpoint(folder: Path, kind: str = "dap", seed: int = 0, **options: Any) -> Path:
    """An untrained policy of the type, in LeRobot's layout."""
    config = make_policy_config(
        kind,
        device="cpu",
        push_to_hub=False,
        input_features={
            "observation.images.corner2": PolicyFeature(FeatureType.VISUAL, (3, SIZE, SIZE)),
            "observation.state": PolicyFeature(FeatureType.STATE, (4,)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (4,))},
        **{**SMALL[kind], **options},
    )
    torch.manual_seed(seed)
    policy = get_policy_class(kind)(config)
    if kind == "dap":
        for head in (policy.policy.out, policy.dynamics.out):  # an untrained velocity is zero
            torch.nn.init.normal_(head.weight, std=0.3)
    policy.save_pretrained(folder)
    for pipeline in make_pre_post_processors(config, dataset_stats={}):
        pipeline.save_pretrained(folder)
    return folder


def small_plan(*policies: Policy, **options: Any) -> Plan:
    asked = {"episodes": 3, "clean_episodes": 5, "batch": 2, "max_steps": 12, **options}
    shifts, severities = asked.pop("shifts", ["distractors"]), asked.pop("severities", [2])
    return make_plan(policies, asked.pop("tasks", ["drawer-open"]), shifts, severities, **asked)


def outcomes(episodes: list[Episode]) -> list[tuple[Any, ...]]:
    """All that must be equal in two runs: everything but the latency, which is measured."""
    return [
        (e.policy, e.training_seed, e.task, e.shift, e.severity, e.seed, e.success, e.steps, e.episode_return,
         e.checkpoint, e.versions)
        for e in episodes
    ]  # fmt: skip

"""What a model card says of a DAP policy, beside what LeRobot's own template says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from .configuration_dap import DAPConfig

_ARMS = {
    "none": "plain flow matching: there is no dynamics model",
    "auxiliary": "the dynamics model shapes the encoder in training, and is not asked when it acts",
    "agnostic": "the policy sees an expected outcome that does not depend on the action",
    "one_way": "the policy sees the outcome that the dynamics model expects of its first draft",
    "two_way": "policy and dynamics model see each other's estimates at every flow step (DAP)",
    "shuffled": "a control: the policy sees the outcome that is expected for another observation",
}


def account(
    config: DAPConfig, networks: Mapping[str, nn.Module], updates: int, recording: Mapping[str, Any] | None
) -> str:
    """Markdown: the arm, the sizes, the data, and how to run it.

    Args:
        networks: by name, to count their parameters.
        updates: optimiser steps behind the weights.
        recording: the dataset's account of how its frames were recorded, where it has one.
    """
    c = config
    millions = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in networks.items()}
    rows = {
        "Arm (`coupling`)": f"`{c.coupling}`: {_ARMS[c.coupling]}",
        "Parameters": ", ".join(f"{name} {count:.2f} M" for name, count in millions.items()),
        "Networks": f"preset `{c.preset}`: {c.encoder} encoder at {c.image_size} pixels, {c.velocity} velocities",
        "Looks at": f"{c.n_obs_steps} observation(s); the task text is not read",
        "Chunk": f"{c.horizon} actions, {c.n_action_steps} executed, {c.num_inference_steps} flow steps",
        "Outcome": f"{', '.join(map(str, c.outcome_offsets))} steps ahead" if c.arm.learns_dynamics else "none",
        "Trained for": f"{updates} steps",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""
---

## The method

[DAP](https://arxiv.org/abs/2510.27114) couples two flow-matching models: one proposes a chunk of actions, the other
says what they lead to. This is a policy of the plugin `lerobot_policy_dap`, an implementation independent of the
paper's authors; install it beside LeRobot before you load the policy.

| | |
|---|---|
{table}

{_recorded(recording)}
## Figures

None are claimed here. Success depends on the robot, the scene and the seed of the training; measure it, clean and under
shift, with

```bash
{_measure(c)}
```
"""


def _measure(config: DAPConfig) -> str:
    where = config.repo_id or "<hf_user>/<policy_repo_id>"
    return f"""hf download {where} --local-dir policy
# in simulation, on a task of Meta-World
dap eval --policy dap=policy --task <task> --shift all --severity 2,4 --episodes 20 --out report
# on recorded episodes of a real robot
dap probe --policy dap=policy --dataset.root <dataset> --out probe"""


def _recorded(recording: Mapping[str, Any] | None) -> str:
    """How the demonstrations were recorded, where the dataset says so."""
    world = (recording or {}).get("world")
    if not world:
        return ""
    settings, versions = world["settings"], world["versions"]
    return f"""The demonstrations are simulated: {world["task"]}, {settings["width"]}x{settings["height"]} pixels, \
{", ".join(f"{name} {version}" for name, version in versions.items())}. Evaluate it with these versions alone.

"""

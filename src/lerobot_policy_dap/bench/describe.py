"""What the report says of each policy, read from its checkpoint."""

from __future__ import annotations

import json
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

from safetensors import safe_open

from ..checkpoints import WEIGHTS_FILE, checkpoint_folder
from ..files import read_json
from .plan import Policy

_NOT_DIAGNOSTICS = ("step", "lr", "step_s", "data_s", "grad_norm", "eval_loss")


def describe_policy(policy: Policy) -> dict[str, Any]:
    """Type, size and training of one checkpoint."""
    if policy.path is None:
        return {"name": policy.name, "type": "scripted expert"}
    folder = checkpoint_folder(policy.path)
    config = read_json(folder / "config.json")
    train_file = folder / "train_config.json"
    train = read_json(train_file) if train_file.exists() else {}
    with safe_open(folder / WEIGHTS_FILE, framework="numpy") as weights:
        parameters = sum(prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118
    step_file = folder.parent / "training_state" / "training_step.json"
    steps = read_json(step_file)["step"] if step_file.exists() else train.get("steps")
    return {
        "name": policy.name,
        "type": config.get("type", "?"),
        "coupling": config.get("coupling"),
        "checkpoint": str(folder),
        "train_steps": steps,
        "train_seed": train.get("seed"),
        "batch_size": train.get("batch_size"),
        "parameters": parameters,
        "diagnostics": _diagnostics(folder, steps),
    }


def _diagnostics(folder: Path, steps: int | None) -> dict[str, float]:
    """The last figures that the training had logged by then, where `dap train` made the checkpoint."""
    log = folder.parents[2] / "train_log.jsonl" if len(folder.parents) > 2 else Path()
    if not log.is_file():
        return {}
    latest: dict[str, float] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):  # a machine that went down left half a line
            figures = json.loads(line)
            if steps is None or figures.get("step", 0) <= steps:
                latest |= figures
    return {name: value for name, value in latest.items() if name not in _NOT_DIAGNOSTICS}

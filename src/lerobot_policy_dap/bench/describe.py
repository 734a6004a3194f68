"""What the report says of each policy and shift, read from checkpoints."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from typing import Any

from safetensors import safe_open

from ..files import read_json
from ..worlds.shifts import SHIFTS
from ..worlds.tasks import description
from .plan import Plan, Policy
from .policies import WEIGHTS_FILE, checkpoint_folder
from .run import versions

_NOT_DIAGNOSTICS = ("step", "lr", "step_s", "data_s", "grad_norm", "eval_loss")


def describe_plan(plan: Plan, title: str, command: str) -> dict[str, Any]:
    """The report's `meta`: what was evaluated, on what, with which software."""
    return {
        "title": title,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "hardware": hardware(),
        "task": plan.task,
        "task_description": description(plan.task),
        "max_steps": plan.max_steps,
        "seeds": {"first": plan.first_seed, "clean": plan.clean_episodes, "shifted": plan.episodes},
        "policies": [describe_policy(policy) for policy in plan.policies],
        "shifts": [
            {"name": s.name, "quantity": s.quantity, "unit": s.unit, "magnitudes": list(s.magnitudes)}
            for s in SHIFTS.values()
            if s.name in {shift for shift, _ in plan.conditions}
        ],
        "stages": [],
        "notes": [],
    }


def describe_policy(policy: Policy) -> dict[str, Any]:
    """Type, size and training of one checkpoint."""
    folder = checkpoint_folder(policy.path)
    config = read_json(folder / "config.json")
    train_file = folder / "train_config.json"
    train = read_json(train_file) if train_file.exists() else {}
    with safe_open(folder / WEIGHTS_FILE, framework="numpy") as weights:
        parameters = sum(prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118
    step_file = folder.parent / "training_state" / "training_step.json"
    return {
        "name": policy.name,
        "type": config.get("type", "?"),
        "coupling": config.get("coupling"),
        "checkpoint": str(folder),
        "train_steps": read_json(step_file)["step"] if step_file.exists() else train.get("steps"),
        "train_seed": train.get("seed"),
        "batch_size": train.get("batch_size"),
        "parameters": parameters,
        "diagnostics": _diagnostics(folder),
    }


def _diagnostics(folder: Path) -> dict[str, float]:
    """The last figures that the training logged, where `dap train` made the checkpoint."""
    log = folder.parents[2] / "train_log.jsonl" if len(folder.parents) > 2 else Path()
    if not log.is_file():
        return {}
    latest: dict[str, float] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        latest |= json.loads(line)
    return {name: value for name, value in latest.items() if name not in _NOT_DIAGNOSTICS}


def hardware() -> str:
    """The processor and the cores this process may use."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, {platform.system()}"

"""What `dap train` was asked: LeRobot's own flags, checked, and continued where an earlier run stopped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import draccus
from lerobot.configs import PreTrainedConfig
from lerobot.configs.train import TRAIN_CONFIG_NAME, TrainPipelineConfig
from lerobot.utils.constants import CHECKPOINTS_DIR, PRETRAINED_MODEL_DIR

from ..errors import UserError

LOG_FILE = "train_log.jsonl"

# What makes two runs the same run: where they agree, the second goes on with the first.
_SAME_RUN = ("dataset", "batch_size", "seed", "steps", "num_workers")
_LEARNED_LATER = ("pretrained_path", "input_features", "output_features", "device")


def last_checkpoint(output_dir: Path) -> Path | None:
    """The newest checkpoint of a run, whether or not a killed run still came to point `last` to it."""
    folder = output_dir / CHECKPOINTS_DIR
    whole = [p for p in folder.glob("[0-9]*") if (p / PRETRAINED_MODEL_DIR / TRAIN_CONFIG_NAME).exists()]
    return max(whole, key=lambda p: int(p.name), default=None)


def continuing(args: list[str], asked: TrainPipelineConfig) -> list[str]:
    """LeRobot's arguments as given, or those that resume the run which the same command started before.

    Args:
        args: the arguments.
        asked: the configuration they give.

    Raises:
        UserError: the output folder holds something else.
    """
    if asked.resume:
        return args
    output_dir = asked.output_dir
    if output_dir is None or not output_dir.exists():
        return args
    last = last_checkpoint(output_dir)
    if last is None:
        strangers = [p for p in output_dir.rglob("*") if not _is_leftover(p.relative_to(output_dir))]
        if strangers:
            raise UserError(
                f"{output_dir} holds something else ({strangers[0].name}); choose another --output_dir"
            )
        shutil.rmtree(output_dir)  # a run that was killed before its first checkpoint: LeRobot wants a new folder
        return args
    config = last / PRETRAINED_MODEL_DIR / TRAIN_CONFIG_NAME
    saved = TrainPipelineConfig.from_pretrained(config)
    for what, mine, theirs in _compared(asked, saved):
        if mine != theirs:
            raise UserError(
                f"{output_dir} holds a run with {what}={theirs!r}, not {mine!r}; choose another --output_dir"
            )
    return [f"--config_path={config}", "--resume=true", f"--output_dir={output_dir}"]  # it may have been moved


def _is_leftover(path: Path) -> bool:
    """Whether a run that was killed before its first checkpoint may have left this path in its folder."""
    first, *rest = path.parts
    unfinished = rest and rest[0].startswith(".") and rest[0].endswith(".part")
    return path == Path(LOG_FILE) or (first == CHECKPOINTS_DIR and (not rest or bool(unfinished)))


def _compared(asked: TrainPipelineConfig, saved: TrainPipelineConfig) -> list[tuple[str, Any, Any]]:
    pairs = [
        (name, draccus.encode(getattr(asked, name)), draccus.encode(getattr(saved, name))) for name in _SAME_RUN
    ]
    if asked.policy is not None and saved.policy is not None:
        mine, theirs = (draccus.encode(p, PreTrainedConfig) for p in (asked.policy, saved.policy))
        pairs += [(f"policy.{k}", mine[k], theirs.get(k)) for k in mine if k not in _LEARNED_LATER]
    return pairs


def check_supported(config: TrainPipelineConfig) -> None:
    """Raises `UserError` for what LeRobot's trainer does and this one does not."""
    unsupported = {
        "--dataset.streaming": config.dataset.streaming,
        "--peft": config.peft is not None,
        "--sample_weighting": config.sample_weighting is not None,
        "--reward_model": config.reward_model is not None,
        "--job": config.job.is_remote,
        "--save_checkpoint_to_hub": config.save_checkpoint_to_hub,
        "--wandb.enable": config.wandb.enable,
        "--rename_map": bool(config.rename_map),
        "--env (evaluate checkpoints with `dap eval`)": config.env is not None,
    }
    for flag, asked in unsupported.items():
        if asked:
            raise UserError(f"dap train does not do {flag}; lerobot-train does, with the same other flags")

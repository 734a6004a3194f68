"""What `dap train` was asked: LeRobot's own flags, checked, and continued where an earlier run stopped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import draccus
from lerobot.configs import PreTrainedConfig, parser
from lerobot.configs.train import TRAIN_CONFIG_NAME, TrainPipelineConfig
from lerobot.utils.constants import CHECKPOINTS_DIR, PRETRAINED_MODEL_DIR

from ..errors import UserError

LOG_FILE = "train_log.jsonl"

# What makes two runs the same run: where they agree, the second goes on with the first.
_SAME_RUN = ("dataset", "batch_size", "seed", "steps", "num_workers", "use_policy_training_preset")
_OWN_PRESETS = ("optimizer", "scheduler")
_LEARNED_LATER = ("input_features", "output_features", "device")


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
    for what, mine, theirs in _compared(asked, saved, output_dir):
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


def began_from(checkpoint: Path) -> Path | None:
    """The checkpoint from which the run that wrote this one began; None where it began with new weights."""
    policy = TrainPipelineConfig.from_pretrained(checkpoint / PRETRAINED_MODEL_DIR / TRAIN_CONFIG_NAME).policy
    return policy.pretrained_path if policy is not None else None


def _compared(
    asked: TrainPipelineConfig, saved: TrainPipelineConfig, output_dir: Path
) -> list[tuple[str, Any, Any]]:
    names = _SAME_RUN if asked.use_policy_training_preset else (*_SAME_RUN, *_OWN_PRESETS)
    pairs = [(name, draccus.encode(getattr(asked, name)), draccus.encode(getattr(saved, name))) for name in names]
    policy = asked.policy if asked.policy is not None else _of_path()
    if policy is not None and saved.policy is not None:
        mine, theirs = (draccus.encode(p, PreTrainedConfig) for p in (policy, saved.policy))
        own = str(theirs["pretrained_path"]).startswith(str(output_dir))  # lerobot-train's word for a resumed run
        skipped = {*_LEARNED_LATER, *(["pretrained_path"] if own else [])}
        pairs += [(f"policy.{k}", mine[k], theirs.get(k)) for k in mine if k not in skipped]
    return pairs


def _of_path() -> PreTrainedConfig | None:
    """The configuration behind `--policy.path`, which LeRobot reads when it validates, with what was given beside."""
    path = parser.get_path_arg("policy")
    if path is None:
        return None
    given = [*parser.get_yaml_overrides("policy"), *(parser.get_cli_overrides("policy") or [])]
    policy: PreTrainedConfig = PreTrainedConfig.from_pretrained(path, cli_overrides=given)
    policy.pretrained_path = Path(path)
    return policy


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

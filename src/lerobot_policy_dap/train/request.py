"""What `dap train` was asked: LeRobot's own flags, checked, and continued where an earlier run stopped."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Sequence
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
_LEARNED_LATER = ("output_features", "device")
# What the weights do not depend on: the second run has it as it was given.
_MAY_CHANGE = (
    "save_freq", "save_checkpoint", "log_freq", "eval_steps", "max_eval_samples", "tolerance_s", "policy.device",
)  # fmt: skip
_OF_ANOTHER_S = 60  # seconds for which a process waits until that which cleans up has done so


def last_checkpoint(output_dir: Path) -> Path | None:
    """The newest checkpoint of a run, whether or not a killed run still came to point `last` to it."""
    folder = output_dir / CHECKPOINTS_DIR
    steps = [p for p in folder.glob("[0-9]*") if p.name.isdigit()]
    whole = [p for p in steps if (p / PRETRAINED_MODEL_DIR / TRAIN_CONFIG_NAME).exists()]
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
        _clear(output_dir)  # a run that was killed before its first checkpoint: LeRobot wants a new folder
        return args
    config = last / PRETRAINED_MODEL_DIR / TRAIN_CONFIG_NAME
    saved = TrainPipelineConfig.from_pretrained(config)
    for what, mine, theirs in _compared(asked, saved, output_dir):
        if mine != theirs:
            raise UserError(
                f"{output_dir} holds a run with {what}={theirs!r}, not {mine!r}; choose another --output_dir"
            )
    moved = f"--output_dir={output_dir}"  # it may have been
    return [f"--config_path={config}", "--resume=true", moved, *_given(args, _MAY_CHANGE)]


def cleans_up() -> bool:
    """Whether this process, of those of a training on this machine, is the one that does what is done once."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _clear(output_dir: Path) -> None:
    """Removes the folder; of several processes one does, and the others wait for it."""
    if output_dir.is_symlink():
        raise UserError(f"{output_dir} is a link, and LeRobot makes a new folder there; give the folder itself")
    if cleans_up():
        shutil.rmtree(output_dir)
    until = time.monotonic() + _OF_ANOTHER_S
    while output_dir.exists() and time.monotonic() < until:
        time.sleep(0.02)


def _given(args: Sequence[str], names: Collection[str]) -> list[str]:
    """Those of the arguments that have one of these names, as `--name=value` or as two."""
    found: list[str] = []
    for i, arg in enumerate(args):
        name, joined, _ = arg.removeprefix("--").partition("=")
        if arg.startswith("--") and name in names:
            found += [arg] if joined else args[i : i + 2]
    return found


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
        if not policy.input_features:  # those of the dataset, then
            skipped.add("input_features")
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
    """Raises `UserError` for what is no training, or one that LeRobot's trainer does and this one does not."""
    for name in ("steps", "batch_size"):
        if getattr(config, name) < 1:
            raise UserError(f"--{name} is {getattr(config, name)}; it must be 1 or more")
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

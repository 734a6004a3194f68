"""Checkpoints in LeRobot's layout, each whole or not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from lerobot.common.train_utils import get_step_checkpoint_dir, save_checkpoint
from lerobot.utils.constants import LAST_CHECKPOINT_LINK

from ..files import replacing_folder


def save(output_dir: Path, total_steps: int, step: int, **state: Any) -> Path:
    """Writes `checkpoints/<step>` beside its place, renames it, and points `checkpoints/last` to it.

    Args:
        state: what LeRobot's `save_checkpoint` takes: cfg, policy, optimizer, scheduler, processors, …
    """
    folder: Path = get_step_checkpoint_dir(output_dir, total_steps, step)
    if folder.exists():  # a resumed run passes the same step again with the same weights
        shutil.rmtree(folder)
    with replacing_folder(folder) as part:
        save_checkpoint(part, step, **state)
    point_last(folder)
    return folder


def point_last(folder: Path) -> None:
    """Points `checkpoints/last` to a checkpoint; a reader finds the old or the new one, never none."""
    link = folder.with_name(f".{LAST_CHECKPOINT_LINK}.{os.getpid()}")
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(folder.with_name(LAST_CHECKPOINT_LINK))

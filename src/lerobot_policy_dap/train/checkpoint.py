"""Checkpoints in LeRobot's layout, each whole or not there."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

from lerobot.common.train_utils import (
    get_step_checkpoint_dir,
    load_training_batch_size,
    load_training_num_processes,
    save_checkpoint,
)
from lerobot.utils.constants import LAST_CHECKPOINT_LINK, TRAINING_STATE_DIR

from ..files import read_json, replacing_folder, write_json

log = logging.getLogger(__name__)

SCALER_FILE = "grad_scaler.json"
"""The scale of float16's gradients, beside the optimiser's state: without it a resumed run begins at another one."""


def save(output_dir: Path, total_steps: int, step: int, scaler: Any = None, **state: Any) -> Path:
    """Writes `checkpoints/<step>` beside its place, renames it, and points `checkpoints/last` to it.

    Args:
        scaler: torch's gradient scaler, where there is one.
        state: what LeRobot's `save_checkpoint` takes: cfg, policy, optimizer, scheduler, processors, …
    """
    folder: Path = get_step_checkpoint_dir(output_dir, total_steps, step)
    if folder.exists():  # a resumed run passes the same step again with the same weights
        shutil.rmtree(folder)
    with replacing_folder(folder) as part:
        save_checkpoint(part, step, **state)
        if scaler is not None:
            write_json(part / TRAINING_STATE_DIR / SCALER_FILE, scaler.state_dict())
    point_last(folder)
    return folder


def whole(folder: Path) -> Path:
    """The checkpoint itself, where `checkpoints/last` or another link stands for it."""
    return folder.resolve() if folder.is_symlink() else folder


def load_scaler(folder: Path, scaler: Any) -> None:
    """Gives a gradient scaler the state that it had, where there is one and the checkpoint knows it."""
    saved = folder / TRAINING_STATE_DIR / SCALER_FILE
    if scaler is not None and saved.exists():
        scaler.load_state_dict(read_json(saved))


def consumed(folder: Path, batch_size: int, num_processes: int) -> tuple[int, int]:
    """The batch size and the processes of a checkpoint's steps: how far in the data's order it is.

    Where they are not those of now, the order goes on from the same place, but no step is what it would have been.
    """
    then = load_training_batch_size(folder) or batch_size, load_training_num_processes(folder) or num_processes
    if then != (batch_size, num_processes):
        log.warning(
            "the run goes on with a batch size of %d on %d processes; it had %d on %d, and will not end as it would "
            "have with these",
            batch_size,
            num_processes,
            *then,
        )
    return then


def point_last(folder: Path) -> None:
    """Points `checkpoints/last` to a checkpoint; a reader finds the old or the new one, never none."""
    link = folder.with_name(f".{LAST_CHECKPOINT_LINK}.{os.getpid()}")
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(folder.with_name(LAST_CHECKPOINT_LINK))

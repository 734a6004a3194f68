"""Checkpoints of any LeRobot policy: where they lie, and what their configuration says."""

from __future__ import annotations

import logging
from pathlib import Path

from lerobot.configs import PreTrainedConfig
from lerobot.utils.import_utils import register_third_party_plugins

from . import register
from .errors import UserError

WEIGHTS_FILE = "model.safetensors"


def checkpoint_folder(path: Path) -> Path:
    """The folder with `config.json`, given it, a step's folder, or a training run's.

    Raises:
        UserError: there is none, or it lacks its weights.
    """
    for folder in (path, path / "pretrained_model", path / "checkpoints" / "last" / "pretrained_model"):
        if (folder / "config.json").exists():
            if not (folder / WEIGHTS_FILE).exists():
                raise UserError(f"{folder} has no {WEIGHTS_FILE}; the checkpoint is not whole")
            return folder
    raise UserError(
        f"{path} is no checkpoint: there is no config.json in it or in checkpoints/last/pretrained_model"
    )


def policy_config(folder: Path) -> PreTrainedConfig:
    """The configuration of the policy in a folder that `checkpoint_folder` found.

    Raises:
        UserError: it is no configuration of a policy that is installed.
    """
    register()
    register_third_party_plugins()
    logging.getLogger("lerobot.configs.policies").setLevel(logging.ERROR)
    try:
        config = PreTrainedConfig.from_pretrained(folder)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{folder}/config.json is no policy configuration ({error})") from error
    config.pretrained_path = folder
    return config

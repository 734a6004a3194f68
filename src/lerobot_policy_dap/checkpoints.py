"""Checkpoints of any LeRobot policy: where they lie, and what their configuration says."""

from __future__ import annotations

import logging
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from lerobot.configs import PreTrainedConfig
from lerobot.policies import make_pre_post_processors
from lerobot.policies.factory import get_policy_class
from lerobot.utils.import_utils import register_third_party_plugins

from . import register
from .errors import UserError

WEIGHTS_FILE = "model.safetensors"
ACTING_FILES = ("config.json", "policy_preprocessor*", "policy_postprocessor*")
"""Files of a checkpoint besides its weights that decide how it acts: with other normalisation they act differently."""


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


class Loaded(NamedTuple):
    """A policy that can act."""

    policy: Any
    """In evaluation mode."""
    preprocess: Any
    postprocess: Any


def load_policy(folder: Path, config: PreTrainedConfig) -> Loaded:
    """The policy in a folder that `checkpoint_folder` found, with its processors, on `config.device`.

    Raises:
        UserError: it cannot be loaded.
    """
    try:
        with redirect_stdout(StringIO()):  # LeRobot prints while it loads
            policy = get_policy_class(config.type).from_pretrained(folder, config=config)
            preprocess, postprocess = make_pre_post_processors(
                config,
                pretrained_path=str(folder),
                preprocessor_overrides={"device_processor": {"device": config.device}},
            )
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{folder} cannot be loaded ({type(error).__name__}: {error})") from error
    policy.to(config.device).eval()
    return Loaded(policy, preprocess, postprocess)

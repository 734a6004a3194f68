# No `from __future__ import annotations` here: LeRobot's parser reads the annotation of `config` as a class.
"""`dap train`: from LeRobot's command line to the loop."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from draccus.utils import ParsingError
from lerobot.configs import parser
from lerobot.configs.train import TrainPipelineConfig
from lerobot.utils.import_utils import register_third_party_plugins

from .. import register
from ..errors import UserError
from ..files import sole_run
from .loop import train
from .request import cleans_up, continuing
from .share import needs_repository


@parser.wrap()  # type: ignore[untyped-decorator]
def _parsed(config: TrainPipelineConfig) -> TrainPipelineConfig:
    needs_repository(config)
    return config


def run(args: Sequence[str], frames_dir: Path | None = None, quiet: bool = False) -> Path:
    """Trains with the arguments of `lerobot-train` and returns the last checkpoint's folder.

    The same arguments once more go on where an earlier run stopped.

    Raises:
        UserError: bad input, in one line.
    """
    register()
    register_third_party_plugins()
    asked = _read(args)
    alone = cleans_up() and asked.output_dir is not None
    with sole_run(asked.output_dir, "training") if alone else nullcontext():
        return train(_read(continuing(list(args), asked)), frames_dir, quiet)


def _read(args: Sequence[str]) -> Any:
    """LeRobot's configuration; what its parser refuses is a line."""
    sys.argv = ["dap train", *args]
    try:
        return _parsed()
    except (ParsingError, FileNotFoundError) as error:
        reason: BaseException = error
        while reason.__cause__ is not None:
            reason = reason.__cause__
        raise UserError(" ".join(str(reason).split())) from error

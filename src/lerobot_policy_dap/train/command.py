# No `from __future__ import annotations` here: LeRobot's parser reads the annotation of `config` as a class.
"""`dap train`: from LeRobot's command line to the loop."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lerobot.configs import parser
from lerobot.configs.train import TrainPipelineConfig
from lerobot.utils.import_utils import register_third_party_plugins

from .. import register
from .loop import train
from .request import continuing
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
    sys.argv = ["dap train", *args]
    asked: Any = _parsed()
    sys.argv = ["dap train", *continuing(list(args), asked)]
    return train(_parsed(), frames_dir, quiet)

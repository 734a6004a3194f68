"""Which policies a command line names, and where their checkpoints are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from .episodes import EXPERT
from .plan import Policy

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_NAME = re.compile(r"(?P<name>[^@]*)(@(?P<seed>.*))?")
_GENERIC = ("pretrained_model", "last", "checkpoints")


def read_policies(texts: Sequence[str]) -> list[Policy]:
    """The policies of `--policy`, each NAME=CHECKPOINT, NAME@SEED=CHECKPOINT, CHECKPOINT, or `expert`.

    A name given several times means training replicates, numbered from 0 in their order unless a SEED says
    otherwise. A checkpoint without a name takes that of its folder.

    Raises:
        UserError: a seed that is no number, or a checkpoint that is neither here nor on the Hub.
    """
    split = [_split(text) for text in texts]
    taken: dict[str, set[int]] = {}
    for name, seed, _ in split:
        taken.setdefault(name, set())
        if seed is not None:
            taken[name].add(seed)
    policies = []
    for name, seed, where in split:
        if seed is None:
            seed = next(n for n in range(len(texts)) if n not in taken[name])
            taken[name].add(seed)
        policies.append(Policy(name, where if where is None else locate(where), seed))
    return policies


def _split(text: str) -> tuple[str, int | None, str | None]:
    if text == EXPERT:
        return EXPERT, 0, None
    left, separator, where = text.partition("=")
    if not separator:
        # Replicates are named on purpose, never by two folders that happen to have one name.
        return run_name(Path(text)), 0, text
    match = _NAME.fullmatch(left)
    seed = match["seed"] if match else None
    if match is None or (seed is not None and not seed.isdecimal()):
        raise UserError(f"--policy {text}: after '@' comes the training seed, a whole number from 0 on")
    if not where:
        raise UserError(f"--policy {text}: no checkpoint follows the '='")
    return match["name"], None if seed is None else int(seed), where


def run_name(checkpoint: Path) -> str:
    """What a checkpoint without a name is called: the folder of its run."""
    parts = [part for part in checkpoint.parts if part not in _GENERIC and not part.isdigit()]
    return parts[-1] if parts else "policy"


def locate(where: str) -> Path:
    """A checkpoint's folder: a path, or where the Hub's snapshot of an id such as `user/name` was put.

    Raises:
        UserError: it is no folder, and the Hub has no such id, or is switched off.
    """
    path = Path(where).absolute()  # workers on a cluster stand in other folders
    if path.exists() or not _HUB_ID.fullmatch(where):
        return path
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise UserError(
            f"{where} is no checkpoint: there is no such folder, and the Hub is switched off (HF_HUB_OFFLINE)"
        )
    try:
        return Path(snapshot_download(where, allow_patterns=["*.json", "*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{where} is no checkpoint: there is no such folder, and the Hub says: {reason}"
        ) from error

"""Weights from disk into a model, and what goes with them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
from safetensors.torch import load_file
from torch import Tensor, nn

from .errors import UserError
from .files import RECORDING_FILE, read_recording
from .nets import ImageEncoder


def load_all(model: nn.Module, path: Path) -> None:
    """Loads a safetensors file into the model, each weight of either into the other.

    LeRobot's own loading leaves missing weights at random in silence.

    Raises:
        UserError: the file is missing or broken, or does not hold exactly this model's weights.
    """
    if not path.exists():
        raise UserError(f"{path} is missing; the folder is no whole checkpoint")
    weights = _read(path)
    own = model.state_dict()
    wrong = {
        "lacks": sorted(own.keys() - weights.keys()),
        "holds the unknown": sorted(weights.keys() - own.keys()),
        "has other shapes for": sorted(k for k in own.keys() & weights.keys() if own[k].shape != weights[k].shape),
    }
    for what, keys in wrong.items():
        if keys:
            raise UserError(f"{path} {what} {len(keys)} weights of this policy ({', '.join(keys[:3])}, …)")
    model.load_state_dict(weights)


def load_backbones(encoder: ImageEncoder, source: str) -> None:
    """Starts the encoder's residual networks from a safetensors file, or that of a Hub repository.

    Raises:
        UserError: there is no such file or repository, it cannot be reached, or it is of another network.
    """
    path = Path(source)
    if not path.is_file():
        try:
            path = Path(hf_hub_download(source, SAFETENSORS_SINGLE_FILE))
        except Exception as error:  # a bad name, no network, no such file: each has a type of its own
            raise UserError(
                f"policy.pretrained_backbone_weights is {source!r}: no such file, and no {SAFETENSORS_SINGLE_FILE} "
                f"of a Hub repository of that name could be had ({type(error).__name__})"
            ) from error
    try:
        encoder.load_backbones(_read(path))
    except ValueError as error:
        raise UserError(f"policy.pretrained_backbone_weights, {path}: {error}") from error


def _read(path: Path) -> dict[str, Tensor]:
    try:
        weights: dict[str, Tensor] = load_file(path)
    except Exception as error:
        raise UserError(f"{path} is not a readable safetensors file ({error})") from error
    return weights


def recording_of(dataset_meta: Any) -> dict[str, Any] | None:
    """The dataset's own account of how its frames were recorded, where it has one."""
    root = getattr(dataset_meta, "root", None)
    return read_recording(Path(root) / "meta") if root is not None else None


def fetch_recording(source: str | Path, **options: Any) -> None:
    """Has the Hub put a repository's account of its recording beside its weights; nothing for a folder.

    Args:
        options: of LeRobot's `from_pretrained`.
    """
    if Path(source).is_dir():
        return
    known = ("revision", "cache_dir", "force_download", "token", "local_files_only")
    # There is none, or the weights, which are asked for next, will say what is wrong.
    with suppress(EntryNotFoundError, HfHubHTTPError, HFValidationError):
        hf_hub_download(str(source), RECORDING_FILE, **{key: options[key] for key in known if key in options})

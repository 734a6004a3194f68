"""Weights from disk into a model."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from .errors import UserError


def load_all(model: nn.Module, path: Path) -> None:
    """Loads a safetensors file into the model, each weight of either into the other.

    LeRobot's own loading leaves missing weights at random in silence.

    Raises:
        UserError: the file is missing or broken, or does not hold exactly this model's weights.
    """
    if not path.exists():
        raise UserError(f"{path} is missing; the folder is no whole checkpoint")
    try:
        weights = load_file(path)
    except Exception as error:
        raise UserError(f"{path} is not a readable safetensors file ({error})") from error
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

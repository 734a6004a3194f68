"""The outcomes that were demonstrated, kept beside the weights."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class OutcomeMemory(nn.Module):
    """The latest outcomes of a training: the oldest gives way to the newest.

    They are what the encoder says of them when it is met, so that those of a training's last steps are of nearly the
    final encoder.

    Args:
        size: how many are kept.
        dim: numbers S of one.
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("outcomes", torch.zeros(size, dim))
        self.register_buffer("met", torch.zeros((), dtype=torch.int64))
        self.outcomes: Tensor
        self.met: Tensor

    @torch.no_grad()
    def remember(self, outcomes: Float[Tensor, "R S"]) -> None:
        """Adds outcomes, as many as there is room for."""
        size = len(self.outcomes)
        newest = outcomes[-size:].to(self.outcomes)
        # The count stays on the device: nothing waits for it.
        places = (self.met + torch.arange(len(newest), device=newest.device)) % size
        self.outcomes[places] = newest
        self.met += len(newest)

    @property
    def kept(self) -> Float[Tensor, "M S"]:
        """What is remembered, in no order that means anything."""
        return self.outcomes[: min(int(self.met), len(self.outcomes))]

"""Group normalisation that is as fast on a CPU as the convolutions around it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class PlanarGroupNorm(nn.GroupNorm):
    """Group normalisation that goes through its image plane by plane on a CPU.

    There torch's own takes ten times as long where channels come last in memory, longer than the convolutions.
    """

    def forward(self, x: Float[Tensor, "B channels height width"]) -> Tensor:
        """The image with each group of channels normalised."""
        if x.device.type != "cpu":
            return super().forward(x)
        return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)

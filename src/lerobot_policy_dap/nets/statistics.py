"""Running statistics of a latent, and how much of its space it fills."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class RunningStandardize(nn.Module):
    """Standardises each dimension by running mean and variance.

    Outcomes need it: a latent trained by the policy alone lives in a few dimensions of very different size, and
    a flow that must predict it unscaled (or under LayerNorm) learns a constant.

    Args:
        dim: number of dimensions S.
        momentum: weight of the newest batch; the first batch sets the statistics alone.
        clip: values further out than this many deviations are drawn in, so that a latent that grows faster than
            its statistics (as in the first steps of training) cannot swamp the loss.
        floor: least standard deviation, so that a dead dimension stays at zero instead of amplifying noise.
    """

    def __init__(self, dim: int, momentum: float = 0.05, floor: float = 1e-3, clip: float = 5.0) -> None:
        super().__init__()
        self.momentum = momentum
        self.floor = floor
        self.clip = clip
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.mean: Tensor
        self.variance: Tensor
        self.batches: Tensor

    def forward(self, x: Float[Tensor, "B S"]) -> Float[Tensor, "B S"]:
        """(x - mean) / max(std, floor), by the statistics so far, clipped."""
        scaled = (x - self.mean) / self.variance.sqrt().clamp(min=self.floor)
        return scaled.clamp(-self.clip, self.clip)

    @torch.no_grad()
    def observe(self, x: Float[Tensor, "B S"]) -> None:
        """Takes a batch of more than one row into the statistics."""
        if len(x) < 2:
            return
        weight = torch.where(self.batches == 0, 1.0, self.momentum)
        self.batches += 1
        self.mean.lerp_(x.mean(dim=0), weight)
        self.variance.lerp_(x.var(dim=0), weight)


@torch.no_grad()
def effective_rank(x: Float[Tensor, "B S"]) -> float:
    """exp(entropy of the normalised singular values) of the centred batch: between 1 and min(B - 1, S).

    Source: Roy and Vetterli, "The effective rank" (EUSIPCO 2007).
    """
    singular = torch.linalg.svdvals((x - x.mean(dim=0)).float())
    total = singular.sum()
    if total <= 0:
        return 0.0
    p = singular / total
    return float(torch.exp(-(p * p.clamp(min=1e-12).log()).sum()))

"""Running statistics of a latent, and how much of its space it fills."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Standardize(nn.BatchNorm1d):
    """Standardises each dimension: by the batch's own statistics in training, by running ones afterwards.

    Outcomes need it: a latent trained by the policy alone lives in a few dimensions of very different size, and
    a flow that must predict it unscaled (or under LayerNorm) learns a constant. Running statistics are not enough
    in training: a latent grows several times over in the first steps, its statistics lag behind, and the targets
    are then so large that their loss drives the encoder instead of the policy's (measured: docs/method.md).

    Args:
        dim: number of dimensions S.
        momentum: weight of the newest batch in the running statistics.
        clip: values further out than this many deviations are drawn in.
    """

    def __init__(self, dim: int, momentum: float = 0.05, clip: float = 5.0) -> None:
        super().__init__(dim, eps=1e-6, momentum=momentum, affine=False)  # a dead dimension stays at zero
        self.clip = clip

    def forward(self, x: Float[Tensor, "B S"]) -> Float[Tensor, "B S"]:
        """The standardised batch; one row alone has no statistics, so that it gets the running ones, and moves them."""
        if self.training and len(x) < 2:
            self._follow(x)
            scaled = F.batch_norm(x, self.running_mean, self.running_var, eps=self.eps)
        else:
            scaled = super().forward(x)
        return scaled.clamp(-self.clip, self.clip)

    @torch.no_grad()
    def _follow(self, x: Float[Tensor, "1 S"]) -> None:
        """Exponentially weighted mean and variance, a row at a time."""
        mean, var, weight = self.running_mean, self.running_var, self.momentum
        assert mean is not None
        assert var is not None
        assert weight is not None
        before = x[0].to(mean.dtype) - mean
        mean.add_(before, alpha=weight)
        var.add_(weight * before.square()).mul_(1 - weight)


@torch.no_grad()
def effective_rank(x: Float[Tensor, "B S"]) -> float:
    """exp(entropy of the normalised singular values) of the centred batch: between 1 and min(B - 1, S).

    0 where the rows are all the same, nan where one is not finite. Source: Roy and Vetterli, "The effective
    rank" (EUSIPCO 2007).
    """
    if not torch.isfinite(x).all():
        return math.nan
    singular = torch.linalg.svdvals((x - x.mean(dim=0)).float())
    total = singular.sum()
    if total <= 0:
        return 0.0
    p = singular / total
    return float(torch.exp(-(p * p.clamp(min=1e-12).log()).sum()))

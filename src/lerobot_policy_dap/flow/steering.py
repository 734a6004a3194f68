"""Steering: a chunk whose expected outcome leaves what was demonstrated is drawn back towards it.

Ours, after an idea of LPB (arXiv 2508.05941): that a dynamics model corrects a policy where it is out of distribution,
and leaves it alone elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from .path import extrapolate, over
from .sampler import Guide


class Steering:
    """What was demonstrated, and how far from it an outcome may be.

    Args:
        known: demonstrated outcomes.
        beyond: share of the demonstrated outcomes that are nearer to another one than `radius` is wide.
        most: how far an estimate of a chunk is moved in one flow step, at most (root mean square over its numbers).
    """

    def __init__(self, known: Float[Tensor, "M S"], beyond: float, most: float) -> None:
        with torch.inference_mode(False):  # whose tensors no gradient can pass by
            self.known = known.clone()
        self.most = most
        to_others = torch.cdist(known, known).fill_diagonal_(math.inf).min(dim=1).values
        self.radius = to_others.quantile(beyond, interpolation="lower")

    def guide(self, expected: Callable[[Tensor], Tensor]) -> Guide:
        """The guide of `flow.sample` that puts the estimate â, drawn back, in place of the policy's own.

        Args:
            expected: the outcome `[B, *s]` that is expected of a chunk `[B, H, A]`; differentiable.
        """

        def guided(a_t: Tensor, t: float, velocity: Callable[[Tensor], Tensor]) -> Tensor:
            a_hat = extrapolate(a_t, velocity(a_t), t)
            return (a_t - self.drawn_back(expected, a_hat)) / t

        return guided

    def drawn_back(
        self, expected: Callable[[Tensor], Tensor], a_hat: Float[Tensor, "B H A"]
    ) -> Float[Tensor, "B H A"]:
        """The estimate, moved down the gradient of the distance d from its outcome to the nearest one known.

            â - min((d - radius) / |g|, most·√(H·A)) · g / |g|        g = ∂d/∂â

        That is as far as brings it back to the radius where d is linear, and nowhere where it is within.
        """
        with torch.inference_mode(False), torch.enable_grad():  # inference mode would give no gradients
            estimate = a_hat.clone().requires_grad_()
            distance = torch.cdist(expected(estimate).flatten(1), self.known).min(dim=1).values
            (gradient,) = torch.autograd.grad(distance.sum(), estimate)
        slope = gradient.flatten(1).norm(dim=1).clamp(min=1e-12)
        longest = self.most * math.sqrt(a_hat[0].numel())
        length = ((distance.detach() - self.radius) / slope).clamp(0, longest)
        return a_hat - over(length / slope, a_hat) * gradient

"""Figures that training logs: what a normal loss hides."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .statistics import effective_rank


@torch.no_grad()
def image_figures(
    policy: Any, image_dim: int, context: Float[Tensor, "B D"], action: Float[Tensor, "B H A"]
) -> dict[str, float]:
    """Does the policy look? An encoder that ignores its images trains to a perfectly normal loss.

    `image_spread`: standard deviation of the image part of z over the batch, mean over dimensions: how much it varies
    with the image alone. `image_use`: how far the velocity at pure noise moves when every row is given its
    neighbour's image and keeps its own state, relative to the velocity's own variance. `latent_rank`: effective rank
    of the image part.

    Args:
        policy: the policy's velocity model.
        image_dim: how much of the context, from its start, is of images.
    """
    images = context[:, :image_dim]
    swapped = torch.cat([images.roll(1, dims=0), context[:, image_dim:]], dim=-1)
    t = context.new_ones(len(context))
    start = torch.zeros_like(action)
    own, other = (policy(start, t, policy.condition(t, z)) for z in (context, swapped))
    variance = own.var(dim=0).mean().clamp(min=1e-8)
    return {
        "image_spread": images.std(dim=0).mean().item(),
        "image_use": ((own - other).square().mean() / variance).item(),
        "latent_rank": effective_rank(images),
    }


@torch.no_grad()
def dynamics_figures(
    dynamics: Any,
    told: bool,
    context: Float[Tensor, "B D"],
    action: Float[Tensor, "B H A"],
    outcome: Float[Tensor, "B *s"],
) -> dict[str, float]:
    """Does the dynamics know the outcome, and heed the action?

    `dynamics_skill`: 1 - error of the one-step outcome from pure noise over the outcomes' variance. `action_gain`: that
    error given a neighbour's chunk, divided by the error given the row's own.

    Args:
        dynamics: the dynamics' velocity model.
        told: whether it is told the chunk.
    """
    t = context.new_ones(len(context))
    start = torch.zeros_like(outcome)
    condition = dynamics.condition(t, context, torch.zeros_like(t))

    def error(chunk: Tensor) -> Tensor:
        predicted: Tensor = start - dynamics(start, t, condition, chunk if told else None)
        return (predicted - outcome).square().mean()

    own = error(action)
    return {
        "dynamics_skill": (1 - own / outcome.var(dim=0).mean().clamp(min=1e-8)).item(),
        "action_gain": (error(action.roll(1, dims=0)) / own.clamp(min=1e-8)).item(),
    }


@torch.no_grad()
def outcome_figures(
    outcome: Float[Tensor, "B N W"], variance: Float[Tensor, "tokens W"], image_width: int
) -> dict[str, float]:
    """Has the outcome collapsed?

    The image part is judged, where there is one: the state is not learned, so that it goes on varying, and hides an
    encoder that says the same of every frame. `outcome_rank`: effective rank of the standardised outcomes.
    `outcome_spread`: standard deviation of an outcome before it is standardised, mean over dimensions.

    Args:
        variance: running variance of each token before it is standardised.
        image_width: how much of each token, from its start, is of images; 0 without cameras.
    """
    part = slice(image_width or None)
    return {
        "outcome_rank": effective_rank(outcome[..., part].flatten(1)),
        "outcome_spread": variance[..., part].sqrt().mean().item(),
    }

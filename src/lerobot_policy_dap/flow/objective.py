"""Training: the losses of one coupled step at a random time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .coupling import Coupling, Seen
from .path import extrapolate, interpolate, over, target_velocity
from .sampler import time_seen
from .velocity import VelocityModel


@dataclass(frozen=True)
class FlowLosses:
    """Mean squared velocity errors over what is not padding, and two figures about the feedback."""

    policy: Float[Tensor, ""]
    """|v - v*|²"""
    dynamics: Float[Tensor, ""]
    """|u(â) - u*|²: given the policy's own estimate. Its gradient through â into the policy is the alignment."""
    dynamics_true: Float[Tensor, ""]
    """|u(a) - u*|²: given the demonstrated chunk."""
    feedback_effect: Float[Tensor, ""]
    """|v(ŝ) - v(null)|² / |v*|²: how far the feedback moves the policy (no gradient)."""


def flow_losses(
    policy: VelocityModel,
    dynamics: VelocityModel,
    coupling: Coupling,
    context: Float[Tensor, "B D"],
    action: Float[Tensor, "B H A"],
    outcome: Float[Tensor, "B *s"],
    *,
    action_is_pad: Bool[Tensor, "B H"],
    outcome_is_pad: Bool[Tensor, "B *o"],
    feedback_dropout: float,
    imitate: Bool[Tensor, "B"] | None = None,
    align: bool = True,
    teach_context: bool = True,
    time_alpha: float = 1.0,
    outcome_from_noise: bool = False,
    generator: torch.Generator | None = None,
) -> FlowLosses:
    """The losses of one step, with t, ε_a and ε_s drawn once and shared by both models.

        first pass   v₀ = policy(a_t, t | z, null)    ŝ = s_t - t·dynamics(s_t, t | z, a_t - t·v₀)    no gradient
        second pass  v  = policy(a_t, t | z, ŝ)       u = dynamics(s_t, t | z, a_t - t·v)

    That is `two_way`; another arm tells the dynamics less, or shows the policy less, as its sampler does
    (`sampler.sample`). Every arm draws the same numbers in the same order, so two arms trained with one seed see the
    same noise.

    Args:
        context: encoding z of the observation now.
        action: demonstrated chunk, normalised.
        outcome: latent of the observation after the chunk, normalised, without gradient.
        action_is_pad: steps past the episode's end; they carry no loss.
        outcome_is_pad: rows, or parts `*o` of rows, whose outcome lies past the episode's end; they carry no
            dynamics loss.
        feedback_dropout: probability with which the second pass keeps the null token.
        imitate: rows whose chunk is to be imitated; the others teach the dynamics alone, and what came of their own
            chunk, not of the policy's idea of a chunk there. None: all.
        align: whether the dynamics' loss reaches the policy through â.
        teach_context: whether the dynamics' loss reaches `context` through what the dynamics is told of it; through
            â it may still.
        time_alpha: t ~ Beta(time_alpha, 1); 1 is uniform, larger looks more at noisy samples.
        outcome_from_noise: whether the dynamics sees s_1 = ε_s at its time 1 instead of s_t, whatever t is. Then ŝ
            holds nothing of what really came of the chunk.
    """
    B = len(action)
    uniform = 1 - torch.rand(B, device=action.device, generator=generator)  # in (0, 1]
    t = uniform ** (1 / time_alpha)  # inverse distribution function of Beta(alpha, 1)
    action_noise = torch.randn(action.shape, device=action.device, generator=generator)
    outcome_noise = torch.randn(outcome.shape, device=outcome.device, generator=generator)
    present = torch.rand(B, device=action.device, generator=generator) >= feedback_dropout

    a_t, v_star = interpolate(action, action_noise, t), target_velocity(action, action_noise)
    t_s = torch.ones_like(t) if outcome_from_noise else t
    s_t, u_star = interpolate(outcome, outcome_noise, t_s), target_velocity(outcome, outcome_noise)
    action_weight = (~action_is_pad).unsqueeze(-1)
    outcome_weight = ~outcome_is_pad[(..., *(None,) * (outcome.ndim - outcome_is_pad.ndim))]
    estimate_weight = outcome_weight
    if imitate is not None:
        action_weight = action_weight & over(imitate, action)
        estimate_weight = outcome_weight & over(imitate, outcome)

    policy_z = policy.condition(t, context)
    if not coupling.learns_dynamics:
        v = policy(a_t, t, policy_z)
        zero = v.new_zeros(())
        return FlowLosses(masked_mse(v, v_star, action_weight), zero, zero, zero)

    told = coupling.dynamics_sees
    given = context if teach_context else context.detach()
    dynamics_z = dynamics.condition(t_s, given, time_seen(told, t))
    draft = _draft(policy, context, action_noise) if told is Seen.DRAFT else None

    def seen(v: Tensor) -> Tensor | None:
        """What the dynamics is told of the chunk when the policy's velocity is `v`."""
        return extrapolate(a_t, v, t) if told is Seen.ESTIMATE else draft

    s_hat, v_null = None, None
    if coupling.feeds_policy:
        with torch.no_grad():
            v_null = policy(a_t, t, policy_z)
            u_null = dynamics(s_t, t_s, dynamics_z, seen(v_null))
            s_hat = extrapolate(s_t, u_null, t_s)
            if coupling is Coupling.SHUFFLED:
                s_hat = s_hat[torch.randperm(B, device=s_hat.device, generator=generator)]

    torch.clear_autocast_cache()  # before torch 2.11 it would lend the casts made without gradient above
    v = policy(a_t, t, policy_z, s_hat, present)
    chunk = seen(v)
    u = dynamics(s_t, t_s, dynamics_z, chunk if align or chunk is None else chunk.detach())
    u_true = u
    if told is not Seen.NOTHING:
        u_true = dynamics(s_t, t_s, dynamics.condition(t_s, given, torch.zeros_like(t)), action)
    return FlowLosses(
        policy=masked_mse(v, v_star, action_weight),
        dynamics=masked_mse(u, u_star, estimate_weight),
        dynamics_true=masked_mse(u_true, u_star, outcome_weight),
        feedback_effect=_effect(v, v_null, v_star, present),
    )


@torch.no_grad()
def _draft(policy: VelocityModel, context: Tensor, action_noise: Tensor) -> Tensor:
    """The chunk that the sampler's first step estimates from this noise."""
    ones = context.new_ones(len(context))
    return extrapolate(action_noise, policy(action_noise, ones, policy.condition(ones, context)), ones)


def masked_mse(
    predicted: Float[Tensor, "B *x"], target: Float[Tensor, "B *x"], weight: Bool[Tensor, "B *w"]
) -> Float[Tensor, ""]:
    """Mean squared error over the elements where `weight`, broadcast, is True; 0 where there is none."""
    kept = weight.expand_as(predicted)
    return ((predicted - target).square() * kept).sum() / kept.sum().clamp(min=1)


@torch.no_grad()
def _effect(
    v: Float[Tensor, "B H A"],
    v_null: Float[Tensor, "B H A"] | None,
    v_star: Float[Tensor, "B H A"],
    present: Bool[Tensor, "B"],
) -> Float[Tensor, ""]:
    if v_null is None:
        return v.new_zeros(())
    moved = masked_mse(v.detach(), v_null, present.reshape(-1, 1, 1))
    return moved / v_star.square().mean()

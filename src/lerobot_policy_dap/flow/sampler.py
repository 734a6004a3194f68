"""Generation: K coupled Euler steps from noise to an action chunk and the outcome it should lead to."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .coupling import Coupling, Seen
from .path import extrapolate
from .velocity import VelocityModel

Guide = Callable[[Tensor, float, Callable[[Tensor], Tensor]], Tensor]
"""From the flow sample a_t, the time t and the policy's velocity as a function of a_t to the velocity that is taken."""


class Sample(NamedTuple):
    """What one generation gives."""

    action: Float[Tensor, "B H A"]
    """The action chunk."""
    outcome: Float[Tensor, "B *s"] | None
    """The outcome the dynamics expects of it; None where the coupling gives no feedback."""
    estimates: Float[Tensor, "K B H A"]
    """The policy's estimate â of the chunk at each step."""


def sample(
    policy: VelocityModel,
    dynamics: VelocityModel,
    coupling: Coupling,
    context: Float[Tensor, "B D"],
    action_noise: Float[Tensor, "B H A"],
    outcome_noise: Float[Tensor, "B *s"],
    steps: int,
    guide: Guide | None = None,
    two_passes: bool = False,
    outcome_from_noise: bool = False,
) -> Sample:
    """Integrates both flows together from t = 1 to t = 0. One step:

        v = policy(a_t, t | z, ŝ)           ŝ from the step before; the null token at the first
        â = a_t - t·v
        u = dynamics(s_t, t | z, â)         â with its time t; `one_way`: the first â, of time 1; `agnostic`: null
        ŝ = s_t - t·u
        a_t, s_t <- a_t + dt·v, s_t + dt·u        dt = -1/K

    Args:
        context: encoding z of the observation now, computed once.
        action_noise, outcome_noise: the samples at t = 1.
        steps: K, at least 1.
        guide: gives the velocity v in the policy's stead. The dynamics then is told the estimate of the guided flow.
        two_passes: whether ŝ is made anew in every step by a pass without feedback, as in training
            (`objective.flow_losses`), at twice the evaluations:

                v₀ = policy(a_t, t | z, null)     ŝ = s_t - t·dynamics(s_t, t | z, a_t - t·v₀)
        outcome_from_noise: whether the dynamics sees the outcome's noise at its time 1 in every step, as in a training
            with the same option; the outcome then is the ŝ of the last step.
    """
    times, column = _times(steps, context)
    policy_z = policy.condition(column, context)
    told_at = time_seen(coupling.dynamics_sees, column)
    at = torch.ones_like(column) if outcome_from_noise else column
    dynamics_z = dynamics.condition(at, context, told_at) if coupling.feeds_policy else None

    a_t, s_t, s_hat, draft, outcome = action_noise, outcome_noise, None, None, None
    estimates = []
    dt = -1 / steps
    for k, t in enumerate(times):
        t_s = 1.0 if outcome_from_noise else t
        if two_passes and dynamics_z is not None:
            a_hat = extrapolate(a_t, policy(a_t, t, policy_z[k]), t)
            draft = a_hat if draft is None else draft
            _, s_hat = _answer(dynamics, coupling, s_t, t_s, dynamics_z[k], a_hat, draft)
        if guide is None:
            v = policy(a_t, t, policy_z[k], s_hat)
        else:
            v = guide(a_t, t, _of_sample(policy, t, policy_z[k], s_hat))
        a_hat = extrapolate(a_t, v, t)
        if dynamics_z is not None:
            draft = a_hat if draft is None else draft
            u, s_hat = _answer(dynamics, coupling, s_t, t_s, dynamics_z[k], a_hat, draft)
            if outcome_from_noise:
                outcome = s_t - u
            else:
                outcome = s_t = s_t + dt * u
        a_t = a_t + dt * v
        estimates.append(a_hat)
    return Sample(a_t, outcome, torch.stack(estimates))


def _answer(
    dynamics: VelocityModel,
    coupling: Coupling,
    s_t: Float[Tensor, "B *s"],
    t: float,
    condition: Float[Tensor, "B C"],
    a_hat: Float[Tensor, "B H A"],
    draft: Float[Tensor, "B H A"],
) -> tuple[Float[Tensor, "B *s"], Float[Tensor, "B *s"] | None]:
    """The dynamics' velocity u, and the ŝ that the policy sees of it; None where a row alone has no other's to see."""
    seen = {Seen.ESTIMATE: a_hat, Seen.DRAFT: draft, Seen.NOTHING: None}[coupling.dynamics_sees]
    u = dynamics(s_t, t, condition, seen)
    s_hat = extrapolate(s_t, u, t)
    if coupling is not Coupling.SHUFFLED:
        return u, s_hat
    return u, s_hat.roll(1, dims=0) if len(s_hat) > 1 else None


def _times(steps: int, context: Tensor) -> tuple[list[float], Float[Tensor, "K 1"]]:
    """The flow times of the K steps, as numbers and as `VelocityModel.condition` takes them."""
    times = [1 - k / steps for k in range(steps)]
    dtype = torch.promote_types(context.dtype, torch.float32)  # rounded to bfloat16 they would be other times
    return times, torch.tensor(times, dtype=dtype, device=context.device).unsqueeze(-1)


def _of_sample(
    policy: VelocityModel, t: float, condition: Float[Tensor, "B C"], feedback: Float[Tensor, "B *s"] | None
) -> Callable[[Tensor], Tensor]:
    """The policy's velocity as a function of the flow sample alone."""
    return lambda a_t: policy(a_t, t, condition, feedback)


def outcome_of(
    dynamics: VelocityModel,
    coupling: Coupling,
    context: Float[Tensor, "B D"],
    action: Float[Tensor, "B H A"],
    outcome_noise: Float[Tensor, "B *s"],
    steps: int,
) -> Float[Tensor, "B *s"]:
    """The outcome that the dynamics expects of a given chunk: its flow alone, told the chunk itself (time 0)."""
    times, column = _times(steps, context)
    dynamics_z = dynamics.condition(column, context, torch.zeros_like(column))
    seen = None if coupling.dynamics_sees is Seen.NOTHING else action
    s_t = outcome_noise
    for k, t in enumerate(times):
        s_t = s_t - dynamics(s_t, t, dynamics_z[k], seen) / steps
    return s_t


def time_seen(told: Seen, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The flow time of what the dynamics is told of the chunk, when the flow is at `t`.

    An estimate made at time t is worth less the larger t is; one network that is given estimates of all times, and in
    training demonstrated chunks too (time 0), must be told which it has, or it answers with a mixture
    (docs/method.md, Training).
    """
    match told:
        case Seen.ESTIMATE:
            return t
        case Seen.DRAFT:
            return torch.ones_like(t)
        case Seen.NOTHING:
            return torch.zeros_like(t)

"""Generation: K coupled Euler steps from noise to an action chunk and the outcome it should lead to."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .coupling import Coupling
from .path import extrapolate
from .velocity import VelocityModel


class Sample(NamedTuple):
    """What one generation gives."""

    action: Float[Tensor, "B H A"]
    """The action chunk."""
    outcome: Float[Tensor, "B S"] | None
    """The outcome the dynamics expects of it; None where the coupling has no dynamics."""


def sample(
    policy: VelocityModel,
    dynamics: VelocityModel,
    coupling: Coupling,
    context: Float[Tensor, "B D"],
    action_noise: Float[Tensor, "B H A"],
    outcome_noise: Float[Tensor, "B S"],
    steps: int,
) -> Sample:
    """Integrates both flows together from t = 1 to t = 0. One step:

        v = policy(a_t, t | z, ŝ)           ŝ from the step before; the null token at the first
        â = a_t - t·v
        u = dynamics(s_t, t | z, â)
        ŝ = s_t - t·u
        a_t, s_t <- a_t + dt·v, s_t + dt·u        dt = -1/K

    Args:
        context: encoding z of the observation now, computed once.
        action_noise, outcome_noise: the samples at t = 1.
        steps: K, at least 1.
    """
    times = [1 - k / steps for k in range(steps)]
    column = torch.tensor(times, dtype=context.dtype, device=context.device).unsqueeze(-1)
    policy_z = policy.condition(column, context)
    dynamics_z = dynamics.condition(column, context) if coupling.feeds_policy else None

    a_t, s_t, s_hat = action_noise, outcome_noise, None
    dt = -1 / steps
    for k, t in enumerate(times):
        v = policy(a_t, t, policy_z[k], s_hat)
        if dynamics_z is not None:
            a_hat = extrapolate(a_t, v, t)
            u = dynamics(s_t, t, dynamics_z[k], a_hat)
            s_hat = extrapolate(s_t, u, t)
            s_t = s_t + dt * u
        a_t = a_t + dt * v
    return Sample(a_t, s_t if coupling.feeds_policy else None)

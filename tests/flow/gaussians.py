"""Velocity fields that are known in closed form, and one that keeps what it was shown."""

from typing import Any, NamedTuple

import torch


class Known:
    """A velocity model that is a function (x_t, t, feedback) -> velocity.

    Its condition is the flow time of the feedback, which `timed` asks for as a fourth argument.
    """

    def __init__(self, velocity, timed=False):
        self.velocity, self.timed = velocity, timed

    def condition(self, t, context, feedback_time=None):
        told = torch.zeros_like(t) if feedback_time is None else feedback_time
        return told.expand(torch.broadcast_shapes(t.shape, context.shape[:1])).unsqueeze(-1)

    def __call__(self, x_t, t, condition=None, feedback=None, present=None):
        return self.velocity(x_t, t, feedback, *[condition] * self.timed)


class Call(NamedTuple):
    x_t: Any
    t: Any
    condition: Any
    feedback: Any
    present: Any
    velocity: Any


class Watched:
    """A velocity model that keeps what it was shown, and what it answered."""

    def __init__(self, model):
        self.model, self.condition, self.calls = model, model.condition, []

    def __call__(self, x_t, t, condition, feedback=None, present=None):
        velocity = self.model(x_t, t, condition, feedback, present)
        self.calls.append(Call(x_t, t, condition, feedback, present, velocity))
        return velocity

    @property
    def shown(self):
        return [call.feedback for call in self.calls]


def column(t, x):
    """A number, or times `[B]` that multiply `x` row by row."""
    return t if isinstance(t, float) else t.reshape(-1, *(1,) * (x.ndim - 1))


def gaussian_velocity(mean, std):
    """E[ε - x | x_t] for data N(mean, std²) and the straight path.

    x_t = t·ε + (1-t)·x is Gaussian with mean (1-t)·m and variance V = t² + (1-t)²·s², jointly with ε and x, so
    the conditional mean is linear: E[ε - x | x_t] = -m + (t - (1-t)·s²)/V · (x_t - (1-t)·m).
    """

    def velocity(x_t, t, feedback):
        t = column(t, x_t)
        variance = t**2 + (1 - t) ** 2 * std**2
        return -mean + (t - (1 - t) * std**2) / variance * (x_t - (1 - t) * mean)

    return Known(velocity)


def gaussian_flow(noise, mean, std):
    """The exact flow of that field from t = 1 to t = 0: an affine map of the noise."""
    return mean + std * noise


def watched():
    """A policy and a dynamics, each row of which moves with its own feedback."""
    policy = Known(lambda x_t, t, seen: 0.3 * x_t + (0 if seen is None else seen[:, :1, None]))
    dynamics = Known(lambda x_t, t, seen: 0.7 * x_t + (1 if seen is None else seen.flatten(1)[:, :1]))
    return Watched(policy), Watched(dynamics)


still = Known(lambda x_t, t, feedback: torch.zeros_like(x_t))
"""A velocity of zero."""

"""Velocity fields that are known in closed form."""

import torch


class Known:
    """A velocity model that is a function (x_t, t, feedback) -> velocity, and needs no condition."""

    def __init__(self, velocity):
        self.velocity = velocity

    def condition(self, t, context, feedback_time=None):
        return torch.zeros(*torch.broadcast_shapes(t.shape, context.shape[:1]), 0)

    def __call__(self, x_t, t, condition=None, feedback=None, present=None):
        return self.velocity(x_t, t, feedback)


def gaussian_velocity(mean, std):
    """E[ε - x | x_t] for data N(mean, std²) and the straight path.

    x_t = t·ε + (1-t)·x is Gaussian with mean (1-t)·m and variance V = t² + (1-t)²·s², jointly with ε and x, so
    the conditional mean is linear: E[ε - x | x_t] = -m + (t - (1-t)·s²)/V · (x_t - (1-t)·m).
    """

    def velocity(x_t, t, feedback):
        if not isinstance(t, float):
            t = t.reshape(-1, *(1,) * (x_t.ndim - 1))
        variance = t**2 + (1 - t) ** 2 * std**2
        return -mean + (t - (1 - t) * std**2) / variance * (x_t - (1 - t) * mean)

    return Known(velocity)


def gaussian_flow(noise, mean, std):
    """The exact flow of that field from t = 1 to t = 0: an affine map of the noise."""
    return mean + std * noise


still = Known(lambda x_t, t, feedback: torch.zeros_like(x_t))
"""A velocity of zero."""

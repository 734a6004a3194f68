"""Velocity fields that are known in closed form."""

import torch


def gaussian_velocity(mean, std):
    """E[ε - x | x_t] for data N(mean, std²) and the straight path.

    x_t = t·ε + (1-t)·x is Gaussian with mean (1-t)·m and variance V = t² + (1-t)²·s², jointly with ε and x, so
    the conditional mean is linear: E[ε - x | x_t] = -m + (t - (1-t)·s²)/V · (x_t - (1-t)·m).
    """

    def velocity(x_t, t, context=None, feedback=None, present=None):
        t = t.reshape(-1, *(1,) * (x_t.ndim - 1))
        variance = t**2 + (1 - t) ** 2 * std**2
        return -mean + (t - (1 - t) * std**2) / variance * (x_t - (1 - t) * mean)

    return velocity


def gaussian_flow(noise, mean, std):
    """The exact flow of that field from t = 1 to t = 0: an affine map of the noise."""
    return mean + std * noise


def still(x_t, t, context=None, feedback=None, present=None):
    """A velocity of zero."""
    return torch.zeros_like(x_t)

"""The straight probability path between noise and data, in LeRobot's time: t = 1 is noise, t = 0 is data.

    x_t = t·ε + (1 - t)·x        v* = dx_t/dt = ε - x        x = x_t - t·v*

Source: conditional optimal-transport path of Lipman et al., "Flow Matching for Generative Modeling"
(arXiv 2210.02747), with time reversed as in openpi and LeRobot.
"""

from __future__ import annotations

from jaxtyping import Float, Shaped
from torch import Tensor


def interpolate(
    data: Float[Tensor, "B *x"], noise: Float[Tensor, "B *x"], t: Float[Tensor, "B"]
) -> Float[Tensor, "B *x"]:
    """The flow sample x_t = t·ε + (1 - t)·x."""
    at = over(t, data)
    return at * noise + (1 - at) * data


def target_velocity(data: Float[Tensor, "B *x"], noise: Float[Tensor, "B *x"]) -> Float[Tensor, "B *x"]:
    """The velocity ε - x of the path through `data` and `noise`; it does not depend on the time."""
    return noise - data


def extrapolate(
    x_t: Float[Tensor, "B *x"], velocity: Float[Tensor, "B *x"], t: Float[Tensor, "B"] | float
) -> Float[Tensor, "B *x"]:
    """The final sample x̂ = x_t - t·v to which the present velocity leads in a straight line."""
    return x_t - over(t, x_t) * velocity


def over(t: Shaped[Tensor, "B"] | float, x: Float[Tensor, "B *x"]) -> Tensor | float:
    """`t` with as many trailing axes of size one as `x` has, so that it multiplies row by row.

    A number is one time for all rows.
    """
    return t if isinstance(t, float) else t.reshape(-1, *(1,) * (x.ndim - 1))

"""The straight path: its ends, its velocity, and extrapolation along it."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_policy_dap.flow.path import extrapolate, interpolate, target_velocity

seeds = st.integers(0, 2**31 - 1)
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)


@given(seed=seeds, shape=shapes)
@settings(max_examples=50, deadline=None)
def test_extrapolation_along_a_straight_path_is_exact(seed, shape):
    g = torch.Generator().manual_seed(seed)
    data, noise = torch.randn(5, *shape, generator=g), torch.randn(5, *shape, generator=g)
    t = torch.rand(5, generator=g)
    x_t = interpolate(data, noise, t)
    torch.testing.assert_close(extrapolate(x_t, target_velocity(data, noise), t), data, atol=1e-5, rtol=0)


@given(seed=seeds, shape=shapes)
@settings(max_examples=50, deadline=None)
def test_time_one_is_noise_and_time_zero_is_data(seed, shape):
    g = torch.Generator().manual_seed(seed)
    data, noise = torch.randn(5, *shape, generator=g), torch.randn(5, *shape, generator=g)
    assert torch.equal(interpolate(data, noise, torch.zeros(5)), data)
    assert torch.equal(interpolate(data, noise, torch.ones(5)), noise)


def test_velocity_is_the_time_derivative_of_the_path():
    data, noise = torch.randn(3, 2, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    t, h = torch.full((3,), 0.4, dtype=torch.float64), 1e-6
    slope = (interpolate(data, noise, t + h) - interpolate(data, noise, t - h)) / (2 * h)
    torch.testing.assert_close(slope, target_velocity(data, noise), atol=1e-8, rtol=0)

"""Standardising, effective rank, time embedding."""

import pytest
import torch

from lerobot_policy_dap.nets.statistics import RunningStandardize, effective_rank
from lerobot_policy_dap.nets.velocity import TimeEmbedding, VelocityMLP


def test_statistics_follow_the_data_and_standardise_it():
    torch.manual_seed(0)
    standardize = RunningStandardize(3)
    mean, std = torch.tensor([1.0, -5.0, 0.0]), torch.tensor([0.01, 3.0, 100.0])
    for _ in range(300):
        standardize.observe(mean + std * torch.randn(64, 3))
    out = standardize(mean + std * torch.randn(5000, 3))
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(3), atol=0.2, rtol=0)
    torch.testing.assert_close(out.std(dim=0), torch.ones(3), atol=0.15, rtol=0)


def test_a_dead_dimension_stays_at_zero_and_an_outlier_is_drawn_in():
    standardize = RunningStandardize(2)
    for _ in range(50):
        standardize.observe(torch.stack([torch.full((8,), 4.0), torch.randn(8)], dim=1))
    out = standardize(torch.tensor([[4.0, 1e6]]))
    assert out[0, 0].abs() < 1e-2
    assert out[0, 1] == standardize.clip


def test_one_row_says_nothing_of_spread():
    standardize = RunningStandardize(2)
    standardize.observe(torch.ones(1, 2))
    assert int(standardize.batches) == 0


@pytest.mark.parametrize("rank", [1, 3, 10])
def test_effective_rank_of_equal_directions_is_their_number(rank):
    torch.manual_seed(0)
    left = torch.linalg.qr(torch.randn(500, rank)).Q
    right = torch.linalg.qr(torch.randn(20, rank)).Q
    left = left - left.mean(dim=0)
    assert effective_rank(left @ right.T) == pytest.approx(rank, rel=0.02)


def test_effective_rank_of_a_collapsed_latent_is_zero():
    assert effective_rank(torch.ones(10, 4)) == 0


def test_times_are_told_apart():
    embedded = TimeEmbedding(64)(torch.linspace(0, 1, 11))
    distance = torch.cdist(embedded, embedded) + 10 * torch.eye(11)
    assert distance.min() > 0.5


def test_an_untrained_velocity_is_zero_and_a_missing_feedback_is_the_null_token():
    model = VelocityMLP((2, 3), context_dim=4, feedback_dim=5, hidden=8, depth=1)
    x, t, context, feedback = torch.randn(6, 2, 3), torch.rand(6), torch.randn(6, 4), torch.randn(6, 5)
    assert torch.equal(model(x, t, context, feedback), torch.zeros(6, 2, 3))
    torch.nn.init.normal_(model.out.weight)
    torch.nn.init.normal_(model.null)
    none = model(x, t, context)
    torch.testing.assert_close(model(x, t, context, feedback, torch.zeros(6, dtype=torch.bool)), none)
    some = torch.tensor([True, False] * 3)
    mixed = model(x, t, context, feedback, some)
    torch.testing.assert_close(mixed[~some], none[~some])
    torch.testing.assert_close(mixed[some], model(x, t, context, feedback)[some])

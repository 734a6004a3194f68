"""Sampler and objective in the linear-Gaussian world, against what is known of it."""

import pytest
import torch
from linear_gaussian import LinearGaussian

from lerobot_policy_dap.flow import Coupling, flow_losses, sample

N = 400_000


def noises(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.zeros(n, 1, dtype=torch.float64), *(
        torch.randn(n, *shape, dtype=torch.float64, generator=g) for shape in ((1, 1), (1,))
    )


@pytest.mark.parametrize("c", [1.5, -2.0, 0.1])
def test_two_way_converges_with_first_order_to_the_flow_of_the_joint(c):
    """Two models that see only their own sample and the other's estimate carry noise to the joint of (a, s)."""
    world = LinearGaussian(c=c)
    context, action_noise, outcome_noise = noises(64)
    noise = torch.cat([action_noise.flatten(1), outcome_noise], dim=1)
    exact = world.mean + noise @ world.root()
    errors = []
    for steps in (160, 320, 640, 1280):
        got = sample(*world.coupled(), Coupling.TWO_WAY, context, action_noise, outcome_noise, steps)
        errors.append(float((torch.cat([got.action.flatten(1), got.outcome], dim=1) - exact).abs().max()))
    orders = [errors[i] / errors[i + 1] for i in range(3)]
    assert all(1.75 < order < 2.25 for order in orders), errors
    assert errors[-1] < 0.05


def test_what_two_way_samples_is_the_joint_of_an_action_and_its_outcome():
    world = LinearGaussian()
    got = sample(*world.coupled(), Coupling.TWO_WAY, *noises(20_000), steps=400)
    x = torch.cat([got.action.flatten(1), got.outcome], dim=1)
    torch.testing.assert_close(x.mean(dim=0), world.mean, atol=0.02, rtol=0)
    torch.testing.assert_close(x.T.cov(), world.covariance, atol=0.03, rtol=0)


def losses(world, coupling):
    g = torch.Generator().manual_seed(0)
    action, outcome = world.draw(N, g)
    return flow_losses(
        *world.informed(),
        coupling,
        torch.zeros(N, 1, dtype=torch.float64),
        action,
        outcome,
        action_is_pad=torch.zeros(N, 1, dtype=torch.bool),
        outcome_is_pad=torch.zeros(N, dtype=torch.bool),
        feedback_dropout=0.0,
        generator=g,
    )


def test_the_policy_loss_falls_by_what_the_outcome_says_of_the_action():
    """∫ Var(ε - a | a_t) dt without feedback, ∫ Var(ε - a | a_t, s_t) dt with it."""
    world = LinearGaussian()
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)
    alone, with_outcome = (float(torch.trapezoid(variance, t)) for variance in world.remaining(t))
    assert with_outcome < 0.8 * alone
    assert float(losses(world, Coupling.NONE).policy) == pytest.approx(alone, rel=0.02)
    assert float(losses(world, Coupling.AGNOSTIC).policy) == pytest.approx(with_outcome, rel=0.02)

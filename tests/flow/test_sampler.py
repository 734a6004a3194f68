"""The sampler against flows that are known exactly, and what each arm lets through."""

import pytest
import torch
from gaussians import Known, gaussian_flow, gaussian_velocity, still

from lerobot_policy_dap.flow import Coupling, sample
from lerobot_policy_dap.nets.transformer import velocity_network

B, H, A, S, D = 6, 4, 2, 3, 5


def noises(seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    return (
        torch.randn(B, D, generator=g, dtype=dtype),
        torch.randn(B, H, A, generator=g, dtype=dtype),
        torch.randn(B, S, generator=g, dtype=dtype),
    )


@pytest.mark.parametrize("coupling", list(Coupling))
def test_euler_converges_with_first_order_to_the_exact_flow_of_a_gaussian(coupling):
    context, action_noise, outcome_noise = noises(dtype=torch.float64)
    policy, dynamics = gaussian_velocity(0.7, 0.5), gaussian_velocity(-1.0, 2.0)
    exact = gaussian_flow(action_noise, 0.7, 0.5)
    errors = []
    for steps in (20, 40, 80, 160):
        got = sample(policy, dynamics, coupling, context, action_noise, outcome_noise, steps)
        errors.append((got.action - exact).abs().max().item())
    orders = [errors[i] / errors[i + 1] for i in range(3)]
    assert all(1.7 < order < 2.4 for order in orders), errors
    assert errors[-1] < 0.02


def test_the_outcome_flow_is_integrated_as_well():
    context, action_noise, outcome_noise = noises(dtype=torch.float64)
    got = sample(
        still, gaussian_velocity(-1.0, 2.0), Coupling.TWO_WAY, context, action_noise, outcome_noise, steps=400
    )
    torch.testing.assert_close(got.outcome, gaussian_flow(outcome_noise, -1.0, 2.0), atol=0.02, rtol=0)


def test_one_step_from_noise_lands_on_the_mean():
    """At t = 1 the best guess from pure noise is the mean: a known defect of one Euler step, kept in mind."""
    context, action_noise, outcome_noise = noises()
    got = sample(gaussian_velocity(0.7, 0.5), still, Coupling.NONE, context, action_noise, outcome_noise, steps=1)
    torch.testing.assert_close(got.action, torch.full_like(got.action, 0.7))


def test_two_way_is_the_recursion_of_the_method_page():
    """Linear models, worked by hand for K = 2."""
    context = torch.zeros(1, 1)
    a, s = torch.tensor([[[1.0]]]), torch.tensor([[2.0]])

    policy = Known(lambda x_t, t, seen: x_t + (10.0 if seen is None else seen.reshape(-1, 1, 1)))
    dynamics = Known(lambda x_t, t, seen: x_t - seen.reshape(-1, 1))

    # t = 1:    v = 1 + 10 = 11, â = 1 - 11 = -10, u = 2 + 10 = 12, ŝ = 2 - 12 = -10, a = 1 - 5.5, s = 2 - 6
    # t = 0.5:  v = -4.5 - 10 = -14.5, â = -4.5 + 7.25 = 2.75, u = -4 - 2.75 = -6.75, a = -4.5 + 7.25, s = -4 + 3.375
    got = sample(policy, dynamics, Coupling.TWO_WAY, context, a, s, steps=2)
    assert got.action.item() == pytest.approx(2.75)
    assert got.outcome.item() == pytest.approx(-0.625)


def networks(kind="mlp"):
    torch.manual_seed(0)
    hidden = {"mlp": 16, "transformer": 64}[kind]
    policy = velocity_network(kind, (H, A), (S,), D, hidden, depth=2)
    dynamics = velocity_network(kind, (S,), (H, A), D, hidden, depth=2, timed_feedback=True)
    for model in (policy, dynamics):  # an untrained model answers zero
        torch.nn.init.normal_(model.out.weight, std=0.5)
        torch.nn.init.normal_(model.embed.weight, std=0.3)  # feedback has no weight yet
    return policy, dynamics


def test_none_does_not_move_when_the_dynamics_weights_change():
    policy, dynamics = networks()
    before = sample(policy, dynamics, Coupling.NONE, *noises(), steps=5)
    two_way_before = sample(policy, dynamics, Coupling.TWO_WAY, *noises(), steps=5)
    for p in dynamics.parameters():
        torch.nn.init.normal_(p)
    after = sample(policy, dynamics, Coupling.NONE, *noises(), steps=5)
    assert torch.equal(before.action, after.action)
    assert after.outcome is None
    two_way_after = sample(policy, dynamics, Coupling.TWO_WAY, *noises(), steps=5)
    assert not torch.allclose(two_way_before.action, two_way_after.action)


@pytest.mark.parametrize("kind", ["mlp", "transformer"])
@pytest.mark.parametrize("coupling", [c for c in Coupling if c is not Coupling.SHUFFLED])
def test_rows_of_a_batch_do_not_see_each_other(coupling, kind):
    policy, dynamics = networks(kind)
    context, action_noise, outcome_noise = noises()
    order = torch.randperm(B, generator=torch.Generator().manual_seed(3))
    whole = sample(policy, dynamics, coupling, context, action_noise, outcome_noise, steps=4).action
    moved = sample(
        policy, dynamics, coupling, context[order], action_noise[order], outcome_noise[order], steps=4
    ).action
    torch.testing.assert_close(moved, whole[order], atol=1e-5, rtol=0)
    alone = sample(policy, dynamics, coupling, context[:1], action_noise[:1], outcome_noise[:1], steps=4).action
    torch.testing.assert_close(alone, whole[:1], atol=1e-5, rtol=0)


def test_the_first_step_sees_the_null_token_and_later_ones_the_feedback():
    seen = []

    def policy(x_t, t, feedback):
        seen.append(feedback is None)
        return torch.zeros_like(x_t)

    sample(Known(policy), still, Coupling.TWO_WAY, *noises(), steps=4)
    assert seen == [True, False, False, False]

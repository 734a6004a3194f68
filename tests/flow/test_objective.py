"""The training losses: where their gradients go, what they mask, and what minimises them."""

import math

import pytest
import torch
from gaussians import Known, gaussian_velocity, still

from lerobot_policy_dap.flow import Coupling, flow_losses, outcome_of, sample
from lerobot_policy_dap.flow.objective import masked_mse
from lerobot_policy_dap.nets import VelocityMLP

B, H, A, S, D = 8, 4, 2, 3, 5


def data(seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(B, D, generator=g), torch.randn(B, H, A, generator=g), torch.randn(B, S, generator=g)


def losses(policy, dynamics, coupling=Coupling.TWO_WAY, batch=None, seed=1, **options):
    context, action, outcome = batch or data()
    options = {
        "action_is_pad": torch.zeros(len(action), H, dtype=torch.bool),
        "outcome_is_pad": torch.zeros(len(action), dtype=torch.bool),
        "feedback_dropout": 0.25,
        "generator": torch.Generator().manual_seed(seed),
        **options,
    }
    return flow_losses(policy, dynamics, coupling, context, action, outcome, **options)


@pytest.fixture
def models():
    torch.manual_seed(0)
    policy = VelocityMLP((H, A), context_dim=D, feedback_dim=S, hidden=16, depth=2)
    dynamics = VelocityMLP((S,), context_dim=D, feedback_dim=H * A, hidden=16, depth=2)
    for model in (policy, dynamics):
        torch.nn.init.normal_(model.out.weight, std=0.5)
        torch.nn.init.normal_(model.embed.weight, std=0.3)  # feedback has no weight yet
    return policy, dynamics


def gradients(model):
    return sum(float(p.grad.abs().sum()) for p in model.parameters() if p.grad is not None)


def test_the_alignment_gradient_reaches_the_policy_through_its_estimate_and_nowhere_when_detached(models):
    policy, dynamics = models
    losses(policy, dynamics, align=True).dynamics.backward()
    assert gradients(policy) > 0
    policy.zero_grad()
    losses(policy, dynamics, align=False).dynamics.backward()
    assert gradients(policy) == 0


def test_the_dynamics_loss_reaches_what_it_is_told_of_the_observation_unless_that_is_cut(models):
    context, action, outcome = data()
    for teach in (True, False):
        context = context.detach().requires_grad_()
        found = losses(*models, batch=(context, action, outcome), align=False, teach_context=teach)
        (found.dynamics + found.dynamics_true).backward(retain_graph=True)
        assert (context.grad is not None and bool(context.grad.any())) == teach
        context.grad = None
        found.policy.backward()
        assert context.grad.any()


def test_the_loss_on_demonstrated_chunks_never_reaches_the_policy(models):
    policy, dynamics = models
    losses(policy, dynamics).dynamics_true.backward()
    assert gradients(policy) == 0
    assert gradients(dynamics) > 0


def test_the_policy_loss_never_reaches_the_dynamics(models):
    """ŝ comes from a pass without gradient."""
    policy, dynamics = models
    losses(policy, dynamics, feedback_dropout=0.0).policy.backward()
    assert gradients(dynamics) == 0
    assert gradients(policy) > 0


def test_none_has_no_dynamics_loss_and_does_not_see_the_dynamics(models):
    policy, dynamics = models
    before = losses(policy, dynamics, Coupling.NONE)
    for p in dynamics.parameters():
        torch.nn.init.normal_(p)
    after = losses(policy, dynamics, Coupling.NONE)
    assert torch.equal(before.policy, after.policy)
    assert before.dynamics == before.dynamics_true == before.feedback_effect == 0


def test_arms_draw_the_same_noise(models):
    """With all feedback dropped, `two_way` has the policy loss of `none` to the bit."""
    policy, dynamics = models
    plain = losses(policy, dynamics, Coupling.NONE)
    dropped = losses(policy, dynamics, Coupling.TWO_WAY, feedback_dropout=1.0)
    assert torch.equal(plain.policy, dropped.policy)


def test_padded_steps_and_outcomes_carry_no_loss(models):
    policy, dynamics = models
    context, action, outcome = data()
    action_is_pad = torch.zeros(B, H, dtype=torch.bool)
    action_is_pad[:, 2:] = True
    other = action.clone()
    other[:, 2:] = 1e3  # would be seen by the networks: a field that is zero isolates the mask
    kept = losses(still, still, batch=(context, action, outcome), action_is_pad=action_is_pad)
    same = losses(still, still, batch=(context, other, outcome), action_is_pad=action_is_pad)
    assert torch.equal(kept.policy, same.policy)

    outcome_is_pad = torch.ones(B, dtype=torch.bool)
    nothing = losses(policy, dynamics, outcome_is_pad=outcome_is_pad)
    assert nothing.dynamics == nothing.dynamics_true == 0
    outcome_is_pad[0] = False
    alone = losses(policy, dynamics, outcome_is_pad=outcome_is_pad)
    assert alone.dynamics > 0


def test_masked_mean_is_over_what_is_kept():
    x, zero = torch.tensor([[1.0, 1.0], [5.0, 5.0]]), torch.zeros(2, 2)
    assert masked_mse(x, zero, torch.tensor([[True], [False]])) == 1
    assert masked_mse(x, zero, torch.tensor([[False], [False]])) == 0


def test_no_velocity_beats_the_known_one_of_a_gaussian():
    """The loss of the closed form is the least: its irreducible variance, below any tilted field's."""
    mean, std, n = 0.5, 0.8, 200_000
    g = torch.Generator().manual_seed(0)
    action = mean + std * torch.randn(n, 1, 1, generator=g)
    batch = (torch.zeros(n, 1), action, torch.zeros(n, 1))
    options = {
        "batch": batch,
        "action_is_pad": torch.zeros(n, 1, dtype=torch.bool),
        "outcome_is_pad": torch.ones(n, dtype=torch.bool),
    }
    best = gaussian_velocity(mean, std)
    least = losses(best, best, Coupling.NONE, **options).policy
    for tilt in (0.9, 1.1):
        tilted_field = Known(lambda x_t, t, _, tilt=tilt: tilt * best(x_t, t))
        tilted = losses(tilted_field, best, Coupling.NONE, **options).policy
        assert tilted > least + 1e-3
    # Var(ε - x | x_t) = s²/V, V = t² + (1-t)²s², averaged over uniform t
    t = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    expected = torch.trapezoid(std**2 / (t**2 + (1 - t) ** 2 * std**2), t)
    assert float(least) == pytest.approx(float(expected), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("coupling", list(Coupling))
def test_training_finds_the_joint_of_an_action_and_its_consequence(coupling):
    """A world with a ~ N(z, 0.5²) and s = 2a + N(0, 0.1²): trained to a tolerance, sampled, compared.

    Whatever the arm, the actions have the right mean and spread, and the outcome belongs to them, be it that the
    dynamics sees the action or that the policy sees the outcome; not so where another's outcome is shown.
    """
    torch.manual_seed(0)
    policy = VelocityMLP((1, 1), context_dim=1, feedback_dim=1, hidden=64, depth=2)
    dynamics = VelocityMLP((1,), context_dim=1, feedback_dim=1, hidden=64, depth=2, timed_feedback=True)
    optimizer = torch.optim.Adam([*policy.parameters(), *dynamics.parameters()], lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1500)
    for _ in range(1500):
        z = torch.randn(256, 1)
        a = z + 0.5 * torch.randn(256, 1)
        s = 2 * a + 0.1 * torch.randn(256, 1)
        got = flow_losses(
            policy,
            dynamics,
            coupling,
            z,
            a.unsqueeze(-1),
            s,
            action_is_pad=torch.zeros(256, 1, dtype=torch.bool),
            outcome_is_pad=torch.zeros(256, dtype=torch.bool),
            feedback_dropout=0.25,
        )
        optimizer.zero_grad()
        (got.policy + 0.5 * got.dynamics + 0.5 * got.dynamics_true).backward()
        optimizer.step()
        schedule.step()
    n = 4000
    z = torch.full((n, 1), 0.8)
    with torch.no_grad():
        drawn = sample(policy, dynamics, coupling, z, torch.randn(n, 1, 1), torch.randn(n, 1), steps=40)
    a = drawn.action.flatten()
    assert float(a.mean()) == pytest.approx(0.8, abs=0.15)
    assert float(a.std()) == pytest.approx(0.5, abs=0.1)
    assert (drawn.outcome is not None) == coupling.feeds_policy
    if coupling.learns_dynamics:
        with torch.no_grad():
            asked = outcome_of(dynamics, coupling, z, drawn.action, torch.randn(n, 1), 40)
        outcome = asked if drawn.outcome is None else drawn.outcome
        error = float((outcome.flatten() - 2 * a).abs().mean())
        independent = (
            1.0 * math.sqrt(2 / math.pi) * math.sqrt(2)
        )  # of two draws of s from p(s | z): standard deviation √2
        assert error < 0.45 * independent or coupling is Coupling.SHUFFLED
        if coupling in (Coupling.TWO_WAY, Coupling.AUXILIARY):
            assert error < 0.3

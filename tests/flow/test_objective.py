"""The training losses: where their gradients go, what they mask, and what minimises them."""

import math

import pytest
import torch
from gaussians import Known, Watched, column, gaussian_velocity, still, watched
from linear_gaussian import LinearGaussian
from scipy import stats
from test_sampler import A, D, H, S, networks

from lerobot_policy_dap.flow import Coupling, flow_losses, outcome_of, sample
from lerobot_policy_dap.flow.objective import masked_mse
from lerobot_policy_dap.nets import VelocityMLP

B = 8


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
    return networks()


def gradients(model):
    return sum(float(p.grad.abs().sum()) for p in model.parameters() if p.grad is not None)


def test_the_alignment_gradient_reaches_the_policy_through_its_estimate_and_nowhere_when_detached(models):
    policy, dynamics = models
    losses(policy, dynamics, align=True).dynamics.backward()
    assert gradients(policy) > 0
    policy.zero_grad()
    losses(policy, dynamics, align=False).dynamics.backward()
    assert gradients(policy) == 0


@pytest.mark.parametrize("coupling", [Coupling.AGNOSTIC, Coupling.ONE_WAY])
def test_a_policy_whose_estimate_the_dynamics_is_not_told_is_not_aligned(models, coupling):
    """The draft is made without gradient."""
    policy, dynamics = models
    found = losses(policy, dynamics, coupling, align=True)
    (found.dynamics + found.dynamics_true).backward()
    assert gradients(policy) == 0
    assert gradients(dynamics) > 0


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


@pytest.mark.parametrize("coupling", list(Coupling))
def test_losses_are_a_function_of_the_generators_seed(models, coupling):
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(found))
        found.append(torch.stack(list(vars(losses(*models, coupling, seed=seed)).values())))
    one, again, other = found
    assert torch.equal(one, again)
    assert ((one != other) | (one == 0)).all()


@pytest.mark.parametrize("alpha", [1.0, 2.5])
def test_flow_times_are_drawn_from_beta(alpha):
    n = 20_000
    policy = Watched(still)
    batch = torch.zeros(n, D), torch.zeros(n, H, A), torch.zeros(n, S)
    losses(policy, still, Coupling.NONE, batch, time_alpha=alpha)
    t = policy.calls[0].t
    assert stats.kstest(t, stats.beta(alpha, 1).cdf).pvalue > 0.01
    assert 0 < t.min() < t.max() <= 1


@pytest.mark.parametrize("alpha", [1.0, 2.5])
def test_no_flow_time_is_zero(alpha, monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.zeros(shape))
    policy = Watched(still)
    losses(policy, still, Coupling.NONE, time_alpha=alpha)
    assert torch.equal(policy.calls[0].t, torch.ones(B))


@pytest.mark.parametrize("kind", ["mlp", "transformer"])
@pytest.mark.parametrize("coupling", list(Coupling))
def test_a_rows_losses_depend_on_no_other_row_unless_it_is_shown_anothers_outcome(coupling, kind):
    models = networks(kind)
    others = torch.arange(B) > 0
    options = {
        "action_is_pad": others.unsqueeze(-1).expand(B, H),
        "outcome_is_pad": others,
        "feedback_dropout": 0.0,
    }
    beside = tuple(torch.cat([x[:1], y[1:]]) for x, y in zip(data(), data(seed=3), strict=True))
    one, other = (losses(*models, coupling, batch, seed=2, **options) for batch in (data(), beside))
    for name in ("policy", "dynamics", "dynamics_true"):
        unmoved = getattr(one, name).item() == pytest.approx(getattr(other, name).item(), rel=1e-4)
        assert unmoved == (coupling is not Coupling.SHUFFLED or name == "dynamics_true")


@pytest.mark.parametrize("coupling", list(Coupling))
@pytest.mark.parametrize("rows", [1, B])
def test_a_loss_is_the_mean_squared_error_of_what_is_kept(coupling, rows):
    """A row that is kept alone has the loss that it has alone."""
    policy, dynamics = watched()
    context, action, outcome = data()
    g = torch.Generator().manual_seed(5)
    kept = torch.arange(B) < rows
    steps = (torch.rand(B, H, generator=g) < 0.6) & kept.unsqueeze(-1)
    parts = (torch.rand(B, S, generator=g) < 0.6) & kept.unsqueeze(-1)
    imitate = torch.arange(B) % 3 != 1
    got = losses(
        policy,
        dynamics,
        coupling,
        (context, action, outcome),
        action_is_pad=~steps,
        outcome_is_pad=~parts,
        imitate=imitate,
    )

    def error(call, data, kept):
        off = call.velocity - (call.x_t - data) / column(call.t, data)  # v* = (x_t - x)/t
        return off[kept].square().mean()

    imitated = imitate.unsqueeze(-1)
    torch.testing.assert_close(got.policy, error(policy.calls[-1], action, steps & imitated))
    if not coupling.learns_dynamics:
        return
    estimated, true = dynamics.calls[-2 if coupling is not Coupling.AGNOSTIC else -1], dynamics.calls[-1]
    torch.testing.assert_close(got.dynamics, error(estimated, outcome, parts & imitated))
    torch.testing.assert_close(got.dynamics_true, error(true, outcome, parts))


@pytest.mark.parametrize("coupling", list(Coupling))
def test_the_effect_of_feedback_is_how_far_it_moves_the_velocity_of_those_who_see_it(coupling):
    policy, dynamics = watched()
    _, action, _ = batch = data()
    got = losses(policy, dynamics, coupling, batch, feedback_dropout=0.5)
    if not coupling.feeds_policy:
        assert got.feedback_effect == 0
        return
    without, (a_t, t, _, _, present, v) = policy.calls[-2:]
    assert 0 < present.sum() < B
    moved = (v - without.velocity)[present].square().mean()
    torch.testing.assert_close(got.feedback_effect, moved / ((a_t - action) / column(t, action)).square().mean())


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


def trained(coupling):
    """Models of a world with a ~ N(z, 0.5²) and s = 2a + N(0, 0.1²)."""
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
    return policy, dynamics


def velocities(world, models, coupling, dtype):
    """Times and velocities of all evaluations in which the same chunks, outcomes and noise are trained on."""
    policy, dynamics = (Watched(model) for model in models)
    world.losses(policy, dynamics, coupling, 4000, dtype)
    skipped = coupling is Coupling.TWO_WAY  # no loss says what to make of the first pass's estimate
    return [(call.t, call.velocity.flatten()) for call in [*policy.calls, *dynamics.calls[skipped:]]]


@pytest.mark.slow
@pytest.mark.parametrize("coupling", list(Coupling))
@torch.no_grad()
def test_training_finds_what_each_arm_can_know_of_an_action_and_its_consequence(coupling):
    """Trained to a tolerance: every velocity is the best that its arm allows, at all times, and what is sampled has
    the covariance to which such velocities lead.

    So an outcome belongs to its action, be it that the dynamics sees the action or that the policy sees the outcome,
    and both as they do in the world; less so where another's outcome is shown.
    """
    with torch.enable_grad():
        models = trained(coupling)
    world = LinearGaussian(m=0.8, sigma=0.5, c=2.0, rho=0.1)
    hears = coupling in (Coupling.AGNOSTIC, Coupling.ONE_WAY, Coupling.TWO_WAY)
    for (t, found), (_, best) in zip(
        velocities(world, models, coupling, torch.float32),
        velocities(world, world.optimal(coupling), coupling, torch.float64),
        strict=True,
    ):
        for error in (found - best)[t.argsort()].chunk(5):
            assert error.square().mean().sqrt() < (0.35 if hears else 0.15)
    n = 4000
    z, noise = torch.full((n, 1), 0.8), torch.randn(n, 1)
    drawn = sample(*models, coupling, z, torch.randn(n, 1, 1), noise, steps=40)
    assert (drawn.outcome is not None) == coupling.feeds_policy
    a = drawn.action.flatten()
    carried = world.flow(world.solitary(coupling))
    expected = world.covariance if coupling is Coupling.AUXILIARY else carried @ carried.T
    assert float(a.mean()) == pytest.approx(0.8, abs=0.15)
    assert float(a.std()) == pytest.approx(float(expected[0, 0].sqrt()), abs=0.1)
    if not coupling.learns_dynamics:
        return
    s = outcome_of(models[1], coupling, z, drawn.action, noise, 40) if drawn.outcome is None else drawn.outcome
    torch.testing.assert_close(torch.stack([a, s.flatten()]).cov().double(), expected, atol=0.2, rtol=0)
    off = torch.tensor([-2.0, 1.0], dtype=torch.float64)  # s - 2a: 0.08 in the world, 0.59 where shuffled
    mean_error = float((2 / math.pi * off @ expected @ off).sqrt())
    assert float((s.flatten() - 2 * a).abs().mean()) == pytest.approx(mean_error, abs=0.15)

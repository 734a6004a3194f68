"""Sampler and objective in the linear-Gaussian world, against what is known of it."""

import pytest
import torch
from linear_gaussian import LinearGaussian

from lerobot_policy_dap.flow import Coupling, outcome_of, sample


def noises(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.zeros(n, 1, dtype=torch.float64), *(
        torch.randn(n, *shape, dtype=torch.float64, generator=g) for shape in ((1, 1), (1,))
    )


def pairs(action, outcome):
    return torch.cat([action.flatten(1), outcome], dim=1)


def assert_first_order(found, exact, steps):
    """The error halves when K doubles, and what that leads to is the limit."""
    coarse, middle, fine = (found(K) - exact for K in steps)
    orders = [float(a.abs().max() / b.abs().max()) for a, b in ((coarse, middle), (middle, fine))]
    assert all(1.75 < order < 2.25 for order in orders), orders
    assert float((2 * fine - middle).abs().max()) < 0.02


def assert_generates(models, coupling, world, solitary, **options):
    context, action_noise, outcome_noise = noises(64)
    exact = world.mean + pairs(action_noise, outcome_noise) @ world.flow(solitary).T

    def found(steps):
        got = sample(*models, coupling, context, action_noise, outcome_noise, steps, **options)
        return pairs(got.action, exact[:, 1:] if got.outcome is None else got.outcome)

    assert_first_order(found, exact, (80, 160, 320))


def test_the_flow_of_the_joint_is_the_root_of_its_covariance():
    world = LinearGaussian()
    torch.testing.assert_close(world.flow(), world.root(), atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("coupling", "c"),
    [*((coupling, 1.5) for coupling in Coupling), (Coupling.TWO_WAY, -2.0), (Coupling.TWO_WAY, 0.1)],
)
def test_every_arm_converges_with_first_order_to_its_own_flow(coupling, c):
    """Two models that see only their own sample and the other's estimate carry noise to the joint of (a, s); a model
    that is told nothing of the other's sample follows its own marginal, and the other follows it."""
    world = LinearGaussian(c=c)
    models = world.coupled() if coupling is Coupling.TWO_WAY else world.optimal(coupling)
    assert_generates(models, coupling, world, world.solitary(coupling))


@pytest.mark.parametrize("coupling", list(Coupling))
@pytest.mark.parametrize("c", [0.5, 2.0])
def test_what_training_finds_samples_its_own_flow_in_two_passes(coupling, c):
    """However closely the outcome follows from the action."""
    world = LinearGaussian(c=c)
    assert_generates(world.optimal(coupling), coupling, world, world.solitary(coupling), two_passes=True)


@pytest.mark.parametrize(
    ("c", "spreads"),
    [(0.4, (0.29, 0.40, 0.48, 0.50)), (0.55, (0.23, 0.37, 0.49, 0.54)), (0.7, (0.15, 0.30, 1.6, 7.8e4))],
)
def test_in_one_pass_it_may_lead_away(c, spreads):
    """Then ŝ comes of a chunk that saw ŝ, and not, as in training, of one that did not: with K it is carried once more
    round a loop whose gain near t = 1 is (cσ/ρ)². The table of docs/method.md."""
    world = LinearGaussian(c=c)
    assert ((c * world.sigma / world.rho) ** 2 > 1) == (spreads[-1] > 1)
    for two_passes, expected in ((False, spreads), (True, (0.345, 0.435, 0.485, 0.495))):
        models, options = world.optimal(Coupling.TWO_WAY), {"two_passes": two_passes}
        found = [sample(*models, Coupling.TWO_WAY, *noises(4000), K, **options) for K in (4, 10, 40, 160)]
        assert [float(got.action.std()) for got in found] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("c", [0.5, 2.0])
def test_an_outcome_made_from_noise_leaves_the_chunk_its_own_flow_and_is_what_it_leads_to(c):
    """ŝ = E[s | â] is a function of the chunk's sample, so that there is nothing to carry round a loop."""
    world = LinearGaussian(c=c)
    action = world.mean[0] + world.sigma * noises(64)[1].flatten(1)

    def found(steps):
        got = sample(*world.from_noise(), Coupling.TWO_WAY, *noises(64), steps, outcome_from_noise=True)
        return pairs(got.action, got.outcome)

    assert_first_order(found, torch.cat([action, c * action], dim=1), (80, 160, 320))


def test_the_least_losses_with_an_outcome_made_from_noise():
    """∫ Var(ε - a | a_t) dt, ∫ c²·Var(a | a_t) + ρ² dt and ρ²."""
    world = LinearGaussian()
    alone = world.remaining()[0]
    got = world.losses(*world.from_noise(), Coupling.TWO_WAY, 100_000, outcome_from_noise=True)
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)
    known = t**2 * world.sigma**2 / (t**2 + (1 - t) ** 2 * world.sigma**2)
    blurred = world.c**2 * float(torch.trapezoid(known, t)) + world.rho**2
    expected = [alone[0], blurred, world.rho**2]
    assert [float(got.policy), float(got.dynamics), float(got.dynamics_true)] == pytest.approx(expected, rel=0.02)


def test_a_dynamics_that_takes_the_draft_for_the_chunk_draws_what_would_come_of_the_draft():
    world = LinearGaussian()
    assert_generates(world.credulous(), Coupling.ONE_WAY, world, {1: world.rho})


def test_what_two_way_samples_is_the_joint_of_an_action_and_its_outcome():
    world = LinearGaussian()
    got = sample(*world.coupled(), Coupling.TWO_WAY, *noises(10_000), steps=400)
    x = pairs(got.action, got.outcome)
    torch.testing.assert_close(x.mean(dim=0), world.mean, atol=0.02, rtol=0)
    torch.testing.assert_close(x.T.cov(), world.covariance, atol=0.03, rtol=0)


@pytest.mark.parametrize("coupling", [c for c in Coupling if c.learns_dynamics])
def test_the_outcome_of_a_chunk_converges_to_a_draw_given_that_chunk_or_given_none(coupling):
    """c·a + ρ·ε; a dynamics that sees no chunk says E[s] + Var(s)^{1/2}·ε of every one."""
    world = LinearGaussian()
    context, chunk, noise = noises(64)
    exact = world.c * chunk.flatten(1) + world.rho * noise
    if coupling is Coupling.AGNOSTIC:
        exact = world.mean[1] + world.spread * noise
    dynamics = world.optimal(coupling)[1]
    assert_first_order(lambda K: outcome_of(dynamics, coupling, context, chunk, noise, K), exact, (20, 40, 80))


@pytest.mark.parametrize("coupling", list(Coupling))
def test_the_least_losses_are_what_each_arms_models_cannot_know(coupling):
    """∫ Var(ε - a | a_t) dt without feedback, ∫ Var(ε - a | a_t, s_t) dt with it; the outcome's likewise, with the
    estimate, and ∫ Var(ε - s | s_t, a) dt with the real chunk."""
    world = LinearGaussian()
    alone, both, caused = world.remaining()
    assert both[0] < 0.8 * alone[0]
    assert caused < 0.8 * both[1] < 0.8 * alone[1]
    got = world.losses(*world.optimal(coupling), coupling, 100_000)
    hears = coupling in (Coupling.AGNOSTIC, Coupling.ONE_WAY, Coupling.TWO_WAY)
    assert float(got.policy) == pytest.approx((both if hears else alone)[0], rel=0.02)
    told, demonstrated = {
        Coupling.NONE: (0, 0),
        Coupling.AGNOSTIC: (alone[1], alone[1]),
        Coupling.ONE_WAY: (alone[1], caused),
    }.get(coupling, (both[1], caused))
    assert float(got.dynamics) == pytest.approx(told, rel=0.02)
    assert float(got.dynamics_true) == pytest.approx(demonstrated, rel=0.02)

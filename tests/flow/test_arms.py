"""What each arm's two models are shown, and that the arms differ in nothing else."""

import pytest
import torch
from gaussians import Known
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sampler import A, B, D, H, S, models, noises

from lerobot_policy_dap.flow import Coupling, Seen, flow_losses, sample
from lerobot_policy_dap.flow.sampler import outcome_of, time_seen

FEEDING = [c for c in Coupling if c.feeds_policy]


class Watched(Known):
    """A velocity model that keeps what it was shown."""

    def __init__(self, velocity):
        super().__init__(velocity)
        self.shown, self.times = [], []

    def condition(self, t, context, feedback_time=None):
        self.times.append(feedback_time)
        return super().condition(t, context)

    def __call__(self, x_t, t, condition=None, feedback=None, present=None):
        self.shown.append(feedback)
        return super().__call__(x_t, t, condition, feedback, present)


def watched():
    policy = Watched(lambda x_t, t, seen: 0.3 * x_t + (0 if seen is None else seen.mean()))
    dynamics = Watched(lambda x_t, t, seen: 0.7 * x_t + (1 if seen is None else seen.flatten(1)[:, :1]))
    return policy, dynamics


def losses(policy, dynamics, coupling, seed=1, **options):
    g = torch.Generator().manual_seed(7)
    context, action, outcome = (torch.randn(B, *n, generator=g) for n in ((D,), (H, A), (S,)))
    options = {
        "action_is_pad": torch.zeros(B, H, dtype=torch.bool),
        "outcome_is_pad": torch.zeros(B, dtype=torch.bool),
        "feedback_dropout": 0.0,
        **options,
    }
    return flow_losses(
        policy,
        dynamics,
        coupling,
        context,
        action,
        outcome,
        generator=torch.Generator().manual_seed(seed),
        **options,
    )


@pytest.mark.parametrize("coupling", list(Coupling))
def test_every_arm_evaluates_the_policy_once_a_step_and_every_arm_with_feedback_the_dynamics_too(coupling):
    policy, dynamics = watched()
    sample(policy, dynamics, coupling, *noises(), steps=5)
    assert len(policy.shown) == 5
    assert len(dynamics.shown) == (5 if coupling.feeds_policy else 0)
    assert policy.shown[0] is None  # nothing is predicted yet
    assert all((seen is not None) == coupling.feeds_policy for seen in policy.shown[1:])


def test_the_dynamics_is_told_nothing_the_draft_or_the_present_estimate():
    told = {}
    for coupling in FEEDING:
        policy, dynamics = watched()
        got = sample(policy, dynamics, coupling, *noises(), steps=4)
        told[coupling] = (dynamics.shown, got.estimates)
    assert all(seen is None for seen in told[Coupling.AGNOSTIC][0])
    draft = told[Coupling.ONE_WAY][1][0]
    assert all(torch.equal(seen, draft) for seen in told[Coupling.ONE_WAY][0])
    for coupling in (Coupling.TWO_WAY, Coupling.SHUFFLED):
        assert all(torch.equal(*pair) for pair in zip(*told[coupling], strict=True))


@pytest.mark.parametrize("coupling", FEEDING)
def test_training_tells_the_dynamics_what_generation_tells_it(coupling):
    """At t = 1 the first pass of training is the first step of a generation from the same noise."""
    policy, dynamics = models()
    context, action_noise, outcome_noise = noises()
    told = []
    for model in (policy, dynamics):
        model.register_forward_hook(lambda _, args, out: told.append(args[3] if len(args) > 3 else None))
    got = sample(policy, dynamics, coupling, context, action_noise, outcome_noise, steps=1)
    seen_by_dynamics = told[1]
    if coupling is Coupling.AGNOSTIC:
        assert seen_by_dynamics is None
    else:
        torch.testing.assert_close(seen_by_dynamics, got.estimates[0])
    t = torch.ones(B)
    expected = {Seen.NOTHING: 0.0, Seen.DRAFT: 1.0, Seen.ESTIMATE: 1.0}[coupling.dynamics_sees]
    assert torch.equal(time_seen(coupling.dynamics_sees, t), torch.full((B,), expected))


def test_agnostic_has_no_derivative_with_respect_to_actions():
    policy, dynamics = models()
    context, action_noise, outcome_noise = noises()
    action_noise.requires_grad_()

    def derivative(coupling):
        outcome = sample(policy, dynamics, coupling, context, action_noise, outcome_noise, steps=3).outcome
        (g,) = torch.autograd.grad(outcome.sum(), action_noise, allow_unused=True)
        return 0.0 if g is None else float(g.abs().max())

    assert derivative(Coupling.AGNOSTIC) == 0
    assert derivative(Coupling.ONE_WAY) > 0
    assert derivative(Coupling.TWO_WAY) > 0
    other = outcome_of(dynamics, Coupling.AGNOSTIC, context, torch.randn(B, H, A), outcome_noise, 3)
    assert torch.equal(other, outcome_of(dynamics, Coupling.AGNOSTIC, context, action_noise, outcome_noise, 3))


def test_auxiliary_weights_generate_as_if_there_were_no_dynamics():
    policy, dynamics = models()
    plain = sample(policy, dynamics, Coupling.NONE, *noises(), steps=4).action
    assert torch.equal(plain, sample(policy, dynamics, Coupling.AUXILIARY, *noises(), steps=4).action)


def test_auxiliary_learns_the_dynamics_and_does_not_feed_it():
    policy, dynamics = watched()
    got = losses(policy, dynamics, Coupling.AUXILIARY)
    assert got.dynamics > 0
    assert got.dynamics_true > 0
    assert policy.shown == [None]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_shuffled_shows_the_same_outcomes_to_other_rows(seed):
    """Its marginals are those of `two_way`: the rows are permuted, nothing else."""
    shown = {}
    for coupling in (Coupling.TWO_WAY, Coupling.SHUFFLED):
        policy, dynamics = watched()
        losses(policy, dynamics, coupling, seed=seed)
        shown[coupling] = policy.shown[1]
    own, others = shown.values()
    assert sorted(own.tolist()) == sorted(others.tolist())


def test_shuffled_generation_shows_each_row_its_neighbours_outcome_and_a_single_row_none():
    policy, dynamics = watched()
    sample(policy, dynamics, Coupling.SHUFFLED, *noises(), steps=2)
    swapped = policy.shown[1]
    policy, dynamics = watched()
    sample(policy, dynamics, Coupling.TWO_WAY, *noises(), steps=2)
    assert torch.equal(swapped, policy.shown[1].roll(1, dims=0))
    policy, dynamics = watched()
    sample(policy, dynamics, Coupling.SHUFFLED, *(x[:1] for x in noises()), steps=2)
    assert policy.shown == [None, None]


@pytest.mark.parametrize("coupling", [c for c in Coupling if c.learns_dynamics])
def test_the_dynamics_is_told_how_old_the_estimate_is_and_that_a_demonstration_is_none(coupling):
    policy, dynamics = watched()
    losses(policy, dynamics, coupling)
    told, *rest = dynamics.times
    assert torch.equal(
        told.unique(), torch.tensor([{Seen.NOTHING: 0.0, Seen.DRAFT: 1.0}.get(coupling.dynamics_sees, 0)])
    ) or (coupling.dynamics_sees is Seen.ESTIMATE and len(told.unique()) == B)
    assert [float(time.abs().max()) for time in rest] == ([] if coupling is Coupling.AGNOSTIC else [0.0])


@pytest.mark.parametrize("coupling", list(Coupling))
def test_the_last_estimate_is_the_chunk(coupling):
    """At the last step t = 1/K: extrapolating is the Euler step itself."""
    got = sample(*models(), coupling, *noises(), steps=3)
    torch.testing.assert_close(got.estimates[-1], got.action)


@pytest.mark.parametrize("coupling", [Coupling.NONE, Coupling.AUXILIARY, Coupling.TWO_WAY])
def test_rows_that_are_not_to_be_imitated_teach_the_dynamics_alone(coupling):
    policy, dynamics = models()
    imitate = torch.arange(B) < 2
    some = losses(policy, dynamics, coupling, imitate=imitate)
    every = losses(policy, dynamics, coupling)
    assert some.policy != every.policy
    assert torch.equal(some.dynamics_true, every.dynamics_true)
    nobody = losses(policy, dynamics, coupling, imitate=torch.zeros(B, dtype=torch.bool))
    assert nobody.policy == nobody.dynamics == 0  # what the policy would do there is nothing that was done


def test_parts_of_an_outcome_can_be_past_the_episodes_end():
    policy, dynamics = watched()
    past = torch.zeros(B, S, dtype=torch.bool)
    past[:, 1:] = True
    first = losses(policy, dynamics, Coupling.TWO_WAY, outcome_is_pad=past).dynamics
    both = losses(policy, dynamics, Coupling.TWO_WAY).dynamics
    assert first != both
    past[:] = True
    assert losses(policy, dynamics, Coupling.TWO_WAY, outcome_is_pad=past).dynamics == 0

"""What each arm's two models are shown, and that the arms differ in nothing else."""

import pytest
import torch
from gaussians import column, watched
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sampler import A, B, D, H, S, networks, noises

from lerobot_policy_dap.flow import Coupling, Seen, flow_losses, outcome_of, sample

FEEDING = [c for c in Coupling if c.feeds_policy]


def asked_for(model, monkeypatch):
    """The flow times for which the model's condition is asked."""
    times, condition = [], model.condition
    monkeypatch.setattr(model, "condition", lambda t, *told: times.append(t) or condition(t, *told))
    return times


def data(rows=B):
    g = torch.Generator().manual_seed(7)
    return tuple(torch.randn(rows, *n, generator=g) for n in ((D,), (H, A), (S,)))


def losses(policy, dynamics, coupling, seed=1, rows=B, batch=None, **options):
    options = {
        "action_is_pad": torch.zeros(rows, H, dtype=torch.bool),
        "outcome_is_pad": torch.zeros(rows, dtype=torch.bool),
        "feedback_dropout": 0.0,
        **options,
    }
    return flow_losses(
        policy,
        dynamics,
        coupling,
        *(batch or data(rows)),
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


@pytest.mark.parametrize("coupling", list(Coupling))
def test_with_two_passes_a_step_of_generation_shows_what_training_shows(coupling):
    """At the first step, whose sample is the noise that training has at t = 1; and in every step twice as often."""
    policy, dynamics = watched()
    sample(policy, dynamics, coupling, *noises(), steps=5, two_passes=True)
    passes = 2 if coupling.feeds_policy else 1
    assert len(policy.calls) == 5 * passes
    assert len(dynamics.calls) == (5 * passes if coupling.feeds_policy else 0)
    assert [seen is not None for seen in policy.shown] == ([False, True] if coupling.feeds_policy else [False]) * 5
    if coupling not in (Coupling.TWO_WAY, Coupling.AGNOSTIC, Coupling.ONE_WAY):
        return
    for first, second, one, two in zip(
        *(calls[i::2] for calls in (policy.calls, dynamics.calls) for i in (0, 1)), strict=True
    ):
        a_t, t, s_t = first.x_t, first.t, one.x_t
        assert second.x_t is a_t
        assert second.t == one.t == two.t == t
        assert two.x_t is s_t
        torch.testing.assert_close(second.feedback, s_t - t * one.velocity)
        if coupling is Coupling.TWO_WAY:
            torch.testing.assert_close(one.feedback, a_t - t * first.velocity)
            torch.testing.assert_close(two.feedback, a_t - t * second.velocity)
        if coupling is Coupling.ONE_WAY:
            assert one.feedback is two.feedback is dynamics.shown[0]


@pytest.mark.parametrize(
    ("coupling", "evaluations"),
    [
        (Coupling.NONE, (1, 0)),
        (Coupling.AUXILIARY, (1, 2)),
        (Coupling.AGNOSTIC, (2, 2)),
        (Coupling.ONE_WAY, (3, 3)),
        (Coupling.TWO_WAY, (2, 3)),
        (Coupling.SHUFFLED, (2, 3)),
    ],
)
def test_training_evaluates_policy_and_dynamics_as_often_as_its_passes_need(coupling, evaluations):
    models = watched()
    losses(*models, coupling)
    assert tuple(len(model.calls) for model in models) == evaluations


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
@pytest.mark.parametrize("from_noise", [False, True])
def test_generation_tells_the_dynamics_the_flow_time_of_what_it_is_told(coupling, from_noise):
    policy, dynamics = watched()
    sample(policy, dynamics, coupling, *noises(), steps=4, outcome_from_noise=from_noise)
    times = {Seen.NOTHING: [0.0] * 4, Seen.DRAFT: [1.0] * 4, Seen.ESTIMATE: [1.0, 0.75, 0.5, 0.25]}
    for call, time in zip(dynamics.calls, times[coupling.dynamics_sees], strict=True):
        assert torch.equal(call.condition, torch.full((B, 1), time))


@pytest.mark.parametrize("coupling", [c for c in Coupling if c.learns_dynamics])
def test_the_outcome_of_a_chunk_is_asked_for_with_that_chunk_and_flow_time_zero(coupling):
    _, dynamics = watched()
    context, chunk, noise = noises()
    outcome_of(dynamics, coupling, context, chunk, noise, steps=2)
    told = None if coupling is Coupling.AGNOSTIC else chunk
    for call in dynamics.calls:
        torch.testing.assert_close((call.feedback, call.condition), (told, torch.zeros(B, 1)))


@pytest.mark.parametrize("coupling", list(Coupling))
def test_training_shows_each_model_what_the_method_page_says(coupling):
    """Dynamics: â of the first pass, â of the second, the demonstrated chunk, each with its flow time; the draft is
    that of a generation from the same noise. Policy: nothing in the first pass, ŝ of the first in the second."""
    policy, dynamics = watched()
    losses(policy, dynamics, coupling)
    context, action, outcome = data()
    a_t, t, *_, v = policy.calls[-1]
    at, ones = column(t, a_t), torch.ones(B)
    noise = (a_t - (1 - at) * action) / at
    first, second = a_t - at * policy.model(a_t, t), a_t - at * v
    draft = sample(policy.model, dynamics.model, coupling, context, noise, outcome, steps=3).estimates[0]
    told = {
        Coupling.NONE: [],
        Coupling.AUXILIARY: [(first, t), (action, 0 * t)],
        Coupling.AGNOSTIC: [(None, 0 * t), (None, 0 * t)],
        Coupling.ONE_WAY: [(draft, ones), (draft, ones), (action, 0 * t)],
    }.get(coupling, [(first, t), (second, t), (action, 0 * t)])
    for call, (chunk, time) in zip(dynamics.calls, told, strict=True):
        torch.testing.assert_close((call.x_t, call.t), (dynamics.calls[0].x_t, t), atol=0, rtol=0)
        torch.testing.assert_close((call.feedback, call.condition[:, 0]), (chunk, time))
    shown = [(a_t, t, None)]
    if coupling is Coupling.ONE_WAY:
        shown = [(noise, ones, None), *shown]
    if coupling.feeds_policy:
        s_t, _, *_, u = dynamics.calls[0]
        s_hat = policy.calls[-1].feedback if coupling is Coupling.SHUFFLED else s_t - column(t, s_t) * u
        shown = [*shown, (a_t, t, s_hat)]
    for call, entry in zip(policy.calls, shown, strict=True):
        torch.testing.assert_close((call.x_t, call.t, call.feedback), entry)


@pytest.mark.parametrize("coupling", FEEDING)
def test_an_outcome_made_from_noise_shows_the_policy_nothing_of_the_true_one(coupling, monkeypatch):
    """In training as when acting the dynamics sees noise at its time 1, and is told of the chunk what it always is."""
    policy, dynamics = watched()
    times = asked_for(dynamics, monkeypatch)
    losses(policy, dynamics, coupling, outcome_from_noise=True)
    assert all((t == 1).all() for t in times)
    usual = watched()
    losses(*usual, coupling)
    context, action, outcome = data()
    for call, other in zip(dynamics.calls, usual[1].calls, strict=True):
        at = column(other.t, outcome)
        torch.testing.assert_close(call.x_t, (other.x_t - (1 - at) * outcome) / at)
        assert (call.t == 1).all()
        assert torch.equal(call.condition, other.condition)
    policy_again, dynamics_again = watched()
    losses(policy_again, dynamics_again, coupling, outcome_from_noise=True, batch=(context, action, -outcome))
    assert torch.equal(policy.shown[-1], policy_again.shown[-1])
    if coupling is not Coupling.SHUFFLED:
        first = dynamics.calls[0]
        assert torch.equal(policy.shown[-1], first.x_t - first.velocity)  # ŝ of time 1, whatever t is
    assert not torch.equal(policy.shown[-1], usual[0].shown[-1])


@pytest.mark.parametrize("coupling", FEEDING)
def test_generation_with_an_outcome_made_from_noise_shows_what_training_shows(coupling, monkeypatch):
    policy, dynamics = watched()
    times = asked_for(dynamics, monkeypatch)
    context, action_noise, outcome_noise = noises()
    got = sample(policy, dynamics, coupling, context, action_noise, outcome_noise, 4, outcome_from_noise=True)
    assert all(call.x_t is outcome_noise and call.t == 1 for call in dynamics.calls)
    assert all((t == 1).all() for t in times)
    assert torch.equal(got.outcome, outcome_noise - dynamics.calls[-1].velocity)


def test_agnostic_has_no_derivative_with_respect_to_actions():
    policy, dynamics = networks()
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
    policy, dynamics = networks()
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
        losses(policy, dynamics, coupling, seed=seed, rows=64)
        shown[coupling] = policy.shown[1]
    own, others = shown.values()
    places = torch.cdist(others, own).argmin(dim=1)
    assert torch.equal(others, own[places])
    assert torch.equal(places.sort().values, torch.arange(64))
    assert (places == torch.arange(64)).sum() < 10  # one in the mean, as in any random order


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


@pytest.mark.parametrize("coupling", list(Coupling))
def test_the_last_estimate_is_the_chunk(coupling):
    """At the last step t = 1/K: extrapolating is the Euler step itself."""
    got = sample(*networks(), coupling, *noises(), steps=3)
    torch.testing.assert_close(got.estimates[-1], got.action)


@pytest.mark.parametrize("coupling", [Coupling.NONE, Coupling.AUXILIARY, Coupling.TWO_WAY])
def test_rows_that_are_not_to_be_imitated_teach_the_dynamics_alone(coupling):
    policy, dynamics = networks()
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

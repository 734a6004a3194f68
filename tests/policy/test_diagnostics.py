"""What `select_action` leaves behind when it is asked to."""

import pytest
import torch
from test_policy import batch, now, policy

from lerobot_policy_dap.flow import Coupling


@pytest.mark.parametrize("coupling", list(Coupling))
def test_diagnostics_do_not_change_the_actions(coupling):
    with_them, without = (policy(coupling=coupling, diagnostics=on).eval() for on in (True, False))
    seen = now(batch(without))
    for _ in range(7):
        assert torch.equal(with_them.select_action(seen), without.select_action(seen))
    assert without.diagnostics is None


def test_how_far_the_chunk_moved_is_measured_between_flow_steps():
    made = policy(diagnostics=True, num_inference_steps=4).eval()
    seen = now(batch(made))
    made.select_action(seen)
    made_again = made.diagnostics
    made.reset()
    estimates = made.generate(seen).estimates
    expected = [(estimates[k + 1] - estimates[k]).flatten(1).norm(dim=1) / 12**0.5 for k in range(3)]
    torch.testing.assert_close(made_again.chunk_moved, torch.stack(expected))


def test_what_was_expected_is_compared_when_its_step_has_come():
    """Chunks of three steps, outcomes six steps on: the third plan is the first that something was expected of."""
    made = policy(diagnostics=True).eval()
    given = batch(made)
    first = made.generate(now(given)).outcome
    made.reset()
    errors = []
    for _ in range(9):
        made.select_action(now(given))
        errors.append(made.diagnostics.outcome_error)
    assert errors[:6] == [None] * 6
    distance = (made.observed_outcome(now(given)) - first[:, 0]).square().mean(dim=-1).sqrt()
    torch.testing.assert_close(errors[6], distance)
    made.reset()
    assert made.diagnostics is None


def test_an_outcome_that_falls_due_between_two_plans_is_compared_too():
    made = policy(diagnostics=True, n_action_steps=5).eval()
    given = now(batch(made))
    due = made.config.outcome_offsets[0]
    assert due % 5
    compared = []
    for _ in range(due + 6):
        made.select_action(given)
        compared.append(made.diagnostics.outcome_error is not None)
    assert [step for step, was in enumerate(compared) if was] == [due, due + 5]


@pytest.mark.parametrize("coupling", [arm for arm in Coupling if arm.learns_dynamics])
def test_diagnostics_are_off_unless_asked_for_and_then_cost_one_encoding_a_comparison(coupling):
    def encoded(**options):
        made = policy(coupling=coupling, **options).eval()
        given = now(batch(made))
        looks = []
        for encoder in (made.encoder, made.target_encoder):
            encoder.register_forward_hook(lambda module, *_: looks.append(module))
        for _ in range(9):
            made.select_action(given)
        return looks.count(made.encoder), looks.count(made.target_encoder)

    assert encoded() == encoded(diagnostics=False) == (3, 0)
    assert encoded(diagnostics=True) == (3, 1)


def test_without_a_dynamics_nothing_is_expected():
    made = policy(diagnostics=True, coupling="none").eval()
    for _ in range(9):
        made.select_action(now(batch(made)))
    assert made.diagnostics.outcome_error is None
    assert made.diagnostics.chunk_moved.shape == (made.config.num_inference_steps - 1, 5)

"""The figures that training logs, on numbers whose figures are known, and when they raise an alarm."""

import logging
import math

import pytest
import torch
from test_policy import batch, policy

from lerobot_policy_dap.flow import FlowLosses
from lerobot_policy_dap.nets.figures import dynamics_figures, image_figures, outcome_figures
from lerobot_policy_dap.training_figures import MEASURED_EVERY, TrainingFigures

RANK_OF_3_TO_1 = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
"""Effective rank of what has singular values 3 and 1."""


class Linear:
    """A velocity that is a matrix times the condition, or times the chunk that it is told."""

    def __init__(self, matrix, shape, of_chunk=False):
        self.matrix, self.shape, self.of_chunk = matrix, shape, of_chunk

    def condition(self, t, context, feedback_time=None):
        return context

    def __call__(self, x_t, t, condition, feedback=None, present=None):
        seen = condition
        if self.of_chunk:
            seen = torch.zeros(len(x_t), self.matrix.shape[0]) if feedback is None else feedback.flatten(1)
        return (seen @ self.matrix).reshape(-1, *self.shape)


def spanning(*singular, rows, columns):
    """Centred rows with these singular values, in as many directions of the columns."""
    g = torch.Generator().manual_seed(0)
    left = torch.randn(rows, len(singular), generator=g)
    left = torch.linalg.qr(left - left.mean(dim=0)).Q
    right = torch.linalg.qr(torch.randn(columns, len(singular), generator=g)).Q
    return left @ torch.diag(torch.tensor(singular)) @ right.T


def test_figures_of_the_images_are_those_of_their_part_of_the_encoding():
    images = torch.tensor([5.0, -5.0, 0.0]) + spanning(3.0, 1.0, rows=10, columns=3)
    state = 100 * torch.randn(10, 2, generator=torch.Generator().manual_seed(1))
    context = torch.cat([images, state], dim=1)
    matrix = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    found = image_figures(Linear(matrix, (2, 2)), 3, context, torch.zeros(10, 2, 2))
    assert found["image_spread"] == pytest.approx(images.std(dim=0).mean().item(), rel=1e-5)
    assert found["latent_rank"] == pytest.approx(RANK_OF_3_TO_1, rel=1e-4)
    moved = (images - images.roll(1, dims=0)) @ matrix[:3]
    used = moved.square().mean() / (context @ matrix).var(dim=0).mean()
    assert found["image_use"] == pytest.approx(used.item(), rel=1e-3)


@pytest.mark.parametrize("told", [True, False])
def test_figures_of_the_dynamics_are_those_of_its_one_step_from_noise(told):
    action = torch.randn(10, 2, 2, generator=torch.Generator().manual_seed(1))
    matrix = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    outcome = spanning(3.0, 1.0, rows=10, columns=3)
    field = Linear(-matrix, (3,), of_chunk=True)
    found = dynamics_figures(field, told, torch.zeros(10, 5), action, outcome)

    def error(chunk):
        return (told * chunk.flatten(1) @ matrix - outcome).square().mean().item()

    own = error(action)
    assert found["dynamics_skill"] == pytest.approx(1 - own / outcome.var(dim=0).mean().item(), rel=1e-4)
    assert found["action_gain"] == pytest.approx(error(action.roll(1, dims=0)) / own, rel=1e-4)


def test_figures_of_the_outcome_are_those_of_its_images():
    images, state = spanning(3.0, 1.0, rows=10, columns=6), 100 * torch.randn(10, 2, 2)
    outcome = torch.cat([images.reshape(10, 2, 3), state], dim=-1)
    variance = torch.tensor([[1.0, 4.0, 9.0, 1e4, 1e4], [16.0, 25.0, 36.0, 1e4, 1e4]])
    found = outcome_figures(outcome, variance, image_width=3)
    assert found["outcome_rank"] == pytest.approx(RANK_OF_3_TO_1, rel=1e-4)
    assert found["outcome_spread"] == pytest.approx(3.5)
    of_state = outcome_figures(state, variance[:, 3:], image_width=0)
    assert of_state["outcome_rank"] > 2
    assert of_state["outcome_spread"] == pytest.approx(100)


LOSSES = FlowLosses(*(torch.tensor(value) for value in (1.0, 2.0, 3.0, 4.0)))


def shown(made, *outcomes):
    """The figures of the last of several steps with these outcomes."""
    figures = TrainingFigures(made)
    context = torch.randn(len(outcomes[0]), 11, generator=torch.Generator().manual_seed(3))
    action = torch.zeros(len(context), *made.chunk_shape)
    return [figures(made, LOSSES, context, action, x.reshape(-1, *made.outcome_shape)) for x in outcomes][-1]


def test_losses_are_logged_at_every_step_and_what_costs_more_now_and_then():
    made = policy()
    made.standardize.running_var.copy_(torch.tensor([4.0, 9.0, *[0.0] * 6, *[100.0] * 3]))
    outcome, other = torch.randn(2, 8, 11)
    first = shown(made, outcome)
    assert first["outcome_spread"] == pytest.approx(5 / 8)
    assert {"image_spread", "latent_rank", "image_use", "outcome_rank", "dynamics_skill"} <= first.keys()
    losses = {"policy_loss": 1, "dynamics_loss": 2, "dynamics_true_loss": 3, "feedback_effect": 4}
    assert {name: first[name] for name in losses} == losses
    assert shown(made, outcome, *[other] * (MEASURED_EVERY - 1)) == first  # what was measured last still stands
    again = shown(made, outcome, *[other] * MEASURED_EVERY)
    assert again.keys() == first.keys()
    assert again["outcome_rank"] == shown(made, other)["outcome_rank"] != first["outcome_rank"]


def test_held_out_batches_leave_the_figures_of_training_alone():
    made, held_out = policy().train(), policy().eval()
    figures, context, action = TrainingFigures(made), torch.randn(8, 11), torch.zeros(8, *made.chunk_shape)
    outcome = torch.randn(8, *made.outcome_shape)
    first = figures(made, LOSSES, context, action, outcome)
    assert figures(held_out, LOSSES, 2 * context, action, outcome) == {}
    others = FlowLosses(*(torch.tensor(value) for value in (5.0, 6.0, 7.0, 8.0)))
    for _ in range(MEASURED_EVERY - 1):
        after = figures(made, others, 2 * context, action, outcome)
    assert after["image_spread"] == first["image_spread"]
    assert figures(made, others, 2 * context, action, outcome)["image_spread"] == pytest.approx(
        2 * first["image_spread"]
    )


@pytest.mark.parametrize(
    ("rows", "rank", "spread", "alarm"),
    [
        (16, 8, 1.0, False),
        (16, 8, 1e-5, True),
        (16, 1, 1.0, True),
        (8, 1, 1.0, True),
        (8, 4, 1.0, False),
        (2, 1, 1.0, False),  # two rows differ in one direction, whatever they hold
        (2, 1, 1e-5, True),
    ],
)
def test_outcomes_that_say_next_to_nothing_raise_an_alarm_where_that_can_be_told(
    rows, rank, spread, alarm, caplog
):
    made = policy()
    made.standardize.running_var.fill_(1.0)[: made.encoder.dim] = spread**2
    outcome = torch.randn(rows, 11)  # whatever the state does
    outcome[:, : made.encoder.dim] = spanning(*[1.0] * rank, rows=rows, columns=made.encoder.dim)
    with caplog.at_level(logging.WARNING, "lerobot_policy_dap"):
        figures = shown(made, outcome)
    assert figures["outcome_rank"] == pytest.approx(rank, rel=1e-3)
    assert [record.message[:26] for record in caplog.records] == ["the outcomes have collapse"] * alarm


@pytest.mark.parametrize(
    ("rows", "options"), [(2, {}), (32, {"cameras": (), "state": 1})], ids=["rows", "numbers"]
)
def test_few_rows_and_outcomes_of_one_number_raise_no_false_alarm(rows, options, caplog):
    made = policy(**options).train()
    made(batch(made, n=rows))
    assert not caplog.records


def test_what_is_not_finite_has_no_rank_and_raises_no_alarm_of_its_own(caplog):
    outcome = torch.randn(16, 11)
    outcome[3, 5] = torch.nan
    assert math.isnan(shown(policy(), outcome)["outcome_rank"])
    assert not caplog.records


def test_the_images_of_a_whole_history_count():
    made = policy(n_obs_steps=2, image_shift=0, image_light=0.0).train()
    given = batch(made)
    images = made.context(given)[:, : 2 * made.encoder.dim]
    assert made(given)[1]["image_spread"] == pytest.approx(images.std(dim=0).mean().item(), rel=1e-5)

"""Steering estimates towards demonstrated outcomes, in worlds where the outcome is a known function of the chunk."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lerobot_policy_dap.flow import Coupling, Steering, sample


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear(c):
    """The outcome of a chunk is c times it."""
    return lambda chunk: c * chunk.flatten(1)


def gaps(outcomes, known):
    return torch.cdist(outcomes, known).min(dim=1).values


def test_the_radius_is_a_quantile_of_the_distances_to_the_nearest_other():
    known = torch.tensor([[0.0], [1.0], [3.0], [7.0]])  # nearest others: 1, 1, 2, 4 away
    assert Steering(known, 0.0, 1.0).radius == 1
    assert Steering(known, 1.0, 1.0).radius == 4
    assert Steering(known, 0.7, 1.0).radius == 2


@given(st.floats(0.2, 4), st.floats(0, 1), st.floats(0.01, 1), st.integers(0, 99))
def test_what_is_within_stays_and_what_is_outside_comes_back_as_far_as_it_may(c, beyond, most, seed):
    known = drawn(12, 6, seed=seed)
    steering = Steering(known, beyond, most)
    a_hat = 3 * drawn(5, 3, 2, seed=seed + 1) / c
    moved = steering.drawn_back(linear(c), a_hat)
    before, after = gaps(linear(c)(a_hat), known), gaps(linear(c)(moved), known)
    way = (moved - a_hat).flatten(1).norm(dim=1)
    longest = most * math.sqrt(6)
    # The distance to one outcome falls by c for each unit of the way along its gradient.
    torch.testing.assert_close(way, ((before - steering.radius) / c).clamp(0, longest), atol=1e-3, rtol=1e-3)
    reached = torch.maximum(torch.minimum(before, steering.radius), before - c * longest)
    assert (after <= reached + 1e-3 * (1 + before)).all()


def test_one_that_is_known_alone_has_no_neighbour_and_moves_nothing():
    steering = Steering(drawn(1, 6), 0.95, 1.0)
    a_hat = 10 * drawn(4, 3, 2, seed=1)
    assert torch.equal(steering.drawn_back(linear(1.0), a_hat), a_hat)


def test_a_row_is_moved_for_itself_alone():
    steering = Steering(drawn(12, 6), 0.5, 0.3)
    a_hat = 3 * drawn(5, 3, 2, seed=1)
    order = torch.tensor([3, 0, 4, 2, 1])
    moved = steering.drawn_back(linear(2.0), a_hat)
    torch.testing.assert_close(steering.drawn_back(linear(2.0), a_hat[order]), moved[order])
    torch.testing.assert_close(steering.drawn_back(linear(2.0), a_hat[1:2]), moved[1:2])


class Straight:
    """A velocity model whose flow ends at `goal` from anywhere."""

    def __init__(self, goal):
        self.goal = goal

    def condition(self, t, context, feedback_time=None):
        return torch.zeros(*t.shape[:1], len(context), 1)

    def __call__(self, x_t, t, condition, feedback=None, present=None):
        return (x_t - self.goal) / t


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("inference", [True, False])
def test_a_sampled_chunk_ends_where_its_last_estimate_is_drawn_back_to(steps, inference):
    goal = 3 * drawn(5, 3, 2, seed=1)
    with torch.inference_mode(inference), torch.no_grad():
        steering = Steering(drawn(12, 6), 0.5, 0.1)
        models = Straight(goal), Straight(torch.zeros(5, 6))
        noise = drawn(5, 3, 2, seed=2), drawn(5, 6, seed=3)
        done = sample(*models, Coupling.AUXILIARY, drawn(5, 1), *noise, steps, steering.guide(linear(2.0)))
        expected = steering.drawn_back(linear(2.0), goal)
    assert not torch.allclose(expected, goal)
    torch.testing.assert_close(done.action, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(done.estimates, expected.expand(steps, -1, -1, -1), atol=1e-4, rtol=1e-4)

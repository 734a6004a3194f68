"""Scores: the right prediction against the right observation, in the right units."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monitor_support import OFFSETS, S, episode

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.monitor import signals
from lerobot_policy_dap.monitor.covariance import shrunk_covariance, whitening
from lerobot_policy_dap.monitor.scores import (
    NEIGHBOURS,
    SCORES,
    Dynamics,
    Mahalanobis,
    Neighbours,
    Plan,
    ScoreName,
    episode_scores,
    fit,
    residual,
)
from lerobot_policy_dap.monitor.signals import SAMPLES, Signal, Signals, read_signals


def plan(step, observed, *expected):
    return Plan(
        step, Signals(None, np.array([observed], np.float32), np.array(expected, np.float32)[:, None], None)
    )


def test_the_prediction_that_ends_now_is_compared_and_the_longest_of_several():
    plans = [plan(0, 0, 1, 20), plan(8, 5, 10, 100), plan(16, 13, 0, 0)]
    found = residual(plans, (8, 16))
    assert (found.value.tolist(), found.place) == ([13.0 - 20.0], 1)  # what step 0's chunk was to lead to by now
    found = residual(plans[:2], (8, 16))
    assert (found.value.tolist(), found.place) == ([5.0 - 1.0], 0)
    assert residual(plans, (8,)).value.tolist() == [13.0 - 10.0]


def test_between_two_expectations_the_way_is_straight():
    seen = [plan(0, 2, 10, 30), plan(4, 7, 0, 0)]
    assert residual(seen, (8, 16)).value.tolist() == [7 - 6.0]  # half way from 2 to 10
    assert residual([plan(0, 2, 10, 30), plan(2, 7, 0, 0)], (8, 16)).value.tolist() == [7 - 4.0]  # a quarter
    late = [plan(0, 2, 10, 30), plan(12, 25, 0, 0)]
    found = residual(late, (8, 16))
    assert (found.value.tolist(), found.place) == ([25 - 20.0], 1)  # half way from 10 to 30


@pytest.mark.parametrize("plans", [[plan(0, 1, 2, 3)], [plan(0, 1, 2, 3), plan(17, 1, 2, 3)]])
def test_nothing_is_known_at_first_or_after_too_long(plans):
    assert residual(plans, OFFSETS) is None
    assert residual(plans, (0,)) is None


def test_a_world_that_stops_is_stranger_to_the_dynamics_from_then_on():
    rng = np.random.default_rng(0)
    score = Dynamics.fit([episode(rng) for _ in range(30)], OFFSETS)
    told = episode_scores(score, episode(rng, wrong=40))
    assert math.isnan(told[0])
    assert told[1:6].max() < 5 < told[6:].min()
    # In units of the demonstrations' own residuals: their mean squared distance is their dimension.
    clean = np.concatenate([episode_scores(score, episode(rng))[1:] for _ in range(50)])
    assert np.mean(clean**2) == pytest.approx(S, rel=0.25)


def test_encodings_far_from_demonstrations_are_strange_by_either_measure():
    rng = np.random.default_rng(1)
    demonstrations = [episode(rng) for _ in range(30)]
    for score in (Neighbours.fit(demonstrations), Mahalanobis.fit(demonstrations)):
        near = np.concatenate([episode_scores(score, episode(rng)) for _ in range(20)])
        far = episode_scores(score, episode(rng, far=8.0))
        assert near.max() < far.min()


def test_the_spread_is_the_standard_deviation_among_chunks_for_one_observation():
    """Of chunks that differ from step to step alike, by 0 to 7 for one row and twice that for the other."""
    shape = torch.tensor([[1.0, 5.0], [-3.0, 2.0]]).expand(2, 2, 2)
    drawn = iter(shape + i * torch.tensor([1.0, 2.0]).reshape(2, 1, 1) for i in range(SAMPLES))
    policy = SimpleNamespace(config=SimpleNamespace(device="cpu"), predict_action_chunk=lambda batch: next(drawn))
    found = read_signals(policy, {}, None, frozenset({Signal.SPREAD})).spread
    np.testing.assert_allclose(found, np.std(np.arange(SAMPLES), ddof=1) * np.array([1, 2]), rtol=1e-6)


def test_drawing_chunks_for_their_spread_takes_no_noise_from_anybody():
    policy = SimpleNamespace(
        config=SimpleNamespace(device="cpu"), predict_action_chunk=lambda batch: torch.randn(2, 3, 1)
    )
    before = torch.get_rng_state()
    first, again = (read_signals(policy, {}, None, frozenset({Signal.SPREAD})).spread for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(first, again)


def test_chunks_are_drawn_for_the_row_whose_spread_they_are(monkeypatch):
    """Where a chunk is a function of what is seen alone, no row has any."""

    def drawn(policy, dynamics, arm, context, actions, outcomes):
        return SimpleNamespace(action=context.unsqueeze(1))

    monkeypatch.setattr(signals, "sample", drawn)
    config = SimpleNamespace(device="cpu", arm=None, generation={})
    policy = SimpleNamespace(
        config=config, policy=None, dynamics=None, chunk_shape=(1, 4), outcome_shape=(3,), observed_outcome=None,
        context_now=lambda batch: torch.arange(12.0).reshape(3, 4),
    )  # fmt: skip
    assert read_signals(policy, {}, None, frozenset({Signal.SPREAD})).spread.tolist() == [0, 0, 0]


def test_each_offset_is_measured_in_residuals_of_its_own():
    """A step ahead is off by -1 or 3, two are by 10 or 50: what is usual of one would be strange of the other."""
    episodes = [
        [plan(0, 0, 100, 200), plan(8, 100 + near, 0, 0), plan(16, 200 + far, 0, 0)]
        for near, far in ((-1, 10), (3, 50))
    ]
    score = Dynamics.fit(episodes, (8, 16))
    np.testing.assert_allclose(score.means, [[1], [30]])
    for steps in (2, 3):
        assert [score(episode[:steps]) for episode in episodes] == pytest.approx([1, 1], rel=1e-4)


def encoded(*rows):
    return [Plan(step, Signals(np.array(row, np.float32))) for step, row in enumerate(rows)]


def test_the_distance_to_neighbours_is_the_mean_over_the_nearest_few():
    rng = np.random.default_rng(7)
    seen, asked = rng.normal(size=(12, 3)), rng.normal(size=3)
    score = Neighbours.fit([encoded(*seen[:5]), encoded(*seen[5:])])
    nearest = np.sort(np.linalg.norm((seen - asked) / seen.std(axis=0), axis=1))[:NEIGHBOURS]
    assert score(encoded(asked)) == pytest.approx(nearest.mean(), rel=1e-4)
    # Fewer than are asked for: none to itself, 2 in each of 3 dimensions to the other.
    alone = Neighbours.fit([encoded(*seen[:2])])
    assert alone(encoded(seen[0])) == pytest.approx(np.sqrt(12) / 2, rel=1e-4)


def test_a_dimension_that_hardly_varies_is_no_unit():
    rng = np.random.default_rng(8)
    score = Neighbours.fit([encoded(*rng.normal(size=(40, 2)) * (1.0, 1e-6))])
    usual, moved = (score(encoded((0.0, place))) for place in (0.0, 1e-3))
    assert moved == pytest.approx(usual, abs=0.1)


def test_what_is_not_finite_is_the_strangest_of_all():
    rng = np.random.default_rng(2)
    demonstrations = [episode(rng) for _ in range(5)]
    broken = episode(rng)
    broken[3] = Plan(broken[3].step, Signals(*(np.full_like(part, np.nan) for part in broken[3].signals)))
    for name in SCORES:
        told = episode_scores(fit(name, demonstrations, OFFSETS), broken)
        assert told[3] == math.inf, name
        assert np.isfinite(told[1:3]).all(), name


def test_fitting_needs_demonstrations_and_an_outcome_that_can_be_seen():
    with pytest.raises(UserError, match="there are none"):
        fit(ScoreName.KNN, [[]], OFFSETS)
    with pytest.raises(UserError, match="outcome_offsets"):
        fit(ScoreName.DYNAMICS, [episode(np.random.default_rng(3))], (0,))


def test_mahalanobis_distance_is_the_one_of_the_shrunk_covariance():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5))
    mean, covariance = shrunk_covariance(x)
    centre, W = whitening(x)
    away = x[7] - mean
    assert np.sum((W @ (x[7] - centre)) ** 2) == pytest.approx(away @ np.linalg.solve(covariance, away), rel=1e-3)


def test_the_shrunk_covariance_is_of_deviations_from_the_mean():
    x = np.random.default_rng(6).normal(size=(20, 4))
    mean, covariance = shrunk_covariance(x)
    moved, same = shrunk_covariance(x + 100)
    np.testing.assert_allclose(moved, mean + 100)
    np.testing.assert_allclose(same, covariance, atol=1e-9)
    assert np.trace(covariance) == pytest.approx(x.var(axis=0).sum())  # shrinking keeps it


def test_shrinking_vanishes_with_many_samples_and_saves_few():
    rng = np.random.default_rng(5)
    truth = np.diag([1.0, 4.0, 9.0])
    many = rng.multivariate_normal(np.zeros(3), truth, size=20_000)
    np.testing.assert_allclose(shrunk_covariance(many)[1], truth, atol=0.3)
    few = rng.normal(size=(4, 30))
    assert np.linalg.eigvalsh(shrunk_covariance(few)[1]).min() > 1e-3  # the sample covariance has rank 3

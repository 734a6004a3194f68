"""Distances in units of the dataset, and intervals that are worth their name."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_policy_dap.probe.distances import by_dimension, overall
from lerobot_policy_dap.probe.results import over_episodes


def test_one_sigma_in_every_dimension_is_a_distance_of_one():
    std = np.array([0.01, 3.0, 200.0])
    chunk = np.random.default_rng(0).normal(size=(5, 4, 3)) * std
    distance = by_dimension(chunk + std, chunk, std)
    assert distance == pytest.approx(np.ones((5, 3)))
    assert overall(distance) == pytest.approx(np.ones(5))


@given(st.integers(1, 4), st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_only_valid_steps_count(valid, far):
    one, other = np.zeros((1, 4, 2)), np.full((1, 4, 2), far)
    other[:, valid:] = 1e6
    mask = np.arange(4)[None] < valid
    assert by_dimension(one, other, np.ones(2), mask) == pytest.approx(np.full((1, 2), far))


def test_every_episode_weighs_the_same():
    values, episodes = np.array([0.0, 0.0, 0.0, 8.0]), np.array([1, 1, 1, 2])
    assert over_episodes(values, episodes)["estimate"] == 4.0
    still = over_episodes(np.zeros(4), episodes)
    assert (still["low"], still["high"]) == (0.0, 0.0)


@pytest.mark.parametrize("episodes", [2, 3, 5, 12])
def test_intervals_cover_when_frames_of_an_episode_look_alike(episodes):
    """95 % for episodes that differ by more than their frames do; resampling frames would cover far less."""
    rng = np.random.default_rng(0)
    where = np.repeat(np.arange(episodes), 20)
    covered = 0
    for _ in range(150):
        values = 1 + rng.normal(0, 0.3, episodes)[where] + rng.normal(0, 0.1, len(where))
        interval = over_episodes(values, where)
        covered += interval["low"] <= 1 <= interval["high"]
    assert 0.89 <= covered / 150 <= 0.99

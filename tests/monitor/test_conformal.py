"""False alarms at the promised rate, for any score and any number of calibration episodes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.monitor.conformal import check_rate, chunk_p_values, least_episodes, p_values

scores = st.lists(st.floats(allow_nan=False), min_size=1, max_size=40)


@settings(deadline=None)
@given(scores, st.floats(0.01, 0.99))
def test_no_more_than_the_promised_share_of_exchangeable_scores_is_flagged(values, alpha):
    """Exact, and over every way to choose which of n + 1 scores is the new one: ties and infinities included."""
    flagged = [p_values(values[:i] + values[i + 1 :], values[i]) <= alpha for i in range(len(values))]
    assert np.mean(flagged) <= alpha + 1e-12


@settings(deadline=None)
@given(scores, st.floats(allow_nan=False))
def test_a_p_value_is_the_rank_among_all(values, score):
    n = len(values)
    assert p_values(values, score) == (1 + sum(v >= score for v in values)) / (n + 1)


def test_an_unknown_score_has_no_p_value_and_infinity_the_least():
    p = p_values([1.0, 2.0, 3.0], [math.nan, math.inf, 0.0])
    assert math.isnan(p[0])
    assert p[1:].tolist() == [1 / 4, 1.0]


@settings(deadline=None)
@given(st.lists(scores, min_size=1, max_size=12), st.floats(0.05, 0.95))
def test_chunks_of_exchangeable_episodes_are_flagged_no_more_than_promised(episodes, alpha):
    """A chunk drawn from a random one of n + 1 episodes, whatever their lengths."""
    flagged = [
        np.mean(chunk_p_values(episodes[:i] + episodes[i + 1 :], episode) <= alpha)
        for i, episode in enumerate(episodes)
    ]
    assert np.mean(flagged) <= alpha + 1e-9


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=6), st.integers(0, 3))
def test_a_chunks_p_value_counts_of_each_episode_the_share_that_is_as_strange(episodes, score):
    as_strange = sum(np.mean([s >= score for s in episode]) for episode in episodes)
    assert chunk_p_values(episodes, score) == pytest.approx((1 + as_strange) / (len(episodes) + 1))


def test_the_rate_is_not_only_kept_but_used():
    """Continuous scores and n + 1 a multiple of 1 / alpha: the rate is alpha itself."""
    rng = np.random.default_rng(0)
    calibration = rng.normal(size=(4000, 59))
    new = rng.normal(size=4000)
    flagged = [p_values(c, s) <= 0.05 for c, s in zip(calibration, new, strict=True)]
    assert 0.04 < np.mean(flagged) < 0.06


@pytest.mark.parametrize(("rate", "least"), [(0.05, 19), (0.1, 9), (0.01, 99), (0.5, 1), (0.03, 33)])
def test_too_few_episodes_are_refused_and_the_line_says_how_many_it_takes(rate, least):
    assert least_episodes(rate) == least
    assert p_values(np.zeros(least), 1.0) <= rate + 1e-12
    assert p_values(np.zeros(least - 1), 1.0) > rate
    check_rate(rate, least)
    with pytest.raises(UserError, match=f"at least {least}") as caught:
        check_rate(rate, least - 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, math.nan])
def test_a_rate_is_a_probability(rate):
    with pytest.raises(UserError, match="between 0 and 1"):
        check_rate(rate)

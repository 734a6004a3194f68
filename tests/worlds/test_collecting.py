"""Which seeds a collection is of, whatever interrupts it."""

import itertools

import pytest

from lerobot_policy_dap.worlds.collect import _until_enough


def collected(tried, fails=(), episodes=5):
    """The seeds of a collection that goes on after what was tried."""
    for seed in _until_enough(itertools.count(0), tried, episodes):
        tried[seed] = seed not in fails
    return [seed for seed in sorted(tried) if tried[seed]][:episodes]


@pytest.mark.parametrize("fails", [(), (2,), (4,), (4, 5)])
def test_a_seed_that_a_kill_left_out_comes_before_later_ones(fails):
    """Two processes had seeds 4 and 5 in hand; 5 was done when they were killed, and made enough."""
    done = {seed: seed not in fails for seed in (0, 1, 2, 3, 5)}
    assert collected(done, fails) == collected({}, fails)


def test_nothing_is_tried_where_no_seed_is_missing():
    assert list(_until_enough(itertools.count(0), dict.fromkeys(range(5), True), 5)) == []
    assert list(_until_enough(itertools.count(3), dict.fromkeys(range(3, 7), True), 4)) == []

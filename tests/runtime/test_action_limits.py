"""Whatever a policy says, what leaves is finite, within the range, and without jumps."""

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_policy_dap.runtime.limits import ActionLimits, OnUnsafe
from lerobot_policy_dap.runtime.refusals import Refused

LOW, HIGH = np.array([-1, 0, 5], np.float32), np.array([1, 100, 5], np.float32)  # the last never moved
chunks = npst.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(3)), elements=st.floats(-1e6, 1e6, width=32))
anything = npst.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(3)), elements=st.floats(width=32))
befores = st.none() | npst.arrays(np.float32, 3, elements=st.floats(-1e3, 1e3, width=32))


def limits(on_unsafe, margin=0.1, max_change=0.25):
    return ActionLimits.around(LOW, HIGH, margin, max_change, on_unsafe)


def assert_safe(bounds, actions, before):
    assert np.isfinite(actions).all()
    rows = actions if before is None else np.concatenate([before[None], actions])
    assert (np.abs(np.diff(rows, axis=0)) <= bounds.step * (1 + 1e-5) + 1e-5 * np.abs(rows[1:])).all()
    # From outside the range it comes back a whole step at a time; nothing else leaves it.
    above = np.zeros_like(bounds.high) if before is None else np.maximum(before - bounds.high, 0)
    below = np.zeros_like(bounds.low) if before is None else np.maximum(bounds.low - before, 0)
    for i, action in enumerate(actions, 1):
        slack = 1e-5 * i * np.maximum(1, np.abs(rows[0]))
        assert (action <= bounds.high + np.maximum(above - i * bounds.step, 0) + slack * (above > 0)).all()
        assert (action >= bounds.low - np.maximum(below - i * bounds.step, 0) - slack * (below > 0)).all()


@given(anything, befores, st.sampled_from(list(OnUnsafe)))
@settings(deadline=None, max_examples=300)
def test_what_leaves_is_safe(actions, before, on_unsafe):
    bounds, checked, refused = limits(on_unsafe), None, None
    try:
        checked = bounds.check(actions, before)
    except Refused as error:
        refused = error
    if checked is None:
        assert refused.reason == ("unsafe_action" if np.isfinite(actions).all() else "not_finite")
        return
    assert len(checked.actions) == len(actions) or on_unsafe is OnUnsafe.HOLD
    assert_safe(bounds, checked.actions, before)


@given(chunks)
@settings(deadline=None)
def test_safe_chunks_pass_untouched(actions):
    bounds = limits(OnUnsafe.CLAMP)
    once = bounds.check(actions, None).actions
    for on_unsafe in OnUnsafe:
        again = limits(on_unsafe, max_change=0.2501).check(once, None)
        np.testing.assert_array_equal(again.actions, once)
        assert (again.out_of_range, again.too_fast) == (0, 0)


def test_clamp_hold_and_refuse():
    chunk = np.array([[0, 50, 5], [0.1, 60, 5], [0.2, 70, 5], [3, 80, 5]], np.float32)
    clamped = limits(OnUnsafe.CLAMP).check(chunk, None)
    np.testing.assert_allclose(clamped.actions[3], [0.7, 80, 5])  # half a unit a step
    assert (clamped.out_of_range, clamped.too_fast) == (1, 1)
    np.testing.assert_array_equal(limits(OnUnsafe.HOLD).check(chunk, None).actions, chunk[:3])
    with pytest.raises(Refused, match=r"action 3 of the chunk is out of the demonstrated range \(dimension 0: 3"):
        limits(OnUnsafe.REFUSE).check(chunk, None)


def test_the_change_limit_holds_across_the_seam_to_what_was_executed_before():
    chunk = np.array([[0, 50, 5], [0, 50, 5], [0, 50, 5]], np.float32)
    before = np.array([-1, 50, 5], np.float32)
    clamped = limits(OnUnsafe.CLAMP).check(chunk, before)
    np.testing.assert_allclose(clamped.actions[:, 0], [-0.5, 0, 0])
    assert clamped.too_fast == 1
    with pytest.raises(Refused, match="action 0 of the chunk is further from the last"):
        limits(OnUnsafe.HOLD).check(chunk, before)


def test_a_robot_that_stands_outside_the_range_is_brought_back_by_the_change_limit():
    """A home pose that no demonstration began in: a jump back would be the largest motion of the day."""
    chunk = np.array([[0, 50, 5]] * 4, np.float32)
    clamped = limits(OnUnsafe.CLAMP).check(chunk, np.array([2.5, 50, 5], np.float32))
    np.testing.assert_allclose(clamped.actions[:, 0], [2, 1.5, 1, 0.5])
    assert (clamped.out_of_range, clamped.too_fast) == (0, 4)

"""Every way in which an observation can be wrong has a name, and the message says which feature and how to mend it."""

import time
from dataclasses import replace

import numpy as np
import pytest
from small_policies import CAMERA, STATE, A, C, D, H, W, observation

from lerobot_policy_dap.runtime.contract import Contract
from lerobot_policy_dap.runtime.refusals import Refused
from lerobot_policy_dap.runtime.session import Session

CONTRACT = Contract({CAMERA: (C, H, W)}, {STATE: D}, A, n_obs_steps=1)
GOOD = observation()


def wrong(**changes):
    """The good observation with features replaced, by the last part of their names."""
    names = {"front": CAMERA, "state": STATE}
    return {**GOOD, **{names.get(key, key): value for key, value in changes.items()}}


def nan_state():
    state = GOOD[STATE].copy()
    state[1] = np.nan
    return state


CASES = {
    "missing camera": ({STATE: GOOD[STATE]}, "missing_feature", "front is missing; the message has: observation.state"),
    "missing everything": ({}, "missing_feature", "no arrays"),
    "channels first": (wrong(front=np.zeros((C, H, W), np.uint8)), "wrong_channel_order", "height, width, channels"),
    "channels last": (wrong(front=np.zeros((H, W, C), np.float32)), "wrong_channel_order", "channels, height, width"),
    "image size": (wrong(front=np.zeros((H * 2, W, C), np.uint8)), "wrong_image_size", "96x64x3; the checkpoint needs 48x64x3"),
    "turned image": (wrong(front=np.zeros((W, H, C), np.uint8)), "wrong_image_size", "resize"),
    "four channels": (wrong(front=np.zeros((H, W, 4), np.uint8)), "wrong_shape", "48x64x4"),
    "flat image": (wrong(front=np.zeros((H, W), np.uint8)), "wrong_shape", "it needs 3 axes"),
    "two frames": (wrong(front=np.zeros((2, H, W, C), np.uint8)), "wrong_shape", "2x48x64x3"),
    "image of integers": (wrong(front=np.zeros((H, W, C), np.int64)), "wrong_dtype", "send uint8"),
    "bright float image": (wrong(front=np.full((C, H, W), 255, np.float32)), "out_of_range", "lie in [0, 1]"),
    "nan image": (wrong(front=np.full((C, H, W), np.nan, np.float32)), "not_finite", "front"),
    "nan state": (wrong(state=nan_state()), "not_finite", "observation.state holds NaN or infinity in 1 of 3"),
    "huge state": (wrong(state=np.full(D, 1e300)), "not_finite", "observation.state"),
    "long state": (wrong(state=np.zeros(7, np.float32)), "wrong_shape", "observation.state has 7 numbers; the checkpoint needs 3"),
    "state of integers": (wrong(state=np.zeros(D, np.int32)), "wrong_dtype", "observation.state is int32"),
    "state as list": (wrong(state=[0.0] * D), "wrong_type", "observation.state is list"),
    "scalar state": (wrong(state=np.array(1.0)), "wrong_shape", "a scalar"),
    "stamp of text": (wrong(timestamp="now"), "wrong_type", "timestamp is str"),
    "stamp of nan": (wrong(timestamp=float("nan")), "not_finite", "timestamp"),
    "task of bytes": (wrong(task=b"go"), "wrong_type", "task is bytes"),
    "delay": (wrong(inference_delay=-1), "out_of_range", "inference_delay is -1"),
    "delay of half a step": (wrong(inference_delay=0.5), "wrong_type", "inference_delay"),
    "left-over of other actions": (wrong(prev_chunk_left_over=np.zeros((3, A + 1), np.float32)), "wrong_shape", "it needs k x 2"),
    "left-over of nan": (wrong(prev_chunk_left_over=np.full((3, A), np.nan, np.float32)), "not_finite", "prev_chunk_left_over"),
    "left-over without end": (wrong(prev_chunk_left_over=np.zeros((5000, A), np.float32)), "wrong_shape", "5000x2"),
    "reset of two": (wrong(reset=np.array([True, False])), "wrong_type", "reset is ndarray"),
    "reset of text": (wrong(reset="yes"), "wrong_type", "reset is str"),
    "token of a number": (wrong(episode_token=7), "wrong_type", "episode_token is int"),
    "token without end": (wrong(episode_token="x" * 65), "out_of_range", "episode_token has 65 characters"),
    "last action": (wrong(last_action=np.zeros((1, A), np.float32)), "wrong_shape", "last_action"),
}  # fmt: skip


@pytest.mark.parametrize(("message", "reason", "says"), CASES.values(), ids=CASES)
def test_a_bad_observation_has_a_name(message, reason, says):
    with pytest.raises(Refused) as refused:
        CONTRACT.read(message)
    assert refused.value.reason == reason
    assert says in str(refused.value)
    assert Refused.parse(refused.value.text).text == refused.value.text


def test_a_good_observation_is_taken_in_either_form():
    as_bytes = CONTRACT.read(GOOD).frames[CAMERA]
    as_floats = CONTRACT.read(wrong(front=GOOD[CAMERA].transpose(2, 0, 1).astype(np.float32) / 255)).frames[CAMERA]
    np.testing.assert_allclose(as_bytes[0].transpose(2, 0, 1) / 255, as_floats[0], atol=1e-6)
    read = CONTRACT.read(
        wrong(prompt="open it", unknown=np.zeros(5), timestamp=np.float64(2), inference_delay=np.int64(3))
    )
    assert (read.task, read.timestamp, read.inference_delay, read.left_over) == ("open it", 2.0, 3, None)


def test_an_episode_begins_by_any_sort_of_true():
    for flag in (True, 1, np.True_, np.int64(1), np.array([True]), np.array(1)):
        assert CONTRACT.read(wrong(reset=flag)).reset is True
    for flag in (False, 0, None, np.array([0])):
        assert CONTRACT.read(wrong(reset=flag)).reset is False


def test_an_episode_with_a_token_goes_on_over_connections():
    def accept(session, **message):
        return session.accept(CONTRACT.read(wrong(**message))).episode

    one, other = Session(1, 0, 10), Session(1, 0, 10)
    assert accept(one, episode_token="a", timestamp=2.0) == accept(other, episode_token="a", timestamp=1.0)
    assert accept(one, timestamp=3.0) == "a"
    assert accept(one, episode_token="b", timestamp=1.0) == "b"  # another episode: stamps begin anew
    assert accept(one, episode_token="b", reset=True, timestamp=0.5) == "b"  # sent again, its answer was lost
    with pytest.raises(Refused, match="not after the last one"):
        accept(one, episode_token="b", timestamp=0.5)
    named, nameless = accept(one, reset=True), accept(Session(1, 0, 10))
    assert len({named, nameless, "a", "b"}) == 4


def test_a_rate_below_one_a_second_lets_the_first_request_pass():
    session = Session(1, 0, 0.1)
    session.count()
    with pytest.raises(Refused, match=r"more than 0\.1 requests a second"):
        session.count()


def test_other_names_and_nested_maps_are_renamed():
    contract = replace(CONTRACT, rename={"images/cam_high": CAMERA, "state": STATE})
    nested = {"images": {"cam_high": GOOD[CAMERA], "cam_low": GOOD[CAMERA]}, "state": GOOD[STATE]}
    np.testing.assert_array_equal(contract.read(nested).frames[CAMERA][0], GOOD[CAMERA])
    assert set(contract.describe()) == {"images/cam_high", "state"}
    with pytest.raises(Refused, match="images/cam_high is missing"):
        contract.read(GOOD)


def read(stamp=None, **more):
    return CONTRACT.read({**GOOD, "timestamp": stamp, **more})


def test_time_stamps_that_do_not_go_on_are_stale():
    session = Session(1, max_age=0, max_rate=100)
    session.accept(read(5.0))
    for stamp in (5.0, 4.9):
        with pytest.raises(Refused, match="send each observation once") as refused:
            session.accept(read(stamp))
        assert refused.value.reason == "stale_observation"
    session.accept(read(5.1))
    session.accept(read(0.0, reset=True))  # an episode begins, and with it perhaps a clock
    session.accept(read())  # who sends no stamp is not asked for one


@pytest.mark.parametrize("clock", [-1e6, 0.0, 1.8e9])
def test_an_observation_that_was_long_on_the_way_is_stale_whatever_the_clocks_say(clock):
    session = Session(1, max_age=1.0, max_rate=100)
    now = time.monotonic() + clock  # of the client
    session.accept(read(now - 5))  # nothing yet to compare with
    session.accept(read(now - 3))  # two seconds quicker
    session.accept(read(now))
    delayed = Session(1, max_age=1.0, max_rate=100)
    delayed.accept(read(now))
    time.sleep(1.2)
    with pytest.raises(Refused, match="older than the quickest") as refused:
        delayed.accept(read(now + 0.01))  # made just after the first, and more than a second longer on the way
    assert refused.value.reason == "stale_observation"


def test_who_asks_too_often_is_told_so():
    session = Session(1, max_age=0, max_rate=5)
    for _ in range(10):
        session.count()
    with pytest.raises(Refused) as refused:
        for _ in range(10):
            session.count()
    assert refused.value.reason == "rate_limited"


def test_history_is_filled_with_the_first_observation_and_forgotten_on_reset():
    contract, session = replace(CONTRACT, n_obs_steps=3), Session(3, 0, 100)
    states = [np.full(D, i, np.float32) for i in range(5)]

    def history(i, **more):
        request = session.accept(contract.read({**GOOD, STATE: states[i], **more}))
        assert request.frames[CAMERA].shape == (3, H, W, C)
        return request.frames[STATE][:, 0].tolist()

    assert history(0) == [0, 0, 0]
    assert history(1) == [0, 0, 1]
    assert history(2) == [0, 1, 2]
    assert history(3) == [1, 2, 3]
    assert history(4, reset=True) == [4, 4, 4]

"""The player gives one command every step, from the right place of the right chunk, and holds when there is none."""

import threading

import numpy as np
import pytest
from small_policies import A, client, eventually, observation, serving

from lerobot_policy_dap.runtime.client import ServerUnavailable
from lerobot_policy_dap.runtime.player import ChunkPlayer
from lerobot_policy_dap.runtime.refusals import Reason, Refused


class Scripted:
    """A policy whose answers come when the test says so: a chunk's action i is the observation's number plus i."""

    def __init__(self, length=8, n_action_steps=4, n_obs_steps=1, max_change=None):
        action = {} if max_change is None else {"max_change": np.full(1, max_change, np.float32)}
        self.metadata = {
            "n_action_steps": n_action_steps,
            "n_obs_steps": n_obs_steps,
            "observation": {"x": {}},
            "action": action,
        }
        self.length, self.asked = length, []
        self.go, self.fail = threading.Semaphore(0), None

    def get_server_metadata(self):
        return self.metadata

    def infer(self, obs):
        self.asked.append(obs)
        assert self.go.acquire(timeout=20)
        if self.fail is not None:
            raise self.fail
        start = np.asarray(obs["x"]).reshape(-1)[-1]
        return {
            "actions": (start + np.arange(self.length, dtype=np.float32))[:, None],
            "chunk_id": f"c{len(self.asked)}",
        }


def settle(player):
    """Waits for the answer that was let go."""
    player._asked.exception(20)


def see(i):
    return {"x": np.float32(i)}


def test_actions_belong_to_their_steps_whatever_the_delay():
    """With actions that name their step, a player without stutter says 0, 1, 2, … for any delay below the chunk."""
    for delay in (1, 2, 3):
        policy = Scripted()
        player = ChunkPlayer(policy, 0.1)
        policy.go.release()
        said, waited, chunks = [], 0, set()
        for step in range(40):
            command = player.act(see(step))
            said.append(float(command.action[0]))
            chunks.add(command.chunk_id)
            assert not command.held
            waited = waited + 1 if player._asked is not None else 0
            if waited == delay:
                policy.go.release()
                settle(player)
                waited = 0
        assert said == list(range(40))
        assert len(chunks) > 5
        assert player.held_steps == 0
        assert player.delay == delay
        policy.go.release(9)
        player.close()


def test_a_request_carries_what_is_left_the_expected_delay_and_the_last_command():
    policy = Scripted()
    player = ChunkPlayer(policy, 0.1)
    policy.go.release()
    for step in range(4):
        player.act(see(step))
    eventually(lambda: len(policy.asked) == 2)
    first, second = policy.asked
    assert first["reset"] is True
    assert "prev_chunk_left_over" not in first
    assert "reset" not in second
    assert second["timestamp"] > first["timestamp"]
    np.testing.assert_array_equal(second["prev_chunk_left_over"][:, 0], [3, 4, 5, 6, 7])
    np.testing.assert_array_equal(second["last_action"], [2])
    assert second["inference_delay"] == 1
    policy.go.release(9)
    player.close()


def test_it_plays_a_late_chunk_out_holds_and_goes_on_where_the_robot_stands():
    policy = Scripted(length=6, n_action_steps=3)
    player = ChunkPlayer(policy, 0.1, hold=lambda last: last * 0 - 1)
    policy.go.release()
    commands = [player.act(see(step)) for step in range(10)]
    assert [float(c.action[0]) for c in commands] == [0, 1, 2, 3, 4, 5, -1, -1, -1, -1]
    assert [c.held for c in commands] == [False] * 6 + [True] * 4
    assert player.held_steps == 4
    policy.go.release()  # asked at step 2, after which 2 to 5 were played
    settle(player)
    command = player.act(see(10))
    assert (float(command.action[0]), command.place, command.held) == (2 + 4, 4, False)
    policy.go.release(9)
    player.close()


def test_failures_are_told_and_asked_again_while_it_holds():
    policy = Scripted(length=2, n_action_steps=2)
    player = ChunkPlayer(policy, 0.1)
    policy.go.release()
    player.act(see(0)), player.act(see(1))
    policy.fail = ServerUnavailable("gone")
    for step in range(2, 6):
        policy.go.release()
        settle(player) if player._asked is not None else None
        command = player.act(see(step))
    assert command.held
    assert float(command.action[0]) == 1  # the last safe command
    assert str(player.trouble) == "gone"
    policy.fail = None
    policy.go.release(9)
    settle(player)
    player.act(see(6))
    settle(player) if player._asked is not None else None
    assert not player.act(see(7)).held
    assert player.trouble is None
    player.close()


def test_without_a_first_chunk_there_is_nothing_to_hold():
    policy = Scripted()
    policy.fail = ServerUnavailable("gone")
    policy.go.release(9)
    player = ChunkPlayer(policy, 0.1)
    with pytest.raises(ServerUnavailable, match="gone"):
        player.act(see(0))
    policy.fail = None
    assert float(player.act(see(0)).action[0]) == 0
    player.close()


def test_no_number_jumps_across_the_seam():
    policy = Scripted(length=4, n_action_steps=2, max_change=1.0)
    player = ChunkPlayer(policy, 0.1)
    policy.go.release(99)
    said = []
    for step in range(12):
        said.append(float(player.act(see(100 * (step > 5))).action[0]))
        settle(player) if player._asked is not None else None
    assert np.abs(np.diff(said)).max() <= 1
    player.close()


def test_histories_are_a_control_step_apart():
    policy = Scripted(n_obs_steps=3)
    player = ChunkPlayer(policy, 0.1)
    policy.go.release(99)
    for step in range(6):
        player.act(see(step))
        settle(player) if player._asked is not None else None
    np.testing.assert_array_equal(policy.asked[0]["x"], [0, 0, 0])
    np.testing.assert_array_equal(policy.asked[1]["x"], [1, 2, 3])
    player.reset()
    player.act(see(50))
    np.testing.assert_array_equal(policy.asked[-1]["x"], [50, 50, 50])
    assert policy.asked[-1]["reset"] is True
    player.close()


def test_an_episode_begins_with_the_first_request_that_is_answered():
    policy = Scripted()
    player = ChunkPlayer(policy, 0.1)
    policy.go.release(99)
    for refused, again in ((Reason.RATE_LIMITED, True), (Reason.ALARM, False)):
        policy.fail = Refused(refused, "no")
        with pytest.raises(Refused):
            player.act(see(0))
        policy.fail = None
        player.act(see(1))
        # An alarm is of the episode: it has begun, and to begin it anew would take the alarm back.
        assert [asked.get("reset", False) for asked in policy.asked] == [True, again]
        player.reset()
        policy.asked.clear()
    player.close()


def test_cameras_may_write_where_they_wrote_before():
    for steps, expected in ((1, [1]), (3, [0, 0, 1])):
        policy = Scripted(n_action_steps=1, n_obs_steps=steps)
        player = ChunkPlayer(policy, 0.1)
        policy.go.release()
        frame, nested = np.zeros(1, np.float32), {"y": np.zeros(1, np.float32)}
        for step in range(2):
            frame[:] = nested["y"][:] = step
            player.act({"x": frame, "nested": nested})
        frame[:] = nested["y"][:] = 9
        policy.go.release(9)
        settle(player) if player._asked is not None else None
        np.testing.assert_array_equal(policy.asked[1]["x"].reshape(-1), expected)
        np.testing.assert_array_equal(policy.asked[1]["nested"]["y"], [1])
        player.close()


def test_over_the_network(model):
    """Through a real server: stamps go on, left-overs are taken, and an episode begins anew."""
    with serving(model) as server, client(server) as asking:
        player = ChunkPlayer(asking, 0.01)
        for episode in range(2):
            commands = []
            for step in range(20):
                commands.append(player.act(observation(100 * episode + step)))
                if player._asked is not None:
                    settle(player)
            assert player.trouble is None
            assert not any(command.held for command in commands)
            assert all(command.action.shape == (A,) for command in commands)
            changes = np.abs(np.diff([command.action for command in commands], axis=0))
            assert (changes <= model.limits.step + 1e-5).all()
            player.reset()
        player.close()
        assert server.metrics.value("requests_total", outcome="refused") == 0

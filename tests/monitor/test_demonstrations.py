"""What a monitor is fitted to: what the policy imitates, with the history that it would see."""

from types import SimpleNamespace

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_policy_dap.monitor import demonstrations
from lerobot_policy_dap.monitor.demonstrations import read_demonstrations
from lerobot_policy_dap.monitor.signals import Signals

STATE = "observation.state"
TASKS = ("reach", "play", "reach")
LENGTH = 6


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three episodes whose state counts the steps: 100, 101, … in the second."""
    root = tmp_path_factory.mktemp("data") / "counting"
    features = {name: {"dtype": "float32", "shape": (2,), "names": None} for name in (STATE, "action")}
    made = LeRobotDataset.create("local/counting", 10, features, root=root, use_videos=False)
    for episode, task in enumerate(TASKS):
        for step in range(LENGTH):
            count = np.full(2, 100 * episode + step, np.float32)
            made.add_frame({STATE: count, "action": -count, "task": task})
        made.save_episode()
    made.finalize()
    return root


def shown(root, monkeypatch, n_obs_steps=1, **options):
    """The states that a policy is shown of each episode."""
    config = SimpleNamespace(
        input_features={STATE: None}, image_features={}, action_delta_indices=[0, 1], n_action_steps=2,
        n_obs_steps=n_obs_steps, dynamics_only_tasks=("play",),
    )  # fmt: skip
    states = []

    def read(policy, batch, chunk, needs):
        states.append(batch[STATE][..., 0].tolist())
        return Signals(context=np.zeros((len(chunk), 1), np.float32))

    monkeypatch.setattr(demonstrations, "read_signals", read)
    policy = SimpleNamespace(config=config)
    nothing = lambda *_: None  # noqa: E731
    plans = list(read_demonstrations(policy, lambda batch: batch, root, None, frozenset(), nothing, **options))
    assert [[plan.step for plan in episode] for episode in plans] == [[0, 2, 4]] * len(states)
    return states


def test_play_is_left_out(root, monkeypatch):
    assert shown(root, monkeypatch) == [[0, 2, 4], [200, 202, 204]]


def test_a_policy_with_a_history_is_shown_it(root, monkeypatch):
    first, last = shown(root, monkeypatch, n_obs_steps=3)
    assert first == [[0, 0, 0], [0, 1, 2], [2, 3, 4]]  # before the first observation there is the first
    assert last == [[200, 200, 200], [200, 201, 202], [202, 203, 204]]

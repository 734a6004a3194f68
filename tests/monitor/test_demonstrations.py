"""What a monitor is fitted to: what the policy imitates, with the history that it would see."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_policy_dap.data.demonstrations import open_dataset
from lerobot_policy_dap.data.trained_on import TrainedOn
from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.monitor import demonstrations
from lerobot_policy_dap.monitor.demonstrations import (
    check_held_out,
    read_demonstrations,
    reference_episodes,
)
from lerobot_policy_dap.monitor.signals import Signals

STATE = "observation.state"
TASKS = ("reach", "play", "reach")
LENGTH = 6
PLAIN = SimpleNamespace()
"""The configuration of a policy that imitates all that it is given."""


@pytest.fixture(scope="module", params=[2, 1], ids=["numbers", "number"])
def root(request, tmp_path_factory):
    """Three episodes whose state counts the steps: 100, 101, … in the second."""
    root = tmp_path_factory.mktemp("data") / "counting"
    size = request.param
    features = {name: {"dtype": "float32", "shape": (size,), "names": None} for name in (STATE, "action")}
    made = LeRobotDataset.create("local/counting", 10, features, root=root, use_videos=False)
    for episode, task in enumerate(TASKS):
        for step in range(LENGTH):
            count = np.full(size, 100 * episode + step, np.float32)
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
        assert (chunk.ndim, chunk.shape[1]) == (3, 2)
        states.append((batch[STATE][..., 0] if batch[STATE].ndim > 1 else batch[STATE]).tolist())
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


def test_a_score_is_fitted_to_the_trainings_episodes_wherever_they_lie(root, tmp_path):
    moved = shutil.copytree(root, tmp_path / "moved")
    gone = TrainedOn(tmp_path / "gone", (0, 2))
    assert reference_episodes(gone, PLAIN, moved) == [0, 2]
    assert reference_episodes(TrainedOn(root, None), PLAIN, root) == [0, 1, 2]
    assert reference_episodes(None, PLAIN, root) == [0, 1, 2]
    assert reference_episodes(TrainedOn(tmp_path / "gone", (1, 7)), PLAIN, moved) == [0, 1, 2]  # other data


def test_a_score_is_never_fitted_to_the_episodes_that_calibrate(root, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(root)
    for trained in (None, TrainedOn(tmp_path / "gone", (1, 7)), TrainedOn(tmp_path / "gone", None)):
        assert reference_episodes(trained, PLAIN, root, link, [1, 2]) == [0]
    assert reference_episodes(None, PLAIN, root, shutil.copytree(root, tmp_path / "other"), [1, 2]) == [0, 1, 2]
    with pytest.raises(UserError, match=r"every episode of .* calibrates"):
        reference_episodes(None, PLAIN, root, root, [0, 1, 2])


def test_episodes_that_it_was_trained_on_are_known_where_the_data_was_moved_to(root, tmp_path):
    folder, now = tmp_path / "checkpoint", shutil.copytree(root, tmp_path / "now")
    folder.mkdir()
    settings = {"dataset": {"root": str(tmp_path / "gone"), "episodes": [0, 1]}}
    (folder / "train_config.json").write_text(json.dumps(settings))
    assert "cannot be told" in check_held_out(folder, PLAIN, now, [1, 2])  # nobody knows that it is the same data
    assert check_held_out(folder, PLAIN, now, [2], now) is None
    with pytest.raises(UserError, match="was trained on episode 1"):
        check_held_out(folder, PLAIN, now, [1, 2], now)
    (tmp_path / "gone").mkdir()  # it was not moved: the reference is something else
    assert check_held_out(folder, PLAIN, now, [1, 2], now) is None


@pytest.mark.parametrize("said", [{"repo_id": "me/counting"}, {"repo_id": "x", "root": "me/counting"}])
def test_data_is_known_by_its_name_where_lerobot_or_another_folder_keeps_it(said, root, tmp_path):
    here = shutil.copytree(root, tmp_path / "me" / "counting")
    (tmp_path / "train_config.json").write_text(json.dumps({"dataset": {"root": None} | said}))
    with pytest.raises(UserError, match="was trained on episode 1"):
        check_held_out(tmp_path, PLAIN, here, [1, 2])
    assert "cannot be told" in check_held_out(tmp_path, PLAIN, root, [1, 2])


def test_what_a_training_held_out_may_calibrate(root, tmp_path):
    """The last third of each task: of `reach` the last of two, and the one of `play`, which PLAIN imitates."""
    (tmp_path / "train_config.json").write_text(json.dumps({"dataset": {"root": str(root), "eval_split": 0.3}}))
    assert check_held_out(tmp_path, PLAIN, root, [1, 2]) is None
    with pytest.raises(UserError, match="was trained on episode 0"):
        check_held_out(tmp_path, PLAIN, root, [0])
    trained = TrainedOn(root, None, eval_split=0.3)
    assert reference_episodes(trained, PLAIN, root) == [0]
    assert trained.known(open_dataset(root).meta, SimpleNamespace(dynamics_only_tasks=("play",))) == {0, 1}

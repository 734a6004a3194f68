"""What a training writes down: its log, and beside its weights what a resumed one needs."""

import json
from types import SimpleNamespace

import pytest
import torch

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.train import checkpoint
from lerobot_policy_dap.train.loop import _check_horizon, _Log


def test_the_log_has_the_numbers_of_what_a_policy_tells(tmp_path):
    """pi0 tells a list, the loss of each dimension."""
    log = _Log(tmp_path / "log.jsonl", 0)
    for loss in (1.0, 3.0):
        log.add(
            {"loss": torch.tensor(loss), "rank": 2, "loss_per_dim": [1.0, 2.0], "map": torch.ones(3), "why": "x"}
        )
    log.flush(2, lr=0.5)
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {"step": 2, "loss": 2.0, "rank": 2.0, "lr": 0.5}


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A checkpoint by `checkpoint.save`, of what LeRobot would write the folder alone."""

    def made(scaler):
        monkeypatch.setattr(
            checkpoint, "save_checkpoint", lambda part, step: (part / "training_state").mkdir(parents=True)
        )
        return checkpoint.save(tmp_path, 9, 3, scaler=scaler)

    return made


def test_float16_goes_on_with_the_scale_that_it_had(saved):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=3)
    scaler.scale(torch.ones(()))
    scaler.update(2.0**12)
    folder = saved(scaler)
    again = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=3)
    checkpoint.load_scaler(folder, again)
    again.scale(torch.ones(()))
    assert again.get_scale() == 2.0**12
    checkpoint.load_scaler(folder, None)


def test_without_a_scaler_nothing_is_written_of_one(saved):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    folder = saved(None)
    assert list((folder / "training_state").iterdir()) == []
    checkpoint.load_scaler(folder, scaler)  # a checkpoint of LeRobot's trainer
    assert scaler.state_dict()["scale"] == 2.0**8


def test_a_future_has_to_be_in_an_episode_that_is_learned_from():
    dataset = SimpleNamespace(root="data", meta=SimpleNamespace(episodes={"length": [30, 20]}))
    deltas = {"observation.state": [0, 25], "action": list(range(40))}
    _check_horizon(dataset, deltas, [0, 1])
    with pytest.raises(
        UserError, match=r"no frame 25 steps after another.* has 20; lower --policy.outcome_offsets"
    ):
        _check_horizon(dataset, deltas, [1])

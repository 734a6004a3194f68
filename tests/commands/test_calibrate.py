"""`dap calibrate`: what it needs, what it writes, and that an evaluation carries its p-values."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from commands_support import TASK, dap, refused

from lerobot_policy_dap.bench.episodes import read_episodes
from lerobot_policy_dap.data.demonstrations import open_dataset
from lerobot_policy_dap.files import sha256
from lerobot_policy_dap.monitor.monitor import Monitor

sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))
from checkpoints_support import make_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("commands")]


@pytest.fixture(scope="module")
def checkpoint(trained, tmp_path_factory):
    """A copy: other tests' checkpoint has no monitor."""
    folder = tmp_path_factory.mktemp("calibrated") / "pretrained_model"
    shutil.copytree(trained / "checkpoints" / "last" / "pretrained_model", folder)
    return folder


@pytest.fixture(scope="module")
def other_data(dataset, tmp_path_factory):
    """The same episodes elsewhere, so that they count as held out."""
    return shutil.copytree(dataset, tmp_path_factory.mktemp("other") / TASK)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("DAP_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.mark.parametrize("score", ["auto", "dynamics", "mahalanobis", "spread"])
def test_held_out_demonstrations_calibrate_a_checkpoint(checkpoint, other_data, score):
    done = dap("calibrate", checkpoint, "--dataset", other_data, "--false-alarm", 0.5, "--score", score)
    assert "is an alarm" in done.stdout
    settings = json.loads((checkpoint / "monitor.json").read_text())
    assert settings["score"] == {"auto": "knn"}.get(score, score)
    assert settings["episodes"] == 3
    assert settings["weights"] == sha256(checkpoint / "model.safetensors")


def test_an_evaluation_carries_the_monitors_verdicts(checkpoint, other_data, tmp_path):
    dap("calibrate", checkpoint, "--dataset", other_data, "--false-alarm", 0.5)
    out = tmp_path / "eval"
    dap("eval", "--policy", f"p={checkpoint}", "--out", out, "--shift", "distractors", "--severity", 2,
        "--episodes", 1, "--max-steps", 20, "--workers", 1)  # fmt: skip
    episodes = read_episodes(out / "episodes.parquet")
    assert all(0 < e.p_value <= 1 for e in episodes)
    assert all((e.alarm_step is None) == (e.p_value > 0.5) for e in episodes)
    results = json.loads((out / "results.json").read_text())
    assert [(row["shift"], row["successes"] + row["failures"]) for row in results["alarms"]] == [
        ("none", 1),
        ("distractors", 1),
    ]
    assert 'id="monitor"' in (out / "report.html").read_text()


def test_what_cannot_be_calibrated_is_refused_in_one_line(checkpoint, dataset, other_data, tmp_path):
    assert "at least 19" in refused("calibrate", checkpoint, "--rollouts", 10)
    assert "0 successful episodes" in refused(
        "calibrate", checkpoint, "--rollouts", 2, "--false-alarm", 0.4, "--max-steps", 8, "--workers", 1
    )
    assert "was trained on" in refused("calibrate", checkpoint, "--dataset", dataset, "--false-alarm", 0.5)
    assert "--score is" in refused("calibrate", checkpoint, "--score", "magic")
    assert "between 0 and 1" in refused("calibrate", checkpoint, "--false-alarm", 2)
    queued = make_checkpoint(tmp_path / "diffusion", "diffusion", n_obs_steps=1)
    assert "--rollouts" in refused("calibrate", queued, "--dataset", other_data, "--false-alarm", 0.5)
    moved = shutil.copytree(checkpoint, tmp_path / "moved")
    config = json.loads((moved / "train_config.json").read_text())
    config["dataset"]["root"] = str(tmp_path / "gone")
    (moved / "train_config.json").write_text(json.dumps(config))
    assert "--reference" in refused("calibrate", moved, "--dataset", other_data, "--false-alarm", 0.5)


def test_moved_training_data_is_split_as_in_training(checkpoint, dataset, other_data, tmp_path):
    moved = shutil.copytree(checkpoint, tmp_path / "moved")
    settings = json.loads((moved / "train_config.json").read_text())
    settings["dataset"] |= {"root": str(tmp_path / "gone"), "episodes": [0]}
    (moved / "train_config.json").write_text(json.dumps(settings))
    command = ("calibrate", moved, "--dataset", other_data, "--false-alarm", 0.5, "--reference", other_data)
    dap(*command, "--episodes", "1-2")
    monitor = Monitor.load(moved)
    steps = open_dataset(other_data).meta.episodes["length"][0]
    assert len(monitor.score.reference) == -(-steps // monitor.settings["n_action_steps"])  # of episode 0 alone
    assert len(monitor.calibration) == 2
    assert "was trained on episode 0" in refused(*command, "--episodes", "0-1")


def test_a_monitor_of_other_weights_stops_an_evaluation(checkpoint, other_data, trained, tmp_path):
    dap("calibrate", checkpoint, "--dataset", other_data, "--false-alarm", 0.5)
    folder = shutil.copytree(checkpoint, tmp_path / "other")
    shutil.copy(trained / "checkpoints" / "000003" / "pretrained_model" / "model.safetensors", folder)
    assert "other weights" in refused(
        "eval", "--policy", f"p={folder}", "--out", tmp_path / "out", "--episodes", 1
    )

"""Killed in the midst of it, each long command loses nothing: run again, it ends as if it had not been killed."""

import random
import signal

import numpy as np
import pytest
import torch
from commands_support import EPISODES, SIZE, TASK, dap, killed, run, train_flags
from safetensors.torch import load_file

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kills")]


def test_collect(dataset, tmp_path):
    """The same dataset, frame for frame, as the uninterrupted one."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    out = tmp_path / TASK
    staged = tmp_path / f"{TASK}.partial"
    command = ("dap", "collect", "--task", TASK, "--episodes", EPISODES, "--image-size", SIZE, "--out", out)
    rng = random.Random()
    assert killed(command, lambda: any(staged.glob("*.safetensors")), rng.uniform(0, 0.3))
    assert killed(command, lambda: any(tmp_path.glob(f".{TASK}.*.part/*")), rng.uniform(0, 1.0))
    dap(*command[1:])
    one, two = (LeRobotDataset(f"local/{TASK}", root=root, return_uint8=True) for root in (dataset, out))
    assert len(one) == len(two)
    for i in np.linspace(0, len(one) - 1, 12).astype(int).tolist():
        for key in ("observation.images.corner2", "observation.state", "action", "episode_index"):
            assert torch.equal(one[i][key], two[i][key]), (i, key)
    assert (dataset / "meta" / "recording.json").read_text() == (out / "meta" / "recording.json").read_text()
    assert not staged.exists()


def test_train(dataset, frames, tmp_path):
    """The same weights, bit for bit, as the uninterrupted run."""
    flags = {"steps": 300, "save_freq": 20, "log_freq": 10}
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    run("dap", "train", "--frames-dir", frames, *train_flags(dataset, straight, "two_way", **flags))
    command = ("dap", "train", "--frames-dir", frames, *train_flags(dataset, broken, "two_way", **flags))
    rng = random.Random()
    log, checkpoints = broken / "train_log.jsonl", broken / "checkpoints"
    killed(command, log.exists, rng.uniform(0, 0.5))
    killed(command, lambda: any(checkpoints.glob("[0-9]*")), rng.uniform(0, 1.0))
    run(*command)
    files = [r / "checkpoints" / "last" / "pretrained_model" / "model.safetensors" for r in (straight, broken)]
    one, two = map(load_file, files)
    assert all(torch.equal(one[k], two[k]) for k in one)
    for checkpoint in checkpoints.glob("[0-9]*"):
        assert (checkpoint / "training_state" / "training_step.json").exists()


def test_demo(tmp_path, chromium):
    """By Ctrl-C and by kill, in every stage; a finished demo does nothing."""
    out = tmp_path / "demo"
    command = (
        "dap", "demo", "--out", out, "--demonstrations", 2, "--steps", 40, "--episodes", 2, "--clean-episodes", 3,
        "--severity", "3",
    )  # fmt: skip
    rng = random.Random()
    killed(command, (out / "data").exists, rng.uniform(0, 3))
    killed(command, (out / "train" / "two_way" / "train_log.jsonl").exists, rng.uniform(0, 3), signal.SIGINT)
    killed(command, lambda: len(list(out.glob("eval/rows/*.parquet"))) > 3, rng.uniform(0, 2))
    dap(*command[1:])
    report = (out / "report.html").stat().st_mtime_ns
    again = dap(*command[1:])
    assert "finished before" in again.stderr
    assert (out / "report.html").stat().st_mtime_ns == report
    for name in ("results.json", "episodes.parquet", "stages.json"):
        assert (out / name).exists()
    from lerobot_policy_dap.bench.episodes import read_episodes

    rows = read_episodes(out / "episodes.parquet")
    assert len(rows) == 2 * (3 + 2 + 5 * 2)
    assert len({(r.policy, r.shift, r.severity, r.seed) for r in rows}) == len(rows)

    page, troubles = chromium.new_page(), []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("request", lambda request: troubles.append(request.url) if request.url.startswith("http") else None)
    page.goto((out / "report.html").as_uri())
    assert page.locator("video").count() == 2 * 6  # two policies, clean and five shifts
    assert page.locator("img").count() == 6
    assert "under visual shift" in page.title()
    assert not troubles
    page.close()

"""Killed at random moments, each long command loses nothing: run again, it ends as if it had not been killed."""

import os
import random
import signal
import subprocess
import time

import numpy as np
import pytest
import torch
from commands_support import BIN, EPISODES, SIZE, TASK, environment, run, train_flags
from safetensors.torch import load_file

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kills")]


def killed_until_done(command, waits, sign=signal.SIGKILL):
    """Starts the command again and again, each time killed after the next wait, then lets it finish."""
    kills = 0
    for wait in waits:
        process = subprocess.Popen(
            [str(BIN / command[0]), *map(str, command[1:])],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(timeout=wait)
            break
        except subprocess.TimeoutExpired:
            kills += 1
            os.kill(process.pid, sign)
            process.wait()
            time.sleep(1.5)  # its processes notice within half a second
    run(*command)
    return kills


def test_collect(dataset, tmp_path):
    """The same dataset, frame for frame, as the uninterrupted one."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    out = tmp_path / TASK
    rng = random.Random(0)
    waits = [rng.uniform(14, 30) for _ in range(3)]
    killed_until_done(
        ("dap", "collect", "--task", TASK, "--episodes", EPISODES, "--image-size", SIZE, "--out", out), waits
    )
    one, two = (LeRobotDataset(f"local/{TASK}", root=root, return_uint8=True) for root in (dataset, out))
    assert len(one) == len(two)
    for i in np.linspace(0, len(one) - 1, 12).astype(int).tolist():
        for key in ("observation.images.corner2", "observation.state", "action", "episode_index"):
            assert torch.equal(one[i][key], two[i][key]), (i, key)
    assert [p.name for p in tmp_path.iterdir()] == [TASK]


def test_train(dataset, frames, tmp_path):
    """The same weights, bit for bit, as the uninterrupted run."""
    flags = {"steps": 300, "save_freq": 20, "log_freq": 10}
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    run("dap", "train", "--frames-dir", frames, *train_flags(dataset, straight, "two_way", **flags))
    rng = random.Random(1)
    waits = [rng.uniform(14, 26) for _ in range(3)]
    killed_until_done(
        ("dap", "train", "--frames-dir", frames, *train_flags(dataset, broken, "two_way", **flags)), waits
    )
    files = [r / "checkpoints" / "last" / "pretrained_model" / "model.safetensors" for r in (straight, broken)]
    one, two = map(load_file, files)
    assert all(torch.equal(one[k], two[k]) for k in one)
    for checkpoint in (broken / "checkpoints").glob("[0-9]*"):
        assert (checkpoint / "training_state" / "training_step.json").exists()


def test_demo(tmp_path):
    """By Ctrl-C and by kill; the second run of a finished demo does nothing."""
    out = tmp_path / "demo"
    command = (
        "dap", "demo", "--out", out, "--demonstrations", 2, "--steps", 20, "--episodes", 2, "--clean-episodes", 3,
        "--severity", "3",
    )  # fmt: skip
    rng = random.Random(2)
    killed_until_done(command, [rng.uniform(20, 45) for _ in range(2)])
    killed_until_done(command, [rng.uniform(20, 45)], sign=signal.SIGINT)
    report = (out / "report.html").stat().st_mtime_ns
    again = run(*command)
    assert "finished before" in again.stderr
    assert (out / "report.html").stat().st_mtime_ns == report
    for name in ("results.json", "episodes.parquet", "stages.json"):
        assert (out / name).exists()
    from lerobot_policy_dap.bench.episodes import read_episodes

    rows = read_episodes(out / "episodes.parquet")
    assert len(rows) == 2 * (3 + 2 + 5 * 2)
    assert len({(r.policy, r.shift, r.severity, r.seed) for r in rows}) == len(rows)

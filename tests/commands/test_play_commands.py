"""Play beside demonstrations, through our commands and LeRobot's."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from commands_support import SIZE, TASK, dap, killed, refused, run, train_flags
from safetensors.torch import load_file

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("play")]

DEMONSTRATIONS, PLAY = 2, 4
ASKED = ("--image-size", SIZE, "--play", "noisy,random", "--play-episodes", PLAY, "--varied", "light_intensity")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Two demonstrations and four play episodes; the collection was killed while it played."""
    out = tmp_path_factory.mktemp("mixed") / TASK
    staged = out.with_name(f"{TASK}.partial")
    command = ("dap", "collect", "--task", TASK, "--episodes", DEMONSTRATIONS, *ASKED, "--out", out)
    killed(command, lambda: any(staged.glob("01*.safetensors")), 0)
    dap(*command[1:])
    assert not staged.exists()
    return out


def opened(root):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset("local/mixed", root=root, return_uint8=True)


def test_demonstrations_come_first_and_are_those_collected_alone(mixed, dataset):
    together, alone = opened(mixed), opened(dataset)
    tasks = [names[0] for names in together.meta.episodes["tasks"]]
    assert tasks == [alone.meta.episodes["tasks"][0][0]] * DEMONSTRATIONS + ["play"] * PLAY
    frames = together.meta.episodes["dataset_to_index"][DEMONSTRATIONS - 1]
    for i in np.linspace(0, frames - 1, 8).astype(int).tolist():
        for key in ("observation.state", "action"):
            assert torch.equal(together[i][key], alone[i][key])


def test_the_recording_says_of_every_play_episode_what_it_is(mixed):
    recording = json.loads((mixed / "meta" / "recording.json").read_text())
    assert recording["request"]["play"]["kinds"] == ["noisy", "random"]
    demonstrations, play = recording["episodes"][:DEMONSTRATIONS], recording["episodes"][DEMONSTRATIONS:]
    assert all("kind" not in episode for episode in demonstrations)
    assert [episode["kind"] for episode in play] == ["noisy", "random"] * (PLAY // 2)
    assert all(episode["seed"] >= 1_000_000 and episode["shift"] == "light_intensity" for episode in play)


def test_a_killed_collection_ends_as_an_uninterrupted_one(mixed, tmp_path):
    out = tmp_path / TASK
    dap("collect", "--task", TASK, "--episodes", DEMONSTRATIONS, *ASKED, "--out", out)
    one, two = opened(mixed), opened(out)
    assert len(one) == len(two)
    for i in np.linspace(0, len(one) - 1, 12).astype(int).tolist():
        for key in ("observation.images.corner2", "observation.state", "action", "episode_index", "task_index"):
            assert torch.equal(one[i][key], two[i][key]), (i, key)
    assert (mixed / "meta" / "recording.json").read_text() == (out / "meta" / "recording.json").read_text()


def test_play_is_part_of_what_was_asked(mixed):
    without = ("collect", "--task", TASK, "--episodes", DEMONSTRATIONS, "--image-size", SIZE, "--out", mixed)
    assert "play=" in refused(*without)
    assert "--varied says how play is seen" in refused(*without, "--varied", "light_color")
    other = ("--play", "random", "--varied", "object_size", "--out", mixed.with_name("other"))
    assert "--varied: drawer-open-v3 cannot be shifted by object_size" in refused(*without[:-2], *other)


def last_weights(out):
    return load_file(out / "checkpoints" / "last" / "pretrained_model" / "model.safetensors")


def test_training_on_both_resumes_to_the_same_weights(mixed, frames, tmp_path):
    """From the checkpoint at step 3, as after a kill."""
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    for out in (straight, broken):
        dap("train", "--frames-dir", frames, *train_flags(mixed, out, "two_way", save_freq=3))
    shutil.rmtree(broken / "checkpoints" / "000006")
    dap("train", "--frames-dir", frames, *train_flags(mixed, broken, "two_way", save_freq=3))
    one, two = last_weights(straight), last_weights(broken)
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_an_arm_without_dynamics_learns_from_the_demonstrations_alone(mixed, frames, tmp_path):
    both, selected = tmp_path / "both", tmp_path / "selected"
    dap("train", "--frames-dir", frames, *train_flags(mixed, both, "none"))
    chosen = {"dataset.episodes": "[0,1]"}
    dap("train", "--frames-dir", frames, *train_flags(mixed, selected, "none", **chosen))
    one, two = last_weights(both), last_weights(selected)
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_lerobots_trainer_knows_play_by_its_task(mixed, tmp_path):
    """The text comes through LeRobot's loader and processors: of play alone, nothing is imitated."""
    flags = train_flags(mixed, tmp_path / "lerobot", "none", steps=2, **{"dataset.episodes": "[2,3]"})
    assert set(re.findall(r"loss:(\S+)", run("lerobot-train", *flags).stderr)) == {"0.000"}


def test_lerobot_merges_play_that_was_collected_apart(dataset, frames, tmp_path):
    """As `lerobot-edit-dataset --operation.type=merge` does."""
    from lerobot.datasets.dataset_tools import merge_datasets

    play, merged = tmp_path / "play", tmp_path / "merged"
    apart = ("--image-size", SIZE, "--play", "random", "--play-episodes", 2, "--out", play)
    dap("collect", "--task", TASK, "--episodes", 0, *apart)
    demonstrations = opened(dataset)
    whole = merge_datasets([demonstrations, opened(play)], "local/merged", merged)
    assert [names[0] for names in whole.meta.episodes["tasks"]][-2:] == ["play"] * 2
    assert len(whole) == len(demonstrations) + len(opened(play))
    for i in (0, len(demonstrations) - 1):
        for key in ("observation.images.corner2", "action"):
            assert torch.equal(opened(merged)[i][key], demonstrations[i][key])
    dap("train", "--frames-dir", frames, *train_flags(merged, tmp_path / "train", "two_way", steps=2))
    assert last_weights(tmp_path / "train")

"""LeRobot's own `lerobot-rollout`, with a simulated arm: the policy here, or behind a `dap serve`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.datasets import LeRobotDataset
from lerobot.policies import make_pre_post_processors
from lerobot.policies.factory import get_policy_class, make_policy_config
from lerobot.rollout.inference.rtc import supports_rtc_inference
from small_policies import CAMERA, STATE, A, C, D, H, W, client, observation, save_checkpoint, serving

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.runtime.client import ServerUnavailable
from lerobot_policy_dap.runtime.refusals import Refused

LONG = {"min": [-1.0] * 4, "max": [1.0] * 4, "mean": [0.0] * 4, "std": [0.5] * 4}
ARM = {
    "observation.images.corner2": PolicyFeature(FeatureType.VISUAL, (3, 48, 48)),
    "observation.state": PolicyFeature(FeatureType.STATE, (4,)),
}


@pytest.fixture(scope="module")
def arm_checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("arm") / "dap", inputs=ARM, action=LONG, horizon=16)


def rollout(folder, *flags):
    """`lerobot-rollout` to its end; returns the episodes that the arm noted and what was logged."""
    episodes = folder / "episodes.jsonl"
    command = [
        Path(sys.executable).parent / "lerobot-rollout", "--robot.type=metaworld_sim", "--robot.task=drawer-open",
        "--robot.image_size=48", f"--robot.calibration_dir={folder}", f"--robot.episodes_file={episodes}",
        "--play_sounds=false", "--task=open the drawer", *flags,
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Rollout finished" in done.stderr
    return [json.loads(line) for line in episodes.read_text().splitlines()], done.stderr


@pytest.mark.slow
def test_lerobot_rollout_drives_the_simulated_arm_and_records_it(arm_checkpoint, tmp_path):
    root = tmp_path / "recorded"
    episodes, log = rollout(
        tmp_path, "--strategy.type=episodic", f"--policy.path={arm_checkpoint}", "--fps=20",
        "--dataset.repo_id=local/rollout_drawer", f"--dataset.root={root}", "--dataset.num_episodes=2",
        "--dataset.episode_time_s=1", "--dataset.reset_time_s=0", "--dataset.fps=20", "--dataset.push_to_hub=false",
        "--return_to_initial_position=false", "--dataset.video=false",
    )  # fmt: skip
    dataset = LeRobotDataset("local/rollout_drawer", root=root)
    lengths = [int(episode["length"]) for episode in dataset.meta.episodes]
    assert [(e["seed"], e["steps"]) for e in episodes] == [(10_000, lengths[0]), (10_001, lengths[1])]
    assert min(lengths) >= 2
    assert dataset.meta.robot_type == "metaworld_sim"
    assert dataset.meta.features["action"]["names"] == ["delta_x.vel", "delta_y.vel", "delta_z.vel", "gripper.vel"]
    first = dataset[0]
    assert first["observation.images.corner2"].shape == (3, 48, 48)
    assert first["task"] == "open the drawer"
    assert all(torch.isfinite(dataset[i]["action"]).all() for i in range(len(dataset)))
    assert log.count("task text is ignored") == 1


@pytest.mark.slow
def test_lerobot_rollout_drives_it_in_real_time_chunks(arm_checkpoint, tmp_path):
    episodes, log = rollout(
        tmp_path, "--strategy.type=base", f"--policy.path={arm_checkpoint}", "--inference.type=rtc",
        "--inference.rtc.execution_horizon=8", "--fps=20", "--duration=3", "--return_to_initial_position=false",
    )  # fmt: skip
    assert [e["seed"] for e in episodes] == [10_000]
    assert episodes[0]["steps"] >= 10
    assert "RTC inference error" not in log


@pytest.mark.slow
def test_lerobot_rollout_drives_it_through_dap_serve_in_real_time_chunks(arm_checkpoint, tmp_path):
    with serving(arm_checkpoint) as server:
        episodes, log = rollout(
            tmp_path, "--strategy.type=base", "--policy.type=dap_remote", f"--policy.url=ws://127.0.0.1:{server.port}",
            "--policy.device=cpu", "--inference.type=rtc", "--inference.rtc.execution_horizon=8", "--fps=20",
            "--duration=3", "--return_to_initial_position=false",
        )  # fmt: skip
    assert [e["seed"] for e in episodes] == [10_000]
    assert episodes[0]["steps"] >= 10
    assert "RTC inference error" not in log


def remote(server, **options):
    config = make_policy_config("dap_remote", device="cpu", url=f"ws://127.0.0.1:{server.port}", **options)
    return get_policy_class("dap_remote").from_pretrained(None, config=config)


def seen(seed=0):
    shown = observation(seed)
    image = torch.from_numpy(shown[CAMERA]).permute(2, 0, 1).float() / 255
    return {CAMERA: image[None], STATE: torch.from_numpy(shown[STATE])[None], "task": ["x"]}


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    """A checkpoint that answers an observation always alike: nothing of it is drawn at random."""
    return save_checkpoint(tmp_path_factory.mktemp("fixed") / "act", "act")


def test_a_remote_policy_is_the_servers(fixed):
    with serving(fixed) as server, client(server) as asked:
        policy = remote(server)
        before, after = make_pre_post_processors(policy.config)
        expected = asked.infer(observation(3))["actions"]
        assert np.array_equal(after(policy.predict_action_chunk(before(seen(3))))[0].numpy(), expected)
        assert policy.config.input_features == {
            CAMERA: PolicyFeature(FeatureType.VISUAL, (C, H, W)), STATE: PolicyFeature(FeatureType.STATE, (D,)),
        }  # fmt: skip
        assert policy.config.action_feature.shape == (A,)
        actions = [policy.select_action(seen(3))[0].numpy() for _ in range(3)]
        assert np.array_equal(actions, expected[:3])
        policy.reset()
        assert np.array_equal(policy.select_action(seen(4))[0], asked.infer(observation(4))["actions"][0])


def test_a_remote_policy_continues_the_chunk_under_way(fixed):
    with serving(fixed) as server:
        policy = remote(server)
        assert supports_rtc_inference(policy)
        left_over = torch.full((4, A), 0.25)
        padded = torch.cat([left_over, torch.zeros(3, A)])  # LeRobot fills a short one up
        chunk = policy.predict_action_chunk(seen(), inference_delay=6, prev_chunk_left_over=padded)
        fresh = policy.predict_action_chunk(seen())
        assert torch.equal(chunk[0, :4], left_over)
        assert torch.equal(chunk[0, 5:], fresh[0, 5:])


def test_a_remote_policy_that_looks_back_is_shown_every_step(tmp_path):
    folder = save_checkpoint(tmp_path / "dap", n_obs_steps=2, inference_seed=0, n_action_steps=2)
    with serving(folder) as server:
        policy = remote(server)
        assert not policy.supports_rtc()
        frames = [seen(i) for i in range(3)]
        for frame in frames:
            policy.select_action(frame)
        # The second plan saw the last two observations.
        assert [np.array_equal(kept[STATE], frame[STATE][0])
                for kept, frame in zip(policy._history, frames[1:], strict=True)] == [True, True]  # fmt: skip


def test_a_server_that_is_not_there_and_observations_it_does_not_take_are_named(fixed, tmp_path):
    with serving(fixed, api_key="sesame" * 4) as server:
        with pytest.raises(Refused, match="API key"):
            remote(server)
        (tmp_path / "key").write_text("sesame" * 4 + "\n")
        policy = remote(server, api_key_file=tmp_path / "key", deadline=1.0)
        with pytest.raises(UserError, match=r"the server wants observation\.state"):
            policy.select_action({CAMERA: seen()[CAMERA]})
        with pytest.raises(UserError, match="one robot"):
            policy.select_action(
                {key: torch.cat([value, value]) for key, value in seen().items() if key != "task"}
            )
        with pytest.raises(UserError, match="cannot be trained"):
            policy.forward({})
        with pytest.raises(UserError, match="cannot be read"):
            remote(server, api_key_file=tmp_path / "no")
    with pytest.raises(ServerUnavailable):
        policy.predict_action_chunk(seen())


def test_the_client_needs_neither_lerobot_nor_torch():
    program = (
        "import sys\n"
        "from lerobot_policy_dap.runtime.client import PolicyClient\n"
        "from lerobot_policy_dap.runtime.player import ChunkPlayer\n"
        "assert not {'lerobot', 'torch'} & set(sys.modules), 'heavy'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)

"""The environment as LeRobot's evaluation uses it."""

import numpy as np
import pytest
from lerobot.envs import close_envs, env_to_policy_features, make_env, preprocess_observation
from lerobot.envs.utils import NEW_ROLLOUT_OPTION

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.worlds import tasks
from lerobot_policy_dap.worlds.configuration_env import MetaworldShiftEnvConfig
from lerobot_policy_dap.worlds.env import MetaworldShiftEnv
from lerobot_policy_dap.worlds.world import World


@pytest.fixture(scope="module")
def env() -> MetaworldShiftEnv:
    return MetaworldShiftEnv("drawer-open")


def test_it_is_registered_with_lerobot() -> None:
    from lerobot.envs import EnvConfig

    assert EnvConfig.get_choice_class("metaworld_shift") is MetaworldShiftEnvConfig
    assert MetaworldShiftEnvConfig().type == "metaworld_shift"


def test_constructing_makes_no_world() -> None:
    assert MetaworldShiftEnv("drawer-open")._world is None


def test_observations_lie_in_their_space_and_repeat_with_the_seed(env: MetaworldShiftEnv) -> None:
    first, info = env.reset(seed=3)
    assert info["is_success"] is False
    assert first in env.observation_space
    env.reset(seed=4)
    again, _ = env.reset(seed=3)
    np.testing.assert_array_equal(first["pixels"]["corner2"], again["pixels"]["corner2"])
    np.testing.assert_array_equal(first["agent_pos"], again["agent_pos"])


def test_success_ends_the_episode_and_every_step_reports_it(env: MetaworldShiftEnv) -> None:
    env.reset(seed=0)
    expert = tasks.expert(env.task)
    for _ in range(200):
        _, _, terminated, truncated, info = env.step(expert(env.world.observation39))
        assert info["is_success"] == terminated
        assert not truncated
        if terminated:
            return
    pytest.fail("the expert did not succeed")


def test_the_length_of_the_episode_is_the_configured_one() -> None:
    env = MetaworldShiftEnv("drawer-open", episode_length=3)
    assert env._max_episode_steps == 3
    env.reset(seed=0)
    ends = [env.step(np.zeros(4, np.float32))[3] for _ in range(3)]
    assert ends == [False, False, True]


def test_videos_have_their_own_size(env: MetaworldShiftEnv) -> None:
    env.reset(seed=0)
    assert env.render().shape == (256, 256, 3)
    assert env.metadata["render_fps"] == 80
    assert env.task_description == tasks.description("drawer-open-v3")


def test_features_reach_the_policy_under_lerobots_names() -> None:
    config = MetaworldShiftEnvConfig(camera_name="corner2, corner", image_size=96)
    features = env_to_policy_features(config)
    assert set(features) == {
        "action",
        "observation.state",
        "observation.images.corner2",
        "observation.images.corner",
    }
    assert features["observation.images.corner"].shape == (3, 96, 96)


def _rollout(use_async_envs: bool) -> None:
    config = MetaworldShiftEnvConfig(task="drawer-open", shift="light_intensity", severity=2)
    envs = make_env(config, n_envs=2, use_async_envs=use_async_envs)
    assert list(envs) == ["drawer-open-v3"]
    vector = envs["drawer-open-v3"][0]
    raw, _ = vector.reset(seed=[3, 4], options={NEW_ROLLOUT_OPTION: True})
    observation = preprocess_observation(raw)
    assert observation["observation.images.corner2"].shape == (2, 3, 84, 84)
    assert observation["observation.state"].shape == (2, 4)
    alone = World("drawer-open", shift="light_intensity", severity=2)
    alone.reset(4)
    np.testing.assert_array_equal(raw["pixels"]["corner2"][1], alone.render())
    _, reward, terminated, _, info = vector.step(np.zeros((2, 4), np.float32))
    assert reward.shape == (2,)
    assert not terminated.any()
    assert not np.any(info["is_success"])
    assert vector.call("_max_episode_steps")[0] == 500
    assert vector.call("task_description")[0]
    assert vector.call("render")[0].shape == (256, 256, 3)
    assert vector.unwrapped.metadata["render_fps"] == 80
    close_envs(envs)


def test_lerobot_makes_it_and_steps_it() -> None:
    _rollout(use_async_envs=False)


@pytest.mark.slow
def test_lerobot_runs_it_in_other_processes() -> None:
    _rollout(use_async_envs=True)


def test_a_finished_episode_stays_frozen_until_the_next_rollout() -> None:
    vector = make_env(MetaworldShiftEnvConfig(episode_length=1), n_envs=1)["drawer-open-v3"][0]
    vector.reset(seed=[0], options={NEW_ROLLOUT_OPTION: True})
    last, _, _, truncated, _ = vector.step(np.ones((1, 4), np.float32))
    assert truncated.all()
    replayed, *_ = vector.step(np.ones((1, 4), np.float32))
    np.testing.assert_array_equal(last["agent_pos"], replayed["agent_pos"])
    vector.close()


def test_several_tasks_are_several_groups() -> None:
    envs = make_env(MetaworldShiftEnvConfig(task="drawer-open, push"), n_envs=1)
    assert list(envs) == ["drawer-open-v3", "push-v3"]
    close_envs(envs)


@pytest.mark.slow
def test_a_tasks_processes_start_when_it_is_evaluated() -> None:
    import multiprocessing

    envs = make_env(MetaworldShiftEnvConfig(task="drawer-open"), n_envs=2, use_async_envs=True)
    try:
        assert not multiprocessing.active_children()
    finally:
        close_envs(envs)


@pytest.mark.parametrize(
    "wrong",
    [
        {"task": "drawer-opne"},
        {"shift": "lite"},
        {"severity": 6},
        {"camera_name": "above"},
        {"image_size": 8},
        {"episode_length": 0},
        {"episode_length": 501},
    ],
)
def test_bad_input_is_one_line_at_construction(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError) as caught:
        MetaworldShiftEnvConfig(**wrong)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"camera_name": ""}, {"visualization_size": 5}])
def test_more_bad_input_is_one_line_at_construction(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError):
        MetaworldShiftEnvConfig(**wrong)  # type: ignore[arg-type]

"""`--robot.type=metaworld_sim`: an arm for LeRobot's tools, over the worlds of the bench."""

import json

import numpy as np
import pytest
from lerobot.robots import make_robot_from_config
from lerobot.utils.errors import DeviceNotConnectedError

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.worlds.config_robot import MetaworldSimConfig
from lerobot_policy_dap.worlds.rendering import RenderSettings
from lerobot_policy_dap.worlds.robot import MetaworldSim
from lerobot_policy_dap.worlds.tasks import expert
from lerobot_policy_dap.worlds.world import World

ACTIONS = ("delta_x.vel", "delta_y.vel", "delta_z.vel", "gripper.vel")
HOME = ("hand_x.pos", "hand_y.pos", "hand_z.pos", "gripper_opening.pos")


@pytest.fixture
def robot(tmp_path):
    config = MetaworldSimConfig(
        task="drawer-open", camera_name="corner2, corner", image_size=32, seed=7, calibration_dir=tmp_path,
        episodes_file=tmp_path / "episodes.jsonl",
    )  # fmt: skip
    made = make_robot_from_config(config)
    made.connect()
    yield made
    if made.is_connected:
        made.disconnect()


def command(values):
    return dict(zip(ACTIONS, map(float, values), strict=True))


def test_lerobot_makes_it_from_its_configuration(robot):
    assert isinstance(robot, MetaworldSim)
    assert robot.config.type == "metaworld_sim"
    assert robot.observation_features == {
        **dict.fromkeys(HOME, float),
        "corner2": (32, 32, 3),
        "corner": (32, 32, 3),
    }
    assert tuple(robot.action_features) == ACTIONS


def test_it_is_the_world_of_its_seed(robot):
    world = World("drawer-open", ("corner2", "corner"), RenderSettings(32, 32))
    world.reset(7)
    for action in np.random.default_rng(0).uniform(-1.5, 1.5, (4, 4)):
        seen = robot.get_observation()
        assert [seen[name] for name in HOME] == world.state.tolist()
        assert np.array_equal(seen["corner"], world.render("corner"))
        sent = robot.send_action(command(action))
        assert list(sent.values()) == np.clip(action.astype(np.float32), -1, 1).tolist()
        world.step(action)


def test_brought_back_it_begins_the_next_episode(robot, tmp_path):
    first = robot.get_observation()
    act = expert(robot._world.task)
    for _ in range(120):
        robot.send_action(command(act(robot._world.observation39)))
    home = {name: first[name] for name in HOME}
    for _ in range(3):  # LeRobot sends a way of many positions
        robot.send_action(home)
    world = World("drawer-open", ("corner2",), RenderSettings(32, 32))
    world.reset(8)
    assert np.array_equal(robot.get_observation()["corner2"], world.render())
    robot.send_action(command([0, 0, 0, 0]))
    robot.disconnect()
    episodes = [json.loads(line) for line in (tmp_path / "episodes.jsonl").read_text().splitlines()]
    assert [(e["seed"], e["steps"]) for e in episodes] == [(7, 120), (8, 1)]
    assert 20 < episodes[0]["success_step"] <= 120
    assert episodes[1]["success_step"] is None


def test_the_folder_of_the_episodes_is_made(tmp_path):
    file = tmp_path / "runs" / "today" / "episodes.jsonl"
    made = MetaworldSim(MetaworldSimConfig(task="drawer-open", calibration_dir=tmp_path, episodes_file=file))
    made.connect()
    made.send_action(command([0, 0, 0, 0]))
    made.disconnect()
    assert json.loads(file.read_text())["steps"] == 1


def test_it_stands_still_where_meta_world_ends(robot, caplog):
    for _ in range(502):
        robot.send_action(command([0, 0, 0.1, 0]))
    assert robot._steps == 500
    assert [r.levelname for r in caplog.records if "stands still" in r.message] == ["WARNING"]
    robot.send_action(dict.fromkeys(HOME, 0.0))
    robot.send_action(command([0, 0, 0, 0]))


@pytest.mark.parametrize(
    ("action", "word"),
    [({"delta_x.vel": 0.0}, "an action has"), (command([0, 0, float("nan"), 0]), "finite"), ({}, "an action has")],
)
def test_what_is_no_action_is_named(robot, action, word):
    with pytest.raises(UserError, match=word):
        robot.send_action(action)


def test_what_is_not_there_is_named():
    with pytest.raises(UserError, match="did you mean drawer-open"):
        MetaworldSimConfig(task="drawr-open")
    with pytest.raises(UserError, match="unknown camera"):
        MetaworldSimConfig(camera_name="top")
    with pytest.raises(DeviceNotConnectedError):
        MetaworldSim(MetaworldSimConfig()).get_observation()

"""Task names, their tables and their experts."""

import numpy as np
import pytest

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.worlds import tasks
from lerobot_policy_dap.worlds.world import World


def test_all_of_metaworlds_tasks_are_listed_and_described() -> None:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    assert set(tasks.tasks()) == set(ALL_V3_ENVIRONMENTS)
    assert len(tasks.tasks()) == 50
    assert {tasks.difficulty(task) for task in tasks.tasks()} == {"easy", "medium", "hard", "very_hard"}
    assert all(tasks.description(task) for task in tasks.tasks())


def test_a_task_may_lack_its_version() -> None:
    assert tasks.resolve_task("drawer-open") == tasks.resolve_task("drawer-open-v3") == "drawer-open-v3"


def test_an_unknown_task_is_one_line_with_the_nearest_names() -> None:
    with pytest.raises(UserError) as caught:
        tasks.resolve_task("drawer-opne")
    message = str(caught.value)
    assert "\n" not in message
    assert "drawer-open" in message
    assert "dap collect --list-tasks" in message


def test_an_expert_acts_within_the_actuators_range_and_opens_the_drawer(world: World) -> None:
    expert = tasks.expert(world.task)
    world.reset(0)
    for _ in range(200):
        action = expert(world.observation39)
        assert action.dtype == np.float32
        assert action.shape == (4,)
        assert np.abs(action).max() <= 1
        if world.step(action).success:
            return
    pytest.fail("the expert did not open the drawer within 200 steps")

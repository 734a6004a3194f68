"""Demonstrations of two kinds: by the right and by the left."""

import numpy as np
import pytest

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.worlds.collect import CollectRequest, collect
from lerobot_policy_dap.worlds.record import AFTER_SUCCESS, OBJECT, by_way_of, record
from lerobot_policy_dap.worlds.rendering import RenderSettings
from lerobot_policy_dap.worlds.tasks import expert
from lerobot_policy_dap.worlds.world import World

TASK = "drawer-open-v3"
SMALL = RenderSettings(16, 16)


@pytest.mark.parametrize("aside", [0.15, -0.15])
def test_the_expert_passes_its_point_and_then_succeeds(aside: float) -> None:
    world = World(TASK, settings=SMALL)
    world.reset(3)
    hand, thing = world.observation39[:3].copy(), world.observation39[OBJECT].copy()
    point = np.array([(hand[0] + thing[0]) / 2 + aside, (hand[1] + thing[1]) / 2, hand[2]])
    episode = record(world, by_way_of(expert(TASK), aside), 3)
    plain = record(world, expert(TASK), 3)
    to_point = np.linalg.norm(episode.state[:, :3] - point, axis=1)
    assert to_point.min() < 0.03
    assert np.linalg.norm(plain.state[:, :3] - point, axis=1).min() > 0.1
    assert episode.success_step is not None
    assert episode.success_step > np.argmin(to_point)
    assert episode.action.dtype == np.float32
    assert np.abs(episode.action).max() <= 1
    np.testing.assert_array_equal(episode.action[:5, 3], plain.action[:5, 3])  # the gripper is the expert's


def test_even_seeds_go_to_the_right_and_odd_ones_to_the_left(tmp_path) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    asked = CollectRequest(TASK, 3, settings=SMALL, detour=0.15)
    made = collect(asked, tmp_path / "two", lambda what, done, total: None, workers=1)
    assert not made.failed_seeds
    dataset = LeRobotDataset("local/two", root=made.out)
    ends = dataset.meta.episodes["dataset_to_index"]
    across = np.stack([dataset[i]["observation.state"].numpy()[0] for i in range(ends[-1])])
    begins = dataset.meta.episodes["dataset_from_index"]
    assert [np.sign(across[begin + 12] - across[begin]) for begin in begins] == [1, -1, 1]
    assert all(end - begin > AFTER_SUCCESS for begin, end in zip(begins, ends, strict=True))
    assert collect(asked, made.out, lambda what, done, total: None).reused
    for other in (0.0, 0.1):
        with pytest.raises(UserError, match=r"holds a collection with detour=0\.15, not"):
            collect(CollectRequest(TASK, 3, settings=SMALL, detour=other), made.out, lambda *_: None)


@pytest.mark.parametrize("detour", [-0.1, 0.5])
def test_a_detour_is_within_reach(detour: float) -> None:
    with pytest.raises(UserError, match=r"--detour is .*; it lies between 0 and 0\.3 metres"):
        CollectRequest(TASK, 3, detour=detour)


def test_a_request_without_one_is_what_it_was() -> None:
    """Datasets of before are reused."""
    assert "detour" not in CollectRequest(TASK, 3).to_dict()["request"]
    assert CollectRequest(TASK, 3, detour=0.1).to_dict()["request"]["detour"] == 0.1

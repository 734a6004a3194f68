"""Distractors stand where they disturb nothing, in sight."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worlds_support import frame, geoms_seen

from lerobot_policy_dap.worlds.shifts import SHIFTS, Scene, draw
from lerobot_policy_dap.worlds.shifts.distractors import (
    CLEARANCE,
    PATH_CLEARANCE,
    _blocked,
    _way,
    distance_to_segment,
    footprint_radius,
)
from lerobot_policy_dap.worlds.world import World

SEEDS = st.integers(0, 2**31 - 1)
_SOME = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_SOME
@given(seed=SEEDS)
def test_they_keep_clear_of_the_task_and_of_each_other(scene: Scene, seed: int) -> None:
    geoms = draw("distractors", 5, scene, seed).geoms
    assert len(geoms) == 8
    path = [np.asarray(point[:2]) for point in scene.path]
    for index, geom in enumerate(geoms):
        spot, rim = np.array(geom.position[:2]), footprint_radius(geom)
        for low, high in scene.things[:, :, :2]:
            assert np.linalg.norm(np.maximum(np.maximum(low - spot, spot - high), 0)) >= rim + CLEARANCE - 1e-9
        for start, end in pairwise(path):
            assert distance_to_segment(spot, start, end) >= rim + PATH_CLEARANCE - 1e-9
        for other in geoms[:index]:
            gap = np.linalg.norm(spot - other.position[:2]) - rim - footprint_radius(other)
            assert gap >= CLEARANCE - 1e-9


@_SOME
@given(seed=SEEDS)
def test_a_lower_severitys_are_the_first_of_a_highers(scene: Scene, seed: int) -> None:
    most = draw("distractors", 5, scene, seed).geoms
    for severity, count in enumerate(SHIFTS["distractors"].magnitudes, 1):
        assert draw("distractors", severity, scene, seed).geoms == most[: int(count)]


def test_the_gripper_is_looked_for_all_along_its_way(scene: Scene) -> None:
    """A point on every eleventh of a leg, and none beside it."""
    corners = ((0.0, 0.5, 0.1), (0.3, 0.5, 0.1), (0.3, 0.9, 0.3))
    way = _way(replace(scene, path=corners))
    for start, end in pairwise(np.array(corners)):
        for part in np.linspace(0, 1, 12):
            assert np.linalg.norm(way - (start + part * (end - start)), axis=1).min() < 1e-9
    assert all(
        min(
            np.linalg.norm(point - a) + np.linalg.norm(point - b) - np.linalg.norm(a - b)
            for a, b in pairwise(np.array(corners))
        )
        < 1e-9
        for point in way
    )


def test_a_view_is_blocked_by_what_is_on_its_way_and_not_around_its_end() -> None:
    eye, point = np.zeros(3), np.array([4.0, 0.0, 0.0])
    middles = {
        "on the way": (2, 0, 0),
        "around the end": (4, 0, 0),
        "beyond": (6, 0, 0),
        "behind": (-2, 0, 0),
        "beside": (2, 2, 0),
    }
    boxes = np.array(list(middles.values()))[:, None] + np.array([[-0.5], [0.5]])
    assert dict(zip(middles, _blocked(eye, point, boxes), strict=True)) == {
        name: name == "on the way" for name in middles
    }


def test_they_are_of_several_shapes(scene: Scene) -> None:
    kinds = {geom.kind for seed in range(5) for geom in draw("distractors", 5, scene, seed).geoms}
    assert kinds == {"box", "sphere", "cylinder", "capsule", "ellipsoid"}


@pytest.mark.parametrize("task", ["drawer-open", "hammer", pytest.param("stick-pull", marks=pytest.mark.slow)])
def test_each_is_seen_and_hides_nothing_of_the_task(world: World, task: str) -> None:
    world = world if task == "drawer-open" else World(task)
    for seed in range(8):
        frame(world, "none", 0, seed)
        things = np.isin(clean := geoms_seen(world, size=168), world._painter._task_geoms)
        frame(world, "distractors", 5, seed)
        seen = geoms_seen(world, world._change.geoms, size=168)
        assert all((seen == -2 - index).sum() >= 4 for index in range(8)), seed
        np.testing.assert_array_equal(seen[things], clean[things])


def test_a_camera_that_the_robot_carries_is_not_asked(world: World) -> None:
    carried = World("drawer-open", ("gripperPOV",), shift="distractors", severity=5)
    carried.reset(0)
    assert carried._painter.scene([]).views == ()
    assert len(carried._change.geoms) == 8


@pytest.mark.slow
def test_they_stand_on_the_table_of_every_task() -> None:
    import mujoco

    world = World("hand-insert", shift="distractors", severity=3)
    world.reset(0)
    model, data = world._env.model, world._env.data
    slabs = [geom for geom in world._painter._table if model.geom(geom).type[0] == mujoco.mjtGeom.mjGEOM_BOX]
    top = max(data.geom_xpos[geom][2] + model.geom_size[geom][2] for geom in slabs)
    assert top == pytest.approx(0.05)
    for geom in world._change.geoms:
        tall = geom.size[2] + (geom.size[0] if geom.kind == "capsule" else 0)
        assert geom.position[2] - tall == pytest.approx(top, abs=1e-6)

"""Larger and smaller objects: the one factor that physics feels."""

import numpy as np
import pytest
from worlds_support import frame, geoms_seen

from lerobot_policy_dap.worlds import tasks
from lerobot_policy_dap.worlds.shifts import SHIFTS
from lerobot_policy_dap.worlds.world import World


@pytest.fixture(scope="module")
def hammer() -> World:
    return World("hammer")


def extent(world: World, body: str) -> tuple[np.ndarray, float, float]:
    """Widths in metres of what hangs on a body, the height of its lowest point, and its mass in kg."""
    env = world._env
    root = env.model.body(body).id
    geoms = [g for g in range(env.model.ngeom) if env.model.body_rootid[env.model.geom_bodyid[g]] == root]
    boxes = world._painter._boxes(geoms)
    low, high = boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)
    return high - low, float(low[2]), float(env.model.body_subtreemass[root])


def test_the_object_is_so_many_percent_larger_or_smaller_and_stands_where_it_stood(hammer: World) -> None:
    """Within 2 % of the width, since it settles; of equal density, and 3 mm or less off the ground it stood on."""
    signs = set()
    for seed in range(4):
        frame(hammer, "none", 0, seed)
        width, low, mass = extent(hammer, "hammerbody")
        for severity, percent in enumerate(SHIFTS["object_size"].magnitudes, 1):
            hammer.set_shift("object_size", severity)
            hammer.reset(seed)
            scaled, floor, heavier = extent(hammer, "hammerbody")
            scale = hammer._scale
            assert abs(scale - 1) == pytest.approx(percent / 100)
            np.testing.assert_allclose(scaled / width, scale, rtol=0.02)
            assert heavier / mass == pytest.approx(scale**3, rel=1e-3)
            assert floor == pytest.approx(low, abs=0.003)
            signs.add((seed, scale > 1))
    assert len(signs) == 4  # one seed has larger, or smaller, objects at every severity
    assert {larger for _, larger in signs} == {True, False}


def test_a_world_keeps_the_sizes_of_one_severity_alone(hammer: World) -> None:
    before = frame(hammer, "object_size", 5, 3)
    for severity in (1, 3, 5):
        for seed in range(4):
            frame(hammer, "object_size", severity, seed)
        assert sorted(hammer._stages)[1] == 1
        assert len(hammer._stages) == 3
    np.testing.assert_array_equal(frame(hammer, "object_size", 5, 3), before)


def test_it_is_seen_to_be_larger_and_everything_else_stays(hammer: World) -> None:
    seed = next(
        s for s in range(9) if SHIFTS["object_size"].draw(hammer._painter.scene([]), 5, s).object_scale > 1
    )
    frame(hammer, "none", 0, seed)
    model = hammer._env.model
    root = model.body("hammerbody").id
    handle = [g for g in hammer._painter._objects if model.body_rootid[model.geom_bodyid[g]] == root]
    before = geoms_seen(hammer, size=240)
    hammer.set_shift("object_size", 5)
    hammer.reset(seed)
    after = geoms_seen(hammer, size=240, scale=hammer._scale)
    ratio = np.isin(after, handle).sum() / np.isin(before, handle).sum()
    assert ratio == pytest.approx(1.3**2, rel=0.25)
    nail = [g for g in hammer._painter._objects if g not in handle]
    assert np.isin(after, nail).sum() == pytest.approx(np.isin(before, nail).sum(), rel=0.1)


def test_back_at_severity_zero_the_world_is_the_untouched_one(hammer: World) -> None:
    clean = frame(hammer, "none", 0, 3)
    position = hammer._env.data.qpos.copy()
    frame(hammer, "object_size", 5, 3)
    np.testing.assert_array_equal(frame(hammer, "object_size", 0, 3), clean)
    np.testing.assert_array_equal(hammer._env.data.qpos, position)


def test_the_same_episode_twice_is_the_same_bit_for_bit(hammer: World) -> None:
    hammer.set_shift("object_size", 4)
    actions = np.random.default_rng(0).uniform(-1, 1, (10, 4))

    def states() -> list[np.ndarray]:
        return [hammer.reset(5), *(hammer.step(action).state for action in actions)]

    first = states()
    hammer.reset(6)
    np.testing.assert_array_equal(states(), first)


@pytest.mark.slow
def test_the_expert_still_pushes_an_object_a_little_larger_or_smaller() -> None:
    world, successes = World("push", shift="object_size", severity=1), 0
    for seed in range(4):
        world.reset(seed)
        act = tasks.expert(world.task)
        successes += any(world.step(act(world.observation39)).success for _ in range(200))
    assert successes >= 3

"""What every factor promises: pure, graded, repeatable, and nothing more than it says."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worlds_support import frame

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.worlds import tasks
from lerobot_policy_dap.worlds.shifts import SHIFTS, Change, Combined, Scene, check_shift, draw
from lerobot_policy_dap.worlds.shifts.apply import ModelPainter
from lerobot_policy_dap.worlds.world import World, supports

_FEW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ON_A_DRAWER = [name for name, factor in SHIFTS.items() if not factor.physical]
"""A drawer is part of a mechanism: its size cannot be changed."""


def assert_same(one: Change, other: Change) -> None:
    assert one.geoms == other.geoms
    assert one.frame_effects == other.frame_effects
    assert one.object_scale == other.object_scale
    for first, second in ((one.values, other.values), (one.palettes, other.palettes)):
        assert first.keys() == second.keys()
        for key, array in first.items():
            np.testing.assert_array_equal(array, second[key])


@pytest.mark.parametrize("shift", ON_A_DRAWER)
def test_severity_zero_is_the_untouched_world_and_nothing_adds_up(world: World, shift: str) -> None:
    clean = frame(world, "none", 0)
    np.testing.assert_array_equal(frame(world, shift, 0), clean)
    once = frame(world, shift, 5)
    for seed in (1, 0):
        again = frame(world, shift, 5, seed)
    np.testing.assert_array_equal(again, once)
    np.testing.assert_array_equal(frame(world, "none", 0), clean)


@pytest.mark.parametrize("shift", ON_A_DRAWER)
def test_the_picture_changes_more_with_severity(world: World, shift: str) -> None:
    sizes = np.zeros(5)
    for seed in (0, 1):
        clean = frame(world, "none", 0, seed).astype(float)
        sizes += [np.abs(frame(world, shift, severity, seed) - clean).mean() for severity in range(1, 6)]
    assert sizes[0] > 0
    assert all(later > earlier for earlier, later in pairwise(sizes))


@pytest.mark.parametrize("shift", ON_A_DRAWER)
@_FEW
@given(seed=st.integers(0, 2**31 - 1))
def test_drawing_is_pure(scene: Scene, shift: str, seed: int) -> None:
    before = {name: array.copy() for name, array in scene.values.items()}
    colors = {texture: array.copy() for texture, array in scene.palettes.items()}
    assert_same(draw(shift, 3, scene, seed), draw(shift, 3, scene, seed))
    for name, array in scene.values.items():
        np.testing.assert_array_equal(array, before[name])
    for texture, array in scene.palettes.items():
        np.testing.assert_array_equal(array, colors[texture])


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_factor_describes_itself(shift: str) -> None:
    factor = SHIFTS[shift]
    assert factor.name == shift
    assert factor.quantity
    assert factor.unit
    steps = np.diff(factor.magnitudes)
    assert (steps > 0).all() or (steps < 0).all()
    assert factor.physical == (shift == "object_size")


def test_factors_combine_and_each_goes_where_it_goes_alone(scene: Scene) -> None:
    direction, color, camera = SHIFTS["light_direction"], SHIFTS["table_color"], SHIFTS["camera_pose"]
    both = direction & color & camera
    assert isinstance(both, Combined)
    assert both.name == "light_direction&table_color&camera_pose"
    alone = Change()
    for factor in (direction, color, camera):
        alone = alone.then(factor.draw(scene, 4, 7))
    assert_same(both.draw(scene, 4, 7), alone)


def test_a_factor_acts_on_top_of_another(scene: Scene) -> None:
    """A dimmed and warm lamp has the product of both gains; a recoloured table has its new colour stretched."""
    dimmer, warmer = SHIFTS["light_dimmer"], SHIFTS["light_color"]
    both = (dimmer & warmer).draw(scene, 2, 0).values["light_diffuse"]
    one, other = (f.draw(scene, 2, 0).values["light_diffuse"] for f in (dimmer, warmer))
    np.testing.assert_allclose(both, one * other / scene.values["light_diffuse"], rtol=1e-6)


def test_everything_at_once_is_every_visual_factor(scene: Scene) -> None:
    parts = {part.name for part in SHIFTS["combined"].parts}  # type: ignore[attr-defined]
    assert parts == set(ON_A_DRAWER) - {"combined", "light_dimmer", "light_brighter"}
    change = draw("combined", 5, scene, 0)
    assert len(change.geoms) == 8
    assert len(change.frame_effects) == 4
    assert change.object_scale == 1


def test_what_a_task_lacks_is_said(scene: Scene) -> None:
    bare = replace(scene, object_geoms=(), table_textures=(), background_textures=())
    for shift in (
        "object_color",
        "table_color",
        "background_color",
        "texture_contrast",
        "combined",
        "object_size",
    ):
        with pytest.raises(UserError, match=shift):
            draw(shift, 3, bare, 0)
    full = replace(scene, things=np.array([[[-2.0, -2.0, 0.0], [2.0, 2.0, 0.1]]]))
    with pytest.raises(UserError, match="distractors"):
        draw("distractors", 3, full, 0)


def test_it_can_be_asked_beforehand(world: World) -> None:
    assert supports("drawer-open", "table_color") is None
    reason = supports("drawer-open", "object_size")
    assert reason is not None
    assert "mechanism" in reason
    with pytest.raises(UserError, match="mechanism"):
        frame(world, "object_size", 1)


def test_names_and_severities_are_checked() -> None:
    with pytest.raises(UserError, match="light_intensity"):
        check_shift("lite", 1)
    for severity in (-1, 6, 2.5, True):
        with pytest.raises(UserError, match=str(severity)):
            check_shift("light_intensity", severity)  # type: ignore[arg-type]


def test_scenes_hand_out_copies(world: World, scene: Scene) -> None:
    fresh = world._painter.scene([])
    fresh.values["geom_rgba"][:] = 0
    for colors in fresh.palettes.values():
        colors[:] = 0
    assert world._env.model.geom_rgba.max() > 0
    assert all(colors.max() > 0 for colors in world._painter.scene([]).palettes.values())


@pytest.mark.slow
def test_every_factor_can_be_drawn_and_applied_on_every_task() -> None:
    """Or the task is said to lack what it needs. Without rendering: one model a task."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    mechanisms = set()
    for task in tasks.tasks():
        env = ALL_V3_ENVIRONMENTS[task]()
        painter = ModelPainter(env.model, env.data, ("corner2",))
        scene = painter.scene([])
        first = {name: array.copy() for name, array in painter._arrays().items()}
        for shift, factor in SHIFTS.items():
            if factor.lacks(scene) is not None:
                mechanisms.add((task, shift))
                continue
            change = draw(shift, 3, scene, 0)
            painter.apply(change)
            written = [name for name, array in painter._arrays().items() if (array != first[name]).any()]
            assert set(written) <= set(change.values), (task, shift)  # ambient light is 0, and stays so
            assert {bitmap.texture for bitmap in painter.bitmaps} == set(change.palettes)
            assert written or painter.bitmaps or change.geoms or change.frame_effects or change.object_scale != 1
        painter.apply(Change())
        assert all((array == first[name]).all() for name, array in painter._arrays().items())
    assert {shift for _, shift in mechanisms} == {"object_size"}
    assert {"drawer-open-v3", "door-lock-v3", "button-press-v3"} <= {task for task, _ in mechanisms}
    assert len(mechanisms) == 24

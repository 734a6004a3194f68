"""Each factor changes what it says, by as much as it says, and nothing else."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from conftest import geoms_seen
from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.worlds.rendering import RenderSettings
from lerobot_policy_dap.worlds.shifts import SHIFTS, Scene, check_shift, draw
from lerobot_policy_dap.worlds.shifts.color import delta_e, to_lab, to_rgb
from lerobot_policy_dap.worlds.shifts.distractors import (
    CLEARANCE,
    PATH_CLEARANCE,
    distance_to_segment,
    footprint_radius,
)
from lerobot_policy_dap.worlds.world import World

SEEDS = st.integers(0, 2**31 - 1)
_MANY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def scene(shared_world: World) -> Scene:
    shared_world.reset(0)
    start, thing = shared_world.observation39[:3], shared_world.observation39[4:7]
    return shared_world._painter.scene([start, thing, shared_world._env._target_pos])


def frame(world: World, shift: str, severity: int, seed: int = 0) -> NDArray[np.uint8]:
    world.set_shift(shift, severity)
    world.reset(seed)
    return world.render()


@pytest.mark.parametrize("shift", SHIFTS)
def test_severity_zero_is_the_untouched_world(world: World, shift: str) -> None:
    np.testing.assert_array_equal(frame(world, shift, 0), frame(world, "none", 0))


@pytest.mark.parametrize("shift", SHIFTS)
def test_nothing_adds_up_over_episodes(world: World, shift: str) -> None:
    clean, once = frame(world, "none", 0), frame(world, shift, 5)
    for _ in range(3):
        np.testing.assert_array_equal(frame(world, shift, 5), once)
    np.testing.assert_array_equal(frame(world, "none", 0), clean)


@pytest.mark.parametrize("shift", ["light_intensity", "light_direction", "table_color", "distractors"])
def test_the_picture_changes_more_with_severity(world: World, shift: str) -> None:
    clean = frame(world, "none", 0).astype(float)
    sizes = [np.abs(frame(world, shift, severity) - clean).mean() for severity in range(1, 6)]
    assert sizes[0] > 0
    assert all(later > earlier for earlier, later in pairwise(sizes))


@pytest.mark.parametrize("shift", SHIFTS)
@_MANY
@given(seed=SEEDS)
def test_drawing_is_pure(scene: Scene, shift: str, seed: int) -> None:
    before = {name: array.copy() for name, array in scene.values.items()}
    first, again = draw(shift, 3, scene, seed), draw(shift, 3, scene, seed)
    assert first.geoms == again.geoms
    assert first.values.keys() == again.values.keys()
    for name, array in first.values.items():
        np.testing.assert_array_equal(array, again.values[name])
    for name, array in scene.values.items():
        np.testing.assert_array_equal(array, before[name])


@_MANY
@given(seed=SEEDS)
def test_light_intensity_is_the_stated_number_of_stops(scene: Scene, seed: int) -> None:
    signs = set()
    for severity, stops in enumerate(SHIFTS["light_intensity"].magnitudes, 1):
        change = draw("light_intensity", severity, scene, seed)
        for name, array in change.values.items():
            lit = scene.values[name] > 0
            ratio = np.log2(array[lit] / scene.values[name][lit])
            np.testing.assert_allclose(np.abs(ratio), stops, atol=1e-5)
            signs.update(np.sign(ratio))
    assert len(signs) == 1  # one seed is brighter, or darker, at every severity


@_MANY
@given(seed=SEEDS)
def test_light_direction_turns_about_one_axis_by_the_stated_angle(scene: Scene, seed: int) -> None:
    axes = []
    for severity, degrees in enumerate(SHIFTS["light_direction"].magnitudes, 1):
        turned = draw("light_direction", severity, scene, seed).values["light_dir"]
        turn, *_ = np.linalg.lstsq(scene.values["light_dir"], turned, rcond=None)
        assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) == pytest.approx(degrees, abs=0.01)
        axis = np.array([turn[1, 2] - turn[2, 1], turn[2, 0] - turn[0, 2], turn[0, 1] - turn[1, 0]])
        axes.append(axis / np.linalg.norm(axis))
    assert axes[0][2] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(axes, np.tile(axes[0], (5, 1)), atol=1e-6)


@pytest.mark.parametrize(("shift", "geoms"), [("table_color", "table_geoms"), ("object_color", "object_geoms")])
@_MANY
@given(seed=SEEDS)
def test_paint_is_at_the_stated_distance_in_cielab(scene: Scene, shift: str, geoms: str, seed: int) -> None:
    for severity, distance in enumerate(SHIFTS[shift].magnitudes, 1):
        painted = draw(shift, severity, scene, seed).values["geom_rgba"]
        for geom in getattr(scene, geoms):
            assert delta_e(painted[geom, :3], scene.geom_color[geom]) == pytest.approx(distance, abs=0.1)
        rest = np.setdiff1d(np.arange(len(painted)), getattr(scene, geoms))
        np.testing.assert_array_equal(painted[rest], scene.values["geom_rgba"][rest])


@pytest.mark.parametrize(("shift", "geoms"), [("table_color", "table_geoms"), ("object_color", "object_geoms")])
def test_paint_moves_in_one_direction_at_every_severity(scene: Scene, shift: str, geoms: str) -> None:
    for seed in range(40):
        for geom in getattr(scene, geoms):
            moves = [
                to_lab(draw(shift, severity, scene, seed).values["geom_rgba"][geom, :3])
                - to_lab(scene.geom_color[geom])
                for severity in range(1, 6)
            ]
            units = np.array([move / np.linalg.norm(move) for move in moves])
            np.testing.assert_allclose(units, np.tile(units[0], (5, 1)), atol=0.02)


def test_the_rendered_table_differs_by_about_the_stated_distance(world: World) -> None:
    """Within 10: the table is lit a little above white (see the room's report), and plain where it was grained."""
    clean = frame(world, "none", 0) / 255
    table = np.isin(geoms_seen(world), world._painter._table)
    assert table.mean() > 0.2
    for severity, distance in enumerate(SHIFTS["table_color"].magnitudes, 1):
        shifted = frame(world, "table_color", severity) / 255
        measured = delta_e(clean[table].mean(axis=0), shifted[table].mean(axis=0))
        assert abs(measured - distance) < 10


def test_object_color_leaves_every_other_pixel_alone(world: World) -> None:
    clean = frame(world, "none", 0)
    thing = np.isin(geoms_seen(world), world._painter._objects)
    changed = (frame(world, "object_color", 5) != clean).any(axis=-1)
    assert changed[thing].mean() > 0.5
    assert not changed[~thing].any()


def test_brightening_and_darkening_go_the_way_they_say(world: World) -> None:
    for seed in range(4):
        clean = frame(world, "none", 0, seed).mean()
        means = [frame(world, "light_intensity", severity, seed).mean() for severity in range(1, 6)]
        assert sorted(means) == (means if means[0] > clean else means[::-1])


@_MANY
@given(seed=SEEDS)
def test_distractors_keep_clear_of_the_task_and_of_each_other(scene: Scene, seed: int) -> None:
    geoms = draw("distractors", 5, scene, seed).geoms
    assert len(geoms) == 8
    path = [np.asarray(point) for point in scene.path]
    for index, geom in enumerate(geoms):
        spot, rim = np.array(geom.position[:2]), footprint_radius(geom)
        for x, y, half_x, half_y in scene.keep_out:
            outside = np.maximum(np.abs(spot - (x, y)) - (half_x, half_y), 0)
            assert np.linalg.norm(outside) >= rim + CLEARANCE - 1e-9
        for start, end in pairwise(path):
            assert distance_to_segment(spot, start, end) >= rim + PATH_CLEARANCE - 1e-9
        for other in geoms[:index]:
            gap = np.linalg.norm(spot - other.position[:2]) - rim - footprint_radius(other)
            assert gap >= CLEARANCE - 1e-9


@_MANY
@given(seed=SEEDS)
def test_a_lower_severitys_distractors_are_the_first_of_a_highers(scene: Scene, seed: int) -> None:
    most = draw("distractors", 5, scene, seed).geoms
    for severity, count in enumerate(SHIFTS["distractors"].magnitudes, 1):
        assert draw("distractors", severity, scene, seed).geoms == most[: int(count)]


def test_every_distractor_can_be_seen(world: World) -> None:
    world.set_shift("distractors", 5)
    for seed in range(10):
        world.reset(seed)
        seen = geoms_seen(world, world._change.geoms, size=240)
        assert all((seen == -2 - index).sum() >= 8 for index in range(8)), seed


@pytest.mark.slow
def test_distractors_stand_on_the_table_of_every_task() -> None:
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


@pytest.mark.slow
def test_table_color_reaches_the_table_with_a_hole() -> None:
    world = World("pick-out-of-hole")
    changed = (frame(world, "table_color", 3) != frame(world, "none", 0)).any(axis=-1)
    assert changed.mean() > 0.2


@pytest.mark.slow
def test_painted_glass_stays_glass() -> None:
    world = World("window-open", shift="object_color", severity=3)
    world.reset(0)
    model = world._env.model
    glass = next(
        g for g in world._painter._objects if "glass" in model.mat(world._painter._first["geom_matid"][g]).name
    )
    assert model.geom_rgba[glass, 3] < 1


def test_a_factor_with_nothing_to_act_on_says_so(scene: Scene) -> None:
    bare = replace(scene, object_geoms=(), table_geoms=())
    for shift in ("object_color", "table_color"):
        with pytest.raises(UserError, match=shift):
            draw(shift, 3, bare, 0)
    full = replace(scene, keep_out=((0.0, 0.6, 2.0, 2.0),))
    with pytest.raises(UserError, match="distractors"):
        draw("distractors", 3, full, 0)


def test_names_and_severities_are_checked() -> None:
    with pytest.raises(UserError, match="light_intensity"):
        check_shift("lite", 1)
    for severity in (-1, 6):
        with pytest.raises(UserError, match=str(severity)):
            check_shift("light_intensity", severity)


@pytest.mark.parametrize("severity", [2.5, True])
def test_severities_are_whole_numbers(severity: object) -> None:
    with pytest.raises(UserError):
        check_shift("light_intensity", severity)  # type: ignore[arg-type]


@_MANY
@given(rgb=st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_cielab_and_back(rgb: list[float]) -> None:
    np.testing.assert_allclose(to_rgb(to_lab(np.array(rgb))), rgb, atol=1e-6)


def test_cielab_of_known_colours() -> None:
    """Lindbloom's values for the sRGB primaries under D65."""
    known = {(1, 1, 1): (100, 0, 0), (1, 0, 0): (53.24, 80.09, 67.20), (0, 0, 1): (32.30, 79.19, -107.86)}
    for rgb, lab in known.items():
        np.testing.assert_allclose(to_lab(np.array(rgb, float)), lab, atol=0.05)


def test_scenes_hand_out_copies(world: World) -> None:
    world.reset(0)
    values = world._painter.scene([world.observation39[:3]]).values
    values["geom_rgba"][:] = 0
    assert world._env.model.geom_rgba.max() > 0


def test_a_larger_frame_shows_the_same_change(world: World) -> None:
    world.set_shift("distractors", 5)
    world.reset(0)
    shifted = world.render(settings=RenderSettings(240, 240))
    world.set_shift("none", 0)
    world.reset(0)
    assert (shifted != world.render(settings=RenderSettings(240, 240))).any(axis=-1).mean() > 0.005

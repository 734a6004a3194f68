"""Each visual factor does on the rendered pixels what its quantity says, within a stated tolerance."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from worlds_support import frame, geoms_seen

from lerobot_policy_dap.worlds.shifts import SHIFTS, Scene, draw
from lerobot_policy_dap.worlds.shifts.apply import _view
from lerobot_policy_dap.worlds.shifts.color import delta_e, to_lab, to_linear
from lerobot_policy_dap.worlds.world import CAMERAS, World

SEEDS = st.integers(0, 2**31 - 1)
_MANY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def levels(shift: str) -> list[tuple[int, float]]:
    return list(enumerate(SHIFTS[shift].magnitudes, 1))


@pytest.fixture(scope="module")
def table(shared_world: World) -> NDArray[np.bool_]:
    """Which pixels show the table top, away from its rim and from everything on it."""
    shared_world.set_shift("none", 0)
    shared_world.reset(0)
    seen = np.isin(geoms_seen(shared_world), shared_world._painter._table)
    inner = seen.copy()
    for axis in (0, 1):
        for way in (-1, 1):
            inner &= np.roll(seen, way, axis)
    assert inner.mean() > 0.15
    return inner


# Light


@pytest.mark.parametrize("shift", ["light_intensity", "light_dimmer", "light_brighter"])
@_MANY
@given(seed=SEEDS)
def test_lamps_are_brighter_or_dimmer_by_the_stated_stops(scene: Scene, shift: str, seed: int) -> None:
    signs = set()
    for severity, stops in levels(shift):
        for name, array in draw(shift, severity, scene, seed).values.items():
            lit = scene.values[name] > 0
            ratio = np.log2(array[lit] / scene.values[name][lit])
            np.testing.assert_allclose(np.abs(ratio), stops, atol=1e-5)
            signs.update(np.sign(ratio))
    assert signs in {"light_intensity": ({-1}, {1}), "light_dimmer": ({-1},), "light_brighter": ({1},)}[shift]


@pytest.mark.parametrize(("shift", "sign"), [("light_dimmer", -1), ("light_brighter", 1)])
def test_the_rendered_table_is_so_much_dimmer_or_brighter(
    world: World, table: NDArray[np.bool_], shift: str, sign: int
) -> None:
    """Within 0.35 stops, of pixels that are not clipped: the untouched table has light a little above white."""
    clean = frame(world, "none", 0)[table].astype(float)
    for severity, stops in levels(shift):
        lit = frame(world, shift, severity)[table].astype(float)
        unclipped = (lit < 250) & (clean > 20)
        if unclipped.mean() > 0.2:
            measured = np.log2(lit[unclipped].sum() / clean[unclipped].sum())
            assert measured == pytest.approx(sign * stops, abs=0.35)


@_MANY
@given(seed=SEEDS)
def test_lamps_turn_about_one_axis_by_the_stated_angle(scene: Scene, seed: int) -> None:
    axes = []
    for severity, degrees in levels("light_direction"):
        turned = draw("light_direction", severity, scene, seed).values["light_dir"]
        turn, *_ = np.linalg.lstsq(scene.values["light_dir"], turned, rcond=None)
        assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) == pytest.approx(degrees, abs=0.01)
        axis = np.array([turn[1, 2] - turn[2, 1], turn[2, 0] - turn[0, 2], turn[0, 1] - turn[1, 0]])
        axes.append(axis / np.linalg.norm(axis))
    assert axes[0][2] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(axes, np.tile(axes[0], (5, 1)), atol=1e-6)


def test_lamps_keep_their_place_about_the_tables_centre(scene: Scene) -> None:
    """They turn as one thing: their distances from it stay, and where each of them points seen from it."""
    centre = np.array([0.0, 0.6, 0.0])
    change = draw("light_direction", 5, scene, 3).values
    before, after = ((values["light_pos"] - centre, values["light_dir"]) for values in (scene.values, change))
    np.testing.assert_allclose(np.linalg.norm(after[0], axis=1), np.linalg.norm(before[0], axis=1), rtol=1e-6)
    np.testing.assert_allclose(after[0] @ after[1].T, before[0] @ before[1].T, atol=1e-6)
    assert np.abs(after[0] - before[0]).max() > 0.1


def test_the_light_on_the_table_has_the_stated_temperature(world: World, table: NDArray[np.bool_]) -> None:
    """Within 12 %, by another formula than the factor's: McCamy (1992), CCT from chromaticity."""
    clean = to_linear(frame(world, "none", 0)[table] / 255).mean(axis=0)
    for severity, kelvin in levels("light_color"):
        warm = to_linear(frame(world, "light_color", severity)[table] / 255).mean(axis=0)
        assert mccamy(warm / clean) == pytest.approx(kelvin, rel=0.12)


def mccamy(linear_rgb: NDArray[np.floating]) -> float:
    """Correlated colour temperature in K of linear sRGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ linear_rgb
    x, y, _ = xyz / xyz.sum()
    n = (x - 0.3320) / (0.1858 - y)
    return float(449 * n**3 + 3525 * n**2 + 6823.3 * n + 5520.33)


# Colours and grain


def test_the_rendered_table_differs_by_the_stated_distance_and_keeps_its_grain(
    world: World, table: NDArray[np.bool_]
) -> None:
    """ΔE within 15 % of the stated; at least half of the grain's contrast in lightness stays."""
    for seed in (0, 3):
        clean = frame(world, "none", 0, seed)[table] / 255
        grain = to_lab(clean)[:, 0].std()
        for severity, distance in levels("table_color"):
            shifted = frame(world, "table_color", severity, seed)[table] / 255
            measured = delta_e(clean.mean(axis=0), shifted.mean(axis=0))
            assert measured == pytest.approx(distance, rel=0.15)
            assert to_lab(shifted)[:, 0].std() > 0.5 * grain


def test_the_background_differs_by_the_stated_distance_and_nothing_else_does(world: World) -> None:
    """ΔE of the backdrop within 1, of the lit floor and wall within 30 %."""
    world.set_shift("none", 0)
    world.reset(0)
    seen = geoms_seen(world)
    model = world._env.model
    rim = [g for g in range(model.ngeom) if model.body(model.geom_bodyid[g]).name == "RetainingWall"]
    floor = [g for g in range(model.ngeom) if model.geom_bodyid[g] == 0]
    clean = frame(world, "none", 0) / 255
    for severity, distance in levels("background_color"):
        shifted = frame(world, "background_color", severity) / 255
        for geoms, tolerance in (([-1], 1.0), (floor, 0.3 * distance), (rim, 0.3 * distance)):
            where = np.isin(seen, geoms)
            where &= np.abs(clean - clean[where].mean(axis=0)).max(axis=-1) < 0.1  # not half of something else
            measured = delta_e(clean[where].mean(axis=0), shifted[where].mean(axis=0))
            assert measured == pytest.approx(distance, abs=tolerance)
        changed = (clean != shifted).any(axis=-1)
        assert not changed[np.isin(seen, [*world._painter._objects, *world._painter._table])].any()


def test_the_grain_is_so_many_times_as_strong(world: World, table: NDArray[np.bool_], scene: Scene) -> None:
    """Of the rendered table within 25 %, and its mean colour stays within a ΔE of 5."""
    clean = frame(world, "none", 0)[table].astype(float)
    for severity, times in levels("texture_contrast"):
        grained = frame(world, "texture_contrast", severity)[table].astype(float)
        assert grained.std(axis=0).mean() / clean.std(axis=0).mean() == pytest.approx(times, rel=0.25)
        assert delta_e(clean.mean(axis=0) / 255, grained.mean(axis=0) / 255) < 5


@_MANY
@given(seed=SEEDS)
def test_paint_is_at_the_stated_distance_in_one_direction(scene: Scene, seed: int) -> None:
    geoms = list(scene.object_geoms)
    moves = []
    for severity, distance in levels("object_color"):
        painted = draw("object_color", severity, scene, seed).values["geom_rgba"]
        moves.append(to_lab(painted[geoms, :3]) - to_lab(scene.geom_color[geoms]))
        np.testing.assert_allclose(np.linalg.norm(moves[-1], axis=-1), distance, atol=0.1)
        assert (draw("object_color", severity, scene, seed).values["geom_matid"][geoms] == -1).all()
        rest = np.setdiff1d(np.arange(len(painted)), geoms)
        np.testing.assert_array_equal(painted[rest], scene.values["geom_rgba"][rest])
    units = np.array([move / np.linalg.norm(move, axis=-1, keepdims=True) for move in moves])
    np.testing.assert_allclose(units, np.broadcast_to(units[0], units.shape), atol=0.02)


def test_object_color_reaches_the_whole_object_and_no_other_pixel(world: World) -> None:
    clean = frame(world, "none", 0)
    thing = np.isin(geoms_seen(world), world._painter._objects)
    changed = (frame(world, "object_color", 5) != clean).any(axis=-1)
    assert changed[thing].mean() > 0.95
    assert not changed[~thing].any()


@pytest.mark.slow
def test_painted_glass_stays_glass() -> None:
    world = World("window-open", shift="object_color", severity=3)
    world.reset(0)
    model = world._env.model
    glass = next(
        g for g in world._painter._objects if "glass" in model.mat(world._painter._first["geom_matid"][g]).name
    )
    assert model.geom_rgba[glass, 3] < 1


@pytest.mark.slow
def test_table_color_reaches_the_table_with_a_hole() -> None:
    world = World("pick-out-of-hole")
    changed = (frame(world, "table_color", 3) != frame(world, "none", 0)).any(axis=-1)
    assert changed.mean() > 0.2


# Camera


@pytest.mark.parametrize("name", CAMERAS)
def test_every_camera_is_displaced_and_turned_by_the_stated_amount(name: str) -> None:
    world = World("drawer-open", (name,))
    for seed in range(3):
        ways = []
        frame(world, "none", 0, seed)
        data, camera = world._env.data, world._env.model.camera(name).id
        place, turn = data.cam_xpos[camera].copy(), data.cam_xmat[camera].reshape(3, 3).copy()
        for severity, amount in levels("camera_pose"):
            world.set_shift("camera_pose", severity)
            world.reset(seed)
            way = data.cam_xpos[camera] - place
            assert np.linalg.norm(way) == pytest.approx(amount / 100, abs=1e-6)
            angle = np.arccos((np.trace(data.cam_xmat[camera].reshape(3, 3) @ turn.T) - 1) / 2)
            assert np.degrees(angle) == pytest.approx(amount, abs=1e-3)
            ways.append(way / np.linalg.norm(way))
        np.testing.assert_allclose(ways, np.tile(ways[0], (5, 1)), atol=1e-6)


def test_both_of_mujocos_forms_of_a_cameras_pose_stay_one_pose(scene: Scene) -> None:
    """A fixed camera's place in its body is its place in the world: it is read from the one, a tracking one's from
    the other."""
    change = draw("camera_pose", 5, scene, 0).values
    for camera in scene.cameras:
        turn = Rotation.from_quat(change["cam_quat"][camera], scalar_first=True).as_matrix()
        np.testing.assert_allclose(change["cam_mat0"][camera].reshape(3, 3), turn, atol=1e-9)
        moved = [change[name][camera] - scene.values[name][camera] for name in ("cam_pos", "cam_pos0")]
        np.testing.assert_allclose(*moved, atol=1e-9)


def test_what_the_moved_camera_sees_moves_as_projected(world: World) -> None:
    """The drawer's middle, found in the picture, lands within 2 of 240 pixels of where the new pose projects it."""
    size = 240
    world.set_shift("none", 0)
    world.reset(0)
    case = world._painter._objects[0]
    for severity in (0, 2, 4):
        world.set_shift("camera_pose", severity)
        world.reset(0)
        rows, columns = np.nonzero(geoms_seen(world, size=size) == case)
        seen = np.array([columns.mean(), rows.mean()])
        view = _view(world._env.model, world._env.data, "corner2")
        right, up, depth = view @ np.array([*world._env.data.geom_xpos[case], 1])
        # corner2 hangs upside down, and its frames are turned
        projected = size / 2 * (1 + np.array([-right, up]) / depth)
        if severity == 0:
            offset = seen - projected
        else:
            np.testing.assert_allclose(seen - projected, offset, atol=2)


# Sensor


def test_noise_is_that_of_its_seed_and_step(world: World) -> None:
    world.set_shift("sensor_noise", 2)
    world.reset(3)
    first = world.render()
    np.testing.assert_array_equal(world.render(), first)  # looked at twice
    world.step(np.zeros(4))
    later = world.render()
    world.reset(3)
    np.testing.assert_array_equal(world.render(), first)
    world.step(np.zeros(4))  # not rendered before
    np.testing.assert_array_equal(world.render(), later)
    sky = frame(world, "none", 0) == frame(world, "none", 0)[0, 0]
    assert (first[sky] != later[sky]).mean() > 0.5


def test_frame_effects_are_those_of_the_stated_magnitude(world: World) -> None:
    clean = frame(world, "none", 0).astype(float)
    for severity, sigma in levels("sensor_noise"):
        error = (frame(world, "sensor_noise", severity) - clean)[(clean > 110) & (clean < 145)]
        assert error.std() == pytest.approx(sigma, rel=0.1)  # of grey, where little is clipped
    for severity, stops in levels("sensor_exposure"):
        light = to_linear(frame(world, "sensor_exposure", severity) / 255)
        use = (light < 0.9) & (light > 0.01) & (clean > 20) & (clean < 250)
        ratio = np.log2(np.median(light[use] / to_linear(clean / 255)[use]))
        assert abs(ratio) == pytest.approx(stops, abs=0.1)
    qualities = [psnr(frame(world, "sensor_jpeg", severity), clean) for severity in range(1, 6)]
    assert all(worse < better - 0.5 for better, worse in pairwise(qualities))
    assert qualities[0] > 26


def psnr(one: NDArray[np.generic], other: NDArray[np.generic]) -> float:
    """In dB."""
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


def test_blur_is_the_same_in_a_larger_frame(world: World) -> None:
    small = frame(world, "sensor_blur", 4, size=84).astype(float)
    large = frame(world, "sensor_blur", 4, size=168).astype(float)
    shrunk = large.reshape(84, 2, 84, 2, 3).mean(axis=(1, 3))
    assert np.abs(small - shrunk).mean() < 2

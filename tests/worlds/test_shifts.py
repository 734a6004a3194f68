"""What every factor promises: pure, graded, repeatable, and nothing more than it says."""

import zlib
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from worlds_support import frame

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.worlds import tasks
from lerobot_policy_dap.worlds.shifts import SHIFTS, Change, Combined, Scene, check_shift, draw
from lerobot_policy_dap.worlds.shifts.apply import ModelPainter
from lerobot_policy_dap.worlds.shifts.color import delta_e
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


def test_what_is_drawn_from_the_seed_goes_either_way(scene: Scene) -> None:
    """About as often, by the same amount."""
    loose = replace(scene, loose_objects=("puck",))
    changes = {
        name: [draw(name, 2, loose, seed) for seed in range(40)]
        for name in ("light_intensity", "sensor_exposure", "object_size")
    }
    lamp = scene.values["light_diffuse"].max()
    steps = {
        "light_intensity": [np.log2(c.values["light_diffuse"].max() / lamp) for c in changes["light_intensity"]],
        "sensor_exposure": [c.frame_effects[0].magnitude for c in changes["sensor_exposure"]],
        "object_size": [100 * (c.object_scale - 1) for c in changes["object_size"]],
    }
    for name, moved in steps.items():
        np.testing.assert_allclose(np.abs(moved), SHIFTS[name].magnitudes[1], rtol=1e-5)
        assert 8 < (np.array(moved) > 0).sum() < 32, name


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
    """A dimmed and warm lamp has the product of both gains."""
    dimmer, warmer = SHIFTS["light_dimmer"], SHIFTS["light_color"]
    both = (dimmer & warmer).draw(scene, 2, 0).values["light_diffuse"]
    one, other = (f.draw(scene, 2, 0).values["light_diffuse"] for f in (dimmer, warmer))
    np.testing.assert_allclose(both, one * other / scene.values["light_diffuse"], rtol=1e-6)


def test_colour_and_grain_are_as_strong_together_as_alone_in_either_order(scene: Scene) -> None:
    """Where nothing is clipped: ΔE of the mean within 5 %, grain within 5 % of the factor."""
    color, background, grain = (SHIFTS[n] for n in ("table_color", "background_color", "texture_contrast"))
    texture, *_ = scene.table_textures
    floor, *_ = scene.background_textures
    for severity in (1, 2, 3):
        for seed in range(5):
            alone = color.draw(scene, severity, seed).then(background.draw(scene, severity, seed))
            for both in (color & background & grain, grain & color & background):
                change = both.draw(scene, severity, seed)
                for surface in (texture, floor):
                    distance, strength = seen_on(surface, scene, change)
                    as_alone, kept = seen_on(surface, scene, alone)
                    assert distance == pytest.approx(as_alone, rel=0.05)
                    assert strength == pytest.approx(kept * grain.magnitudes[severity - 1], rel=0.05)


def test_what_docs_say_of_colour_and_grain_in_everything_at_once(scene: Scene) -> None:
    """docs/shifts.md: of the colour's distance on drawer-open's table, and of grain on table and floor."""
    parts = SHIFTS["combined"].parts  # type: ignore[attr-defined]
    painting = [part for part in parts if draw(part.name, 1, scene, 0).palettes or part.name == "light_intensity"]
    flat = [part for part in painting if part.name != "texture_contrast"]
    assert len(flat) == len(painting) - 1 == 3
    (table,), (floor, *_) = scene.table_textures, scene.background_textures
    for severity, off, least in ((1, 0.01, 0.95), (2, 0.01, 0.95), (3, 0.11, 0.93), (4, 0.23, 0.7), (5, 0.3, 0.5)):
        for seed in range(30):
            change = Combined(*painting).draw(scene, severity, seed)
            distance, _ = seen_on(table, scene, change)
            without, _ = seen_on(table, scene, Combined(*flat).draw(scene, severity, seed))
            assert distance == pytest.approx(without, rel=off)
            times = SHIFTS["texture_contrast"].magnitudes[severity - 1]
            assert min(seen_on(surface, scene, change)[1] for surface in (table, floor)) > least * times


def seen_on(texture: int, scene: Scene, change: Change) -> tuple[float, float]:
    """ΔE of the texture's mean from the untouched one, and how many times as strong its grain is."""
    weights = scene.texel_counts[texture] / scene.texel_counts[texture].sum()

    def mean_and_grain(colors: NDArray[np.floating]) -> tuple[NDArray[np.floating], float]:
        mean = weights @ colors
        return mean, float(np.sqrt(weights @ (colors - mean) ** 2).mean())

    before, after = (mean_and_grain(s.palettes[texture]) for s in (scene, scene.after(change)))
    return float(delta_e(before[0], after[0])), after[1] / before[1]


@pytest.mark.parametrize(
    ("shift", "known"),
    [
        ("table_color", [3741817179, 3437731943, 2102267681, 1628742906, 3625303160]),
        ("texture_contrast", [2738574376, 3022411334, 1585056104, 3365571030, 885067386]),
    ],
)
def test_texels_are_those_of_earlier_versions(world: World, scene: Scene, shift: str, known: list[int]) -> None:
    """So that rounds measured with one factor stay comparable. Checksums over the changed textures, at seed 0."""
    for severity, expected in enumerate(known, 1):
        checksum = 0
        for texture, colors in draw(shift, severity, scene, 0).palettes.items():
            checksum = zlib.crc32(world._painter._textures[texture].with_colors(colors), checksum)
        assert checksum == expected


def test_the_mean_of_an_untouched_texture_is_exact(scene: Scene) -> None:
    for texture, mean in scene.texture_means.items():
        np.testing.assert_array_equal(scene.texture_mean(texture), mean)


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

"""Frames: sizes, cameras, and what happens where none can be drawn."""

import os
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest
from worlds_support import ROOM_ALONE

from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.worlds import world as world_module
from lerobot_policy_dap.worlds.rendering import RenderSettings, SceneRenderer
from lerobot_policy_dap.worlds.world import CAMERAS, World

_REQUIRE = "from lerobot_policy_dap.worlds.rendering import require_backend as r; r(); print('usable')"


def _run(code: str, **environment: str) -> str:
    """Everything a fresh process prints, with `environment` in place of MUJOCO_GL."""
    kept = {name: value for name, value in os.environ.items() if name not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    done = subprocess.run(
        [sys.executable, "-c", ROOM_ALONE + code],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_two_sizes_in_turn_give_the_pixels_of_each_alone(world: World) -> None:
    world.reset(0)
    small, large = RenderSettings(84, 84), RenderSettings(256, 256)
    alone = {size: world.render(settings=size) for size in (small, large)}
    for size in (small, large, small, large, large, small):
        np.testing.assert_array_equal(world.render(settings=size), alone[size])


def test_contexts_with_and_without_multisampling_take_turns(world: World) -> None:
    world.reset(0)
    plain, smooth = RenderSettings(), RenderSettings(samples=4)
    first = world.render(settings=plain), world.render(settings=smooth)
    np.testing.assert_array_equal(world.render(settings=plain), first[0])
    np.testing.assert_array_equal(world.render(settings=smooth), first[1])
    assert (first[0] != first[1]).any()


def test_worlds_share_a_renderer_without_mixing_their_states(world: World) -> None:
    other = World("drawer-open", shift="light_intensity", severity=4)
    world.reset(0)
    other.reset(3)
    first = world.render(), other.render()
    for _ in range(2):
        np.testing.assert_array_equal(world.render(), first[0])
        np.testing.assert_array_equal(other.render(), first[1])


def test_only_the_last_contexts_are_kept_and_one_that_was_freed_draws_the_same_again(world: World) -> None:
    seen = [
        world,
        World("drawer-open", shift="table_color", severity=4),
        World("drawer-close"),
        World("window-open"),
    ]
    for one in seen:
        one.reset(0)
    kinds = [(one, RenderSettings(samples=samples)) for one in seen for samples in (0, 4)]
    first = [one.render(settings=settings) for one, settings in kinds]
    assert len(world_module._renderers) == world_module._MOST_RENDERERS < len({one.task for one in seen}) * 2
    for (one, settings), frame in zip(kinds, first, strict=True):
        np.testing.assert_array_equal(one.render(settings=settings), frame)
    assert len(world_module._renderers) == world_module._MOST_RENDERERS


def test_frames_are_contiguous_bytes_of_the_size_asked_for(world: World) -> None:
    world.reset(0)
    frame = world.render(settings=RenderSettings(width=96, height=64))
    assert frame.shape == (64, 96, 3)
    assert frame.dtype == np.uint8
    assert frame.flags.c_contiguous


_THEIRS = """
import sys, mujoco, numpy as np
from lerobot.envs.metaworld import MetaworldEnv
env = MetaworldEnv('drawer-open-v3')
env.reset(seed=0)
mujoco.mj_forward(env._env.model, env._env.data)  # it shows the drawer where it was before the reset
np.save(sys.argv[1], env.render())
"""


@pytest.mark.slow
def test_the_picture_is_lerobots(world: World, tmp_path: Path) -> None:
    """Same camera, same way up: LeRobot's own settings give LeRobot's own pixels.

    In another process: Gymnasium's viewer makes its context current once and later draws, and frees, in whichever
    context is current. Beside any other renderer it destroys that one's textures.
    """
    import mujoco

    file = tmp_path / "theirs.npy"
    environment = os.environ | {"MUJOCO_GL": "egl"}
    subprocess.run([sys.executable, "-c", _THEIRS, str(file)], env=environment, check=True)
    world.reset(0)
    mujoco.mj_forward(world._env.model, world._env.data)
    ours = world.render(settings=RenderSettings(480, 480, samples=4, shadows=True, reflections=True))
    assert np.abs(ours.astype(int) - np.load(file)).mean() < 0.5


def test_the_world_is_drawn_only_when_somebody_looks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = []
    draw = SceneRenderer.render
    monkeypatch.setattr(SceneRenderer, "render", lambda *a, **k: frames.append(1) or draw(*a, **k))
    world.reset(0)
    for _ in range(20):
        world.step(np.zeros(4))
    assert len(frames) == 0
    world.images()
    assert len(frames) == 1


def test_an_unknown_camera_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError) as caught:
        World("drawer-open", cameras=("corner9",))
    assert all(camera in str(caught.value) for camera in CAMERAS)


def test_every_known_camera_is_the_models(world: World) -> None:
    model = world._env.model
    assert tuple(model.camera(index).name for index in range(model.ncam)) == CAMERAS


@pytest.mark.parametrize("size", [15, 1025])
def test_sizes_outside_the_limits_are_refused(size: int) -> None:
    with pytest.raises(UserError, match=str(size)):
        RenderSettings(width=size)


@pytest.mark.parametrize("wrong", [{"width": "big"}, {"height": 84.5}, {"samples": -3}, {"samples": 3}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError):
        RenderSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["nonsense", "osmesa", "off"])
def test_an_unusable_backend_is_one_line_that_names_the_package(backend: str) -> None:
    if backend == "osmesa" and find_library("OSMesa"):
        pytest.skip("OSMesa is installed here")
    printed = _run(_REQUIRE, MUJOCO_GL=backend)
    errors = [line for line in printed.splitlines() if line.startswith("lerobot_policy_dap.errors.UserError")]
    assert len(errors) == 1
    assert "libegl1" in errors[0]


@pytest.mark.slow
def test_egl_without_a_driver_is_one_line_that_names_the_package() -> None:
    printed = _run(_REQUIRE, __EGL_VENDOR_LIBRARY_FILENAMES="/nonexistent")
    assert "usable" not in printed
    assert "UserError: cannot render" in printed


@pytest.mark.slow
def test_glfw_without_a_display_is_refused() -> None:
    assert "UserError" in _run(_REQUIRE, MUJOCO_GL="glfw", DISPLAY="")


@pytest.mark.slow
def test_mujoco_may_have_been_imported_first() -> None:
    code = "import mujoco\nfrom lerobot_policy_dap.worlds.world import World\nw = World('drawer-open')\n"
    assert "usable" in _run(code + "w.reset(0)\nw.render()\nprint('usable')")

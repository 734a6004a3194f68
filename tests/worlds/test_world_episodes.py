"""A seed is an episode: in this process and the next, shifted or not, after whatever came before."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from worlds_support import ROOM_ALONE

from lerobot_policy_dap.worlds import tasks
from lerobot_policy_dap.worlds.shifts import SHIFTS
from lerobot_policy_dap.worlds.world import FPS, MAX_STEPS, World, world_versions

_ACTIONS = np.random.default_rng(0).uniform(-1, 1, (25, 4)).astype(np.float32)


def states(world: World, seed: int) -> NDArray[np.float32]:
    return np.array([world.reset(seed), *(world.step(action).state for action in _ACTIONS)])


def fingerprint(world: World, seed: int) -> str:
    """Of the states, of the simulator's whole configuration and of the first and last frames."""
    world.reset(seed)
    digest = hashlib.sha256(world.render().tobytes())
    digest.update(states(world, seed).tobytes())
    digest.update(world._env.data.qpos.tobytes() + world.render().tobytes())
    return digest.hexdigest()


def test_other_episodes_in_between_change_nothing(world: World) -> None:
    first = fingerprint(world, 3)
    assert fingerprint(world, 4) != first
    assert fingerprint(world, 3) == first


@pytest.mark.slow
def test_a_fresh_process_gives_the_same_episode(world: World) -> None:
    code = (
        f"{ROOM_ALONE}\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_world_episodes import World, fingerprint\nprint(fingerprint(World('drawer-open'), 3))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(fingerprint(world, 3))


@pytest.mark.parametrize("shift", [name for name, factor in SHIFTS.items() if not factor.physical])
def test_a_shift_leaves_the_physics_bit_for_bit(world: World, shift: str) -> None:
    clean, position = states(world, 3), world._env.data.qpos.copy()
    world.set_shift(shift, 5)
    np.testing.assert_array_equal(states(world, 3), clean)
    np.testing.assert_array_equal(world._env.data.qpos, position)


def test_the_states_are_those_of_metaworld_seeded_by_its_own_rules(world: World) -> None:
    import metaworld

    benchmark = metaworld.MT1(world.task, seed=42)
    env = benchmark.train_classes[world.task]()
    env.set_task(benchmark.train_tasks[0])
    env.reset()
    env._freeze_rand_vec, env.seeded_rand_vec = False, True
    env.seed(3)
    env.reset(seed=3)
    theirs = [env.step(action)[0][:4].astype(np.float32) for action in _ACTIONS]
    np.testing.assert_array_equal(states(world, 3)[1:], theirs)


def test_the_first_frame_shows_the_state_that_the_physics_starts_from(world: World) -> None:
    import mujoco

    world.reset(3)
    shown = world._env.data.geom_xpos.copy()
    mujoco.mj_kinematics(world._env.model, world._env.data)
    visible = world._env.model.geom_group < 3
    np.testing.assert_allclose(shown[visible], world._env.data.geom_xpos[visible], atol=1e-3)


def test_types_and_rates(world: World) -> None:
    state = world.reset(0)
    assert state.shape == (4,)
    assert state.dtype == np.float32
    assert world.observation39.shape == (39,)
    assert world.observation39.dtype == np.float64
    step = world.step(np.zeros(4))
    assert isinstance(step.reward, float)
    assert isinstance(step.success, bool)
    assert round(1 / world._env.dt) == FPS


def test_an_episode_may_last_as_long_as_promised(world: World) -> None:
    world.reset(0)
    for _ in range(MAX_STEPS):
        world.step(np.zeros(4))


def test_a_recording_is_plain_json_that_a_copy_reproduces(world: World) -> None:
    recording = world.recording()
    assert json.loads(json.dumps(recording)) == recording
    assert set(recording) == {"task", "cameras", "settings", "versions"}
    assert recording["versions"] == world_versions()
    assert set(world_versions()) == {"mujoco", "metaworld"}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["push-v3", "window-close-v3", "hammer-v3", "stick-pull-v3"])
def test_other_tasks_are_seeded_too(task: str) -> None:
    world, expert = World(task), tasks.expert(task)

    def run(seed: int) -> NDArray[np.float32]:
        world.reset(seed)
        return np.array([world.step(expert(world.observation39)).state for _ in range(20)])

    first = run(5)
    run(6)
    np.testing.assert_array_equal(run(5), first)

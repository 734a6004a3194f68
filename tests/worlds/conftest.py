"""One world for many tests: constructing Meta-World's benchmark takes a second a task."""

from collections.abc import Iterator

import pytest

from lerobot_policy_dap.worlds import rendering  # first: it chooses the backend before MuJoCo is imported
from lerobot_policy_dap.worlds.shifts import Scene
from lerobot_policy_dap.worlds.world import World


@pytest.fixture(scope="module")
def shared_world() -> World:
    rendering.require_backend()
    return World("drawer-open")


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    """drawer-open, clean; put back afterwards."""
    shared_world.set_shift("none", 0)
    yield shared_world
    shared_world.set_shift("none", 0)


@pytest.fixture(scope="module")
def scene(shared_world: World) -> Scene:
    """drawer-open's first, as a factor reads it."""
    shared_world.set_shift("none", 0)
    shared_world.reset(0)
    start, thing = shared_world.observation39[:3], shared_world.observation39[4:7]
    return shared_world._painter.scene([start, thing, shared_world._env._target_pos])

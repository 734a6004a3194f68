"""One seeded Meta-World episode at a time, rendered when somebody looks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .contacts import QuickContacts
from .rendering import RenderSettings, SceneRenderer
from .scaling import scaled_model
from .shifts import CLEAN, SHIFTS, Change, Scene, check_shift, draw
from .shifts.apply import ModelPainter, loose_bodies
from .tasks import resolve_task

FPS = 80
"""Control steps a second: Meta-World acts every 5 steps of 2.5 ms."""
MAX_STEPS = 500
"""Meta-World ends every episode here."""
STATE_NAMES = ("hand_x", "hand_y", "hand_z", "gripper_opening")
"""The first three in metres, the last in [0, 1]."""
ACTION_NAMES = ("delta_x", "delta_y", "delta_z", "gripper")
"""In [-1, 1]; 1 moves the hand's set point by 1 cm a step."""
CAMERAS = ("topview", "corner", "corner2", "corner3", "behindGripper", "gripperPOV")

# Where LeRobot moves this camera to, nearer to the table.
_CORNER2 = (0.75, 0.075, 0.7)
_LOOKED_AT = slice(4, 7), slice(11, 14)  # places of the two objects in the full observation, metres

_MOST_SCALES = 3
"""Sizes of objects for which a world keeps a simulation: as they are, and the two of a severity."""
_MOST_RENDERERS = 4
"""Rendering contexts of a process; those used longest ago are freed."""
_renderers: OrderedDict[tuple[str, int, float], SceneRenderer] = OrderedDict()


class Step(NamedTuple):
    """What one action led to."""

    state: NDArray[np.float32]
    """`[4]`, see `STATE_NAMES`."""
    reward: float
    success: bool


class World:
    """A Meta-World task under one shift.

    The same seed gives the same episode, bit for bit under the same actions, with or without a visual shift. Only
    a factor that says so (`physical`) changes what the robot feels.

    Args:
        task: with or without `-v3`.
        cameras: names among `CAMERAS`.
        settings: size and quality of the frames.
        shift, severity: the factor and its level from 0 (untouched) to 5.

    Raises:
        UserError: an argument names nothing that exists.
    """

    def __init__(
        self,
        task: str,
        cameras: Sequence[str] = ("corner2",),
        settings: RenderSettings | None = None,
        shift: str = CLEAN,
        severity: int = 0,
    ) -> None:
        self.task = resolve_task(task)
        self.cameras = check_cameras(cameras)
        self.settings = settings or RenderSettings()
        self._stages: dict[float, tuple[Any, ModelPainter]] = {}
        self._env, self._painter = self._stage(1.0)
        self._scale = 1.0
        self._change = Change()
        self._observation = np.zeros(39)
        self._seed, self._steps = 0, 0
        self.set_shift(shift, severity)

    def set_shift(self, shift: str, severity: int) -> None:
        """Chooses what the episodes from the next `reset` on look like."""
        check_shift(shift, severity)
        self.shift, self.severity = shift, severity

    def reset(self, seed: int) -> NDArray[np.float32]:
        """Starts the episode of `seed` and returns its first state `[4]`."""
        if seed < 0:
            raise UserError(f"seed is {seed}; it must be 0 or more")
        change = draw(self.shift, self.severity, self._start(seed, 1.0), seed)
        if change.object_scale != 1:
            change = draw(self.shift, self.severity, self._start(seed, change.object_scale), seed)
        self._change = change
        self._painter.apply(change)
        return self.state

    def _stage(self, scale: float) -> tuple[Any, ModelPainter]:
        """The simulation in which loose objects are `scale` times as large, and what paints it."""
        if scale not in self._stages:
            if len(self._stages) >= _MOST_SCALES:
                del self._stages[next(old for old in self._stages if old != 1)]
            env = _construct(self.task, scale)
            env.model.cam_pos[env.model.camera("corner2").id] = _CORNER2
            self._stages[scale] = env, ModelPainter(env.model, env.data, self.cameras)
        return self._stages[scale]

    def _start(self, seed: int, scale: float) -> Scene:
        """Begins the untouched episode, but for the size of objects, and returns its scene."""
        self._env, self._painter = self._stage(scale)
        self._scale, self._seed, self._steps = scale, seed, 0
        env = self._env
        env.seed(seed)
        env.reset(seed=seed)
        self._refresh()
        self._painter.apply(Change())
        path: list[NDArray[np.floating]] = [
            self._observation[:3],
            *(self._observation[part] for part in _LOOKED_AT),
        ]
        goal = env._target_pos
        # Objects that a task does not have are reported at the origin, which lies off the table.
        path = [p for p in path if np.any(p)] + ([np.asarray(goal)] if goal is not None else [])
        return self._painter.scene(path)

    def _refresh(self) -> None:
        """Puts things where the episode has them: Meta-World moves them after its last simulation step.

        In ten tasks the first frame and observation would else be up to 20 cm off. The physics stays bit for bit.
        """
        import mujoco

        env = self._env
        mujoco.mj_kinematics(env.model, env.data)
        env._prev_obs = env._get_curr_obs_combined_no_goal()
        self._observation = env._get_obs()

    def step(self, action: NDArray[np.floating]) -> Step:
        """Executes one action `[4]`, clipped to [-1, 1]."""
        clipped = np.clip(np.asarray(action, np.float32), -1, 1)
        self._observation, reward, _, _, info = self._env.step(clipped)
        self._steps += 1
        return Step(self.state, float(reward), bool(info["success"]))

    @property
    def state(self) -> NDArray[np.float32]:
        """What the robot feels: `[4]`, see `STATE_NAMES`."""
        return self._observation[:4].astype(np.float32)

    @property
    def observation39(self) -> NDArray[np.float64]:
        """Meta-World's full observation `[39]`, for the scripted expert alone."""
        return np.array(self._observation, np.float64)

    def render(self, camera: str | None = None, settings: RenderSettings | None = None) -> NDArray[np.uint8]:
        """A frame `[H, W, 3]` of the present state, by default of the first camera."""
        settings = settings or self.settings
        camera = camera or self.cameras[0]
        renderer = _renderer(self.task, settings.samples, self._scale)
        model, data = self._env.model, self._env.data
        frame = renderer.render(model, data, camera, settings, self._change.geoms, self._painter.bitmaps)
        for place, effect in enumerate(self._change.frame_effects):
            # Of the step and not of the call: a frame looked at twice is one frame.
            frame = effect(frame, np.random.default_rng([self._seed, self._steps, CAMERAS.index(camera), place]))
        return frame

    def images(self) -> dict[str, NDArray[np.uint8]]:
        """A frame of every camera."""
        return {camera: self.render(camera) for camera in self.cameras}

    def recording(self) -> dict[str, Any]:
        """What frames of this world depend on, as plain JSON: stored with data, compared before evaluation."""
        return {
            "task": self.task,
            "cameras": list(self.cameras),
            "settings": self.settings.to_dict(),
            "versions": world_versions(),
        }


def check_cameras(cameras: Sequence[str]) -> tuple[str, ...]:
    """The cameras, or a `UserError` that names those there are."""
    for camera in cameras:
        if camera not in CAMERAS:
            raise UserError(f"unknown camera {camera!r}; choose among: {', '.join(CAMERAS)}")
    if not cameras:
        raise UserError(f"no camera is named; choose among: {', '.join(CAMERAS)}")
    return tuple(cameras)


def world_versions() -> dict[str, str]:
    """Versions on which dynamics and pixels depend."""
    return {name: version(name) for name in ("mujoco", "metaworld")}


@cache
def _benchmark(task: str) -> Any:
    import metaworld

    return metaworld.MT1(task, seed=0)  # takes a second: once a process


def _construct(task: str, scale: float = 1.0) -> Any:
    benchmark = _benchmark(task)
    env = _env_class(benchmark.train_classes[task], scale)()
    env.set_task(benchmark.train_tasks[0])
    # Without these three, Meta-World ignores the seed of `reset` and repeats the task it was set to.
    env._freeze_rand_vec = False
    env.seeded_rand_vec = True
    env.reset()
    return env


@cache
def _env_class(meta_world: Any, scale: float) -> Any:
    """Meta-World's class, quicker, its model's loose objects scaled before anything reads it."""

    class Quick(QuickContacts, meta_world):
        def _initialize_simulation(self) -> tuple[Any, Any]:
            import mujoco

            first, data = super()._initialize_simulation()
            if scale == 1:
                return first, data
            model = scaled_model(self.fullpath, loose_bodies(first), scale)
            return model, mujoco.MjData(model)

    return Quick


def _renderer(task: str, samples: int, scale: float = 1.0) -> SceneRenderer:
    # Meshes and textures depend on these alone, so that one context serves all worlds. It takes up to 200 MB.
    key = task, samples, scale
    if key not in _renderers:
        while len(_renderers) >= _MOST_RENDERERS:
            _renderers.popitem(last=False)[1].close()
        _renderers[key] = SceneRenderer(_construct(task, scale).model, samples)
    _renderers.move_to_end(key)
    return _renderers[key]


@cache
def _untouched(task: str) -> Scene:
    env = _construct(task)
    return ModelPainter(env.model, env.data, ("corner2",)).scene([])


def supports(task: str, shift: str) -> str | None:
    """Why a task cannot be shifted so, as a whole sentence, or nothing if it can.

    Raises:
        UserError: there is no such task or factor.
    """
    check_shift(shift, 0)
    task = resolve_task(task)
    lacking = None if shift == CLEAN else SHIFTS[shift].lacks(_untouched(task))
    return None if lacking is None else f"{task} cannot be shifted by {shift}: {lacking}"

"""Demonstrations of the scripted expert, as a LeRobotDataset."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..data.demonstrations import Demonstration, Staging, read_recording, write_dataset
from ..errors import UserError
from ..processes import default_workers, each
from .rendering import RenderSettings, require_backend
from .tasks import description, expert, resolve_task
from .world import ACTION_NAMES, FPS, MAX_STEPS, STATE_NAMES, World, check_cameras, world_versions

AFTER_SUCCESS = 16
"""Steps recorded after success, so that the chunks and outcomes before it are real and not padding."""

_LEAST_SUCCESS = 0.05
"""Collection gives up where the expert succeeds less often than this."""


@dataclass(frozen=True)
class CollectRequest:
    """What is collected. Two requests that are equal make the same dataset.

    Args:
        noise: standard deviation of Gaussian noise on the executed and recorded actions, in action units.
    """

    task: str
    episodes: int
    cameras: tuple[str, ...] = ("corner2",)
    settings: RenderSettings = RenderSettings()
    noise: float = 0.0
    first_seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "task", resolve_task(self.task))
        check_cameras(self.cameras)
        if self.episodes < 1:
            raise UserError(f"--episodes is {self.episodes}; collect at least 1")
        if self.noise < 0:
            raise UserError(f"--noise is {self.noise}; it is a standard deviation and cannot be negative")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: what is asked, and the versions it is asked of."""
        return {
            "request": {"episodes": self.episodes, "noise": self.noise, "first_seed": self.first_seed},
            "world": {
                "task": self.task,
                "cameras": list(self.cameras),
                "settings": self.settings.to_dict(),
                "versions": world_versions(),
            },
        }


@dataclass(frozen=True)
class Collected:
    """What came of it."""

    out: Path
    episodes: int
    failed_seeds: tuple[int, ...]
    reused: bool
    """The dataset was there already."""


Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and how many there will be."""


def collect(request: CollectRequest, out: Path, progress: Progress, workers: int | None = None) -> Collected:
    """Collects `request.episodes` successes, of the lowest seeds that succeed, into `out`.

    A killed collection goes on where it was; a finished one is reused.

    Raises:
        UserError: `out` holds something else, the expert hardly ever succeeds, or nothing can be rendered.
    """
    if out.exists():
        return _reused(request, out)
    require_backend()
    staging = Staging(out, request.to_dict())
    tried = staging.outcomes()
    seeds = itertools.count(request.first_seed)
    untried = _until_enough(seeds, tried, request.episodes)
    progress("collecting", min(sum(tried.values()), request.episodes), request.episodes)
    for seed, success in each(partial(_one_episode, request, staging), untried, workers or default_workers()):
        tried[seed] = success
        progress("collecting", min(sum(tried.values()), request.episodes), request.episodes)
    successes = [seed for seed in sorted(tried) if tried[seed]][: request.episodes]
    failures = tuple(seed for seed in sorted(tried) if not tried[seed] and seed < successes[-1])
    write_dataset(
        out,
        staging,
        successes,
        fps=FPS,
        task=description(request.task),
        state_names=STATE_NAMES,
        action_names=ACTION_NAMES,
        recording={**request.to_dict(), "after_success": AFTER_SUCCESS, "failed_seeds": list(failures)},
        report=partial(progress, "writing"),
    )
    staging.discard()
    return Collected(out, len(successes), failures, reused=False)


def _reused(request: CollectRequest, out: Path) -> Collected:
    recording = read_recording(out)
    if recording is None:
        raise UserError(f"{out} exists and was not made by `dap collect`; choose another --out")
    for part, asked in request.to_dict().items():
        for key, value in asked.items():
            found = recording.get(part, {}).get(key)
            if found != value:
                raise UserError(f"{out} holds a collection with {key}={found}, not {value}; choose another --out")
    return Collected(out, len(recording["episodes"]), tuple(recording["failed_seeds"]), reused=True)


def _until_enough(seeds: Sequence[int] | itertools.count[int], tried: dict[int, bool], episodes: int) -> Any:
    """Seeds not tried yet, until the successes suffice; `tried` grows while this is read."""
    for seed in seeds:
        if sum(tried.values()) >= episodes:
            return
        if len(tried) >= 40 and sum(tried.values()) < _LEAST_SUCCESS * len(tried):
            raise UserError(
                f"the expert succeeded {sum(tried.values())} times in {len(tried)} episodes; "
                "less --noise or another task"
            )
        if seed not in tried:
            yield seed


def _one_episode(request: CollectRequest, staging: Staging, seed: int) -> bool:
    """Records one episode and stages it; runs in a worker process."""
    world = World(request.task, request.cameras, request.settings)
    act = expert(request.task)
    rng = np.random.default_rng([request.first_seed, seed])
    world.reset(seed)
    frames: dict[str, list[Any]] = {camera: [] for camera in request.cameras}
    states, actions = [], []
    success_step = 0
    for step in range(1, MAX_STEPS + 1):
        for camera, image in world.images().items():
            frames[camera].append(image)
        states.append(world.state)
        action = act(world.observation39)
        if request.noise:
            noisy = action + request.noise * rng.standard_normal(len(action))
            action = np.clip(noisy, -1, 1).astype(np.float32)
        actions.append(action)
        if world.step(action).success and not success_step:
            success_step = step
        if success_step and step >= success_step + AFTER_SUCCESS:
            break
    if not success_step:
        staging.failure(seed, len(actions))
        return False
    staging.success(
        Demonstration(
            seed,
            {camera: np.stack(images) for camera, images in frames.items()},
            np.stack(states),
            np.stack(actions),
            success_step,
        )
    )
    return True

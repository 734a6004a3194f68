"""Demonstrations of the scripted expert, and play beside them, as a LeRobotDataset."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..data.demonstrations import Listed, Staging, write_dataset
from ..errors import UserError
from ..files import read_recording, sole_run
from ..processes import default_workers, each
from .play import FIRST_SEED as PLAY_SEEDS
from .play import Play, record_play
from .record import AFTER_SUCCESS, Act, by_way_of, noisy, record
from .rendering import RenderSettings, require_backend
from .tasks import description, expert, resolve_task
from .world import ACTION_NAMES, FPS, STATE_NAMES, World, check_cameras, supports, world_versions

_FURTHEST = 0.3  # metres to either side that the hand can reach
_LEAST_SUCCESS = 0.05
"""Collection gives up where the expert succeeds less often than this."""


@dataclass(frozen=True)
class CollectRequest:
    """What is collected. Two requests that are equal make the same dataset.

    Args:
        episodes: successful demonstrations; may be 0 where there is play.
        noise: standard deviation of Gaussian noise on the demonstrations' executed and recorded actions, in action
            units.
        detour: metres. Above 0, the demonstrations are of two kinds: by a point so far to the right on the way to the
            object (even seeds), or to the left.
        first_seed: of the demonstrations; play begins so far behind its own first seed.
        play: what is collected beside the demonstrations, and stored behind them.
    """

    task: str
    episodes: int
    cameras: tuple[str, ...] = ("corner2",)
    settings: RenderSettings = RenderSettings()
    noise: float = 0.0
    first_seed: int = 0
    play: Play | None = None
    detour: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "task", resolve_task(self.task))
        check_cameras(self.cameras)
        if self.episodes < (self.play is None):
            raise UserError(f"--episodes is {self.episodes}; collect at least 1")
        if not 0 <= self.first_seed < PLAY_SEEDS:
            raise UserError(f"--seed is {self.first_seed}; it lies between 0 and {PLAY_SEEDS - 1}")
        if not 0 <= self.detour <= _FURTHEST:
            raise UserError(f"--detour is {self.detour}; it lies between 0 and {_FURTHEST} metres")
        if self.noise < 0:
            raise UserError(f"--noise is {self.noise}; it is a standard deviation and cannot be negative")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: what is asked, and the versions it is asked of."""
        return {
            "request": {
                "episodes": self.episodes,
                "noise": self.noise,
                "first_seed": self.first_seed,
                "play": None if self.play is None else self.play.to_dict(),
                **({"detour": self.detour} if self.detour else {}),
            },
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
    """Demonstrations."""
    failed_seeds: tuple[int, ...]
    reused: bool
    """The dataset was there already."""


Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and how many there will be."""


def collect(request: CollectRequest, out: Path, progress: Progress, workers: int | None = None) -> Collected:
    """Collects `request.episodes` successes, of the lowest seeds that succeed, into `out`, and play behind them.

    A killed collection goes on where it was; a finished one is reused.

    Raises:
        UserError: `out` holds something else, the expert hardly ever succeeds, the task lacks what play varies,
            or nothing can be rendered.
    """
    with sole_run(out, "collection"):
        return _collected(request, out, progress, workers)


def _collected(request: CollectRequest, out: Path, progress: Progress, workers: int | None) -> Collected:
    if out.exists():
        return _reused(request, out)
    require_backend()
    _check_play(request)
    staging = Staging(out, request.to_dict())
    workers = workers or default_workers()
    tried = {seed: kept for seed, kept in staging.outcomes().items() if seed < PLAY_SEEDS}
    seeds = itertools.count(request.first_seed)
    untried = _until_enough(seeds, tried, request.episodes)
    progress("collecting", min(sum(tried.values()), request.episodes), request.episodes)
    for seed, success in each(partial(_one_episode, request, staging), untried, workers):
        tried[seed] = success
        progress("collecting", min(sum(tried.values()), request.episodes), request.episodes)
    successes = [seed for seed in sorted(tried) if tried[seed]][: request.episodes]
    failures = tuple(seed for seed in sorted(tried) if not tried[seed] and seed < max(successes, default=0))
    played = _collect_play(request, staging, progress, workers)
    write_dataset(
        out,
        staging,
        [*(Listed(seed, description(request.task), {}) for seed in successes), *played],
        fps=FPS,
        state_names=STATE_NAMES,
        action_names=ACTION_NAMES,
        recording={**request.to_dict(), "after_success": AFTER_SUCCESS, "failed_seeds": list(failures)},
        report=partial(progress, "writing"),
    )
    staging.discard()
    return Collected(out, len(successes), failures, reused=False)


def _check_play(request: CollectRequest) -> None:
    """Raises `UserError` where the task lacks what play varies."""
    for factor in request.play.varied if request.play is not None else ():
        reason = supports(request.task, factor)
        if reason is not None:
            raise UserError(f"--varied: {reason}")


def _collect_play(request: CollectRequest, staging: Staging, progress: Progress, workers: int) -> list[Listed]:
    """Stages the play episodes that are not staged yet, and lists them all."""
    if request.play is None:
        return []
    seeds = request.play.seeds(request.first_seed)
    staged = staging.outcomes()
    untried = [seed for seed in seeds if seed not in staged]
    done = len(seeds) - len(untried)
    progress("playing", done, len(seeds))
    for _ in each(partial(_one_episode, request, staging), untried, workers):
        done += 1
        progress("playing", done, len(seeds))
    return [request.play.listed(seed) for seed in seeds]


def _reused(request: CollectRequest, out: Path) -> Collected:
    recording = read_recording(out / "meta")
    if recording is None:
        raise UserError(f"{out} exists and was not made by `dap collect`; choose another --out")
    for part, asked in request.to_dict().items():
        held = recording.get(part, {})
        for key in asked | held:
            found, value = held.get(key), asked.get(key)
            if found != value:
                raise UserError(f"{out} holds a collection with {key}={found}, not {value}; choose another --out")
    return Collected(out, request.episodes, tuple(recording["failed_seeds"]), reused=True)


def _until_enough(seeds: Sequence[int] | itertools.count[int], tried: dict[int, bool], episodes: int) -> Any:
    """Seeds not tried yet, until the successes suffice; `tried` grows while this is read.

    What a kill has left out below a later seed comes first, whatever suffices by then.
    """
    newest = max(tried, default=-1)
    for seed in seeds:
        if seed > newest and sum(tried.values()) >= episodes:
            return
        if len(tried) >= 40 and sum(tried.values()) < _LEAST_SUCCESS * len(tried):
            raise UserError(
                f"the expert succeeded {sum(tried.values())} times in {len(tried)} episodes; "
                "less --noise, less --detour or another task"
            )
        if seed not in tried:
            yield seed


def _one_episode(request: CollectRequest, staging: Staging, seed: int) -> bool:
    """Records one episode and stages it; runs in a worker process. Play is kept however it ends."""
    world = World(request.task, request.cameras, request.settings)
    if request.play is not None and seed >= PLAY_SEEDS:
        staging.keep(record_play(request.play, world, seed))
        return True
    act: Act = expert(request.task)
    if request.detour:
        act = by_way_of(act, request.detour if seed % 2 == 0 else -request.detour)
    if request.noise:
        act = noisy(act, request.noise, np.random.default_rng([request.first_seed, seed]))
    episode = record(world, act, seed)
    if episode.success_step is None:
        staging.failure(seed, len(episode.action))
        return False
    staging.keep(episode)
    return True

"""Carries out a plan: units over processes, each kept as soon as it is finished."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import claim_folder, read_json, sha256, write_json
from ..processes import each
from ..worlds.rendering import RenderSettings, require_backend
from ..worlds.shifts import CLEAN
from ..worlds.world import World, world_versions
from .episodes import BLIND, Episode
from .plan import Plan, Policy, Unit
from .policies import WEIGHTS_FILE, Planner, checkpoint_folder, environment_for
from .rollout import roll_out

Progress = Callable[[int, int], None]
"""Called with the episodes done and the episodes in all."""

_UNITS = "units"
_PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class Film:
    """The actions of one episode, from which it can be seen again."""

    policy: str
    shift: str
    severity: int
    seed: int
    success: bool
    actions: NDArray[np.float32]
    """`[T, 4]`"""


@cache
def versions() -> str:
    """What a result depends on, as one string."""
    names = {"dap": "lerobot_policy_dap", "lerobot": "lerobot", "torch": "torch"}
    parts = {label: version(name) for label, name in names.items()} | world_versions()
    return ", ".join(f"{label} {number}" for label, number in parts.items())


def check_plan(plan: Plan) -> None:
    """Raises `UserError` for what would otherwise fail in a worker, minutes later."""
    require_backend()
    for policy in plan.policies:
        environment_for(checkpoint_folder(policy.path), plan.task, plan.max_steps)


def run(plan: Plan, out: Path, workers: int, progress: Progress) -> tuple[list[Episode], list[Film]]:
    """Evaluates what is not evaluated yet and returns every episode, and the films.

    Raises:
        UserError: `out` holds the results of another plan or of other checkpoints.
    """
    check_plan(plan)
    claim_folder(out, _PLAN_FILE, _request(plan), "an evaluation")
    units = list(plan.units())
    total = sum(len(unit.seeds) for unit in units)
    open_units = [unit for unit in units if not _file(out, unit).exists()]
    done = total - sum(len(unit.seeds) for unit in open_units)
    progress(done, total)
    for unit, result in each(partial(evaluate, batch=plan.batch), open_units, workers):
        write_json(_file(out, unit), result)
        done += len(unit.seeds)
        progress(done, total)
    episodes, films = [], []
    for unit in units:
        rows = read_json(_file(out, unit))
        episodes += [Episode(**row) for row in rows["episodes"]]
        films += [Film(**{**film, "actions": np.asarray(film["actions"], np.float32)}) for film in rows["films"]]
    return episodes, films


def evaluate(unit: Unit, batch: int) -> dict[str, Any]:
    """The episodes of one unit, as plain JSON; runs in a worker process."""
    planner, worlds = _loaded(unit.policy, unit.task, unit.max_steps, unit.device, batch)
    blind = unit.shift == BLIND
    for world in worlds:
        world.set_shift(CLEAN if blind else unit.shift, unit.severity)
    outcomes, plan_ms = roll_out(planner, worlds[: len(unit.seeds)], unit.seeds, unit.max_steps, blind)
    rows = [
        Episode(
            policy=unit.policy.name,
            task=unit.task,
            shift=unit.shift,
            severity=unit.severity,
            seed=o.seed,
            success=o.success,
            steps=o.steps,
            episode_return=o.episode_return,
            plan_ms=plan_ms,
            checkpoint=planner.hash,
            versions=versions(),
        )
        for o in outcomes
    ]
    films = [
        {
            "policy": unit.policy.name,
            "shift": unit.shift,
            "severity": unit.severity,
            "seed": o.seed,
            "success": o.success,
            "actions": np.stack(o.actions).tolist(),
        }
        for o in outcomes
        if o.seed in unit.films
    ]
    return {"episodes": [asdict(row) for row in rows], "films": films}


@cache
def _loaded(
    policy: Policy, task: str, max_steps: int, device: str, batch: int
) -> tuple[Planner, tuple[World, ...]]:
    folder = checkpoint_folder(policy.path)
    env = environment_for(folder, task, max_steps)
    worlds = tuple(World(task, env.cameras, env.settings) for _ in range(batch))
    return Planner(folder, env, device), worlds


def show(film: Film, task: str, cameras: tuple[str, ...], size: int, every: int) -> list[NDArray[np.uint8]]:
    """Frames `[size, size, 3]` of a filmed episode, every so many steps, and its last; physics repeats exactly."""
    world = World(task, cameras, RenderSettings(size, size, samples=4))
    world.set_shift(CLEAN if film.shift == BLIND else film.shift, film.severity)
    world.reset(film.seed)
    frames = [world.render()]
    for i, action in enumerate(film.actions, start=1):
        world.step(action)
        if i % every == 0 or i == len(film.actions):
            frames.append(world.render())
    return frames


def _request(plan: Plan) -> dict[str, Any]:
    """What makes two runs the same run."""
    asked = {name: value for name, value in asdict(plan).items() if name != "policies"}
    return {**asked, "versions": versions(), "checkpoints": {p.name: _weights_hash(p) for p in plan.policies}}


def _weights_hash(policy: Policy) -> str:
    return sha256(checkpoint_folder(policy.path) / WEIGHTS_FILE)


def _file(out: Path, unit: Unit) -> Path:
    return out / _UNITS / f"{unit.key}.json"

"""Clean roll-outs of a checkpoint, with what it told on the way: what a monitor is calibrated on."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from ..monitor.scores import Plan
from ..monitor.signals import Signal
from ..processes import each
from ..worlds.world import World
from .policies import Planner, environment_for, recorded_world
from .rollout import roll_out
from .watching import Recorder

FIRST_SEED = 20_000
"""Calibration episodes start here: neither demonstrations nor evaluations (from 10,000) do."""
_BATCH = 10


class Rollout(NamedTuple):
    """One episode."""

    success: bool
    plans: list[Plan]


def own_task(folder: Path) -> str:
    """The task whose demonstrations the checkpoint learned from; a `UserError` where nothing says."""
    world = recorded_world(folder)
    if world is None or "task" not in world:
        raise UserError(f"{folder} does not say which task it learned; name it with --task")
    return str(world["task"])


def clean_rollouts(
    folder: Path,
    task: str,
    episodes: int,
    needs: frozenset[Signal],
    *,
    first_seed: int = FIRST_SEED,
    max_steps: int = 300,
    device: str = "cpu",
    workers: int = 1,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Rollout]:
    """`episodes` clean episodes of a checkpoint in their order, ten to a policy call.

    Args:
        needs: the signals to keep.
        report: called with the episodes done and the episodes in all.

    Raises:
        UserError: the checkpoint cannot act in the task.
    """
    environment_for(folder, task, max_steps)  # fails here, and not in a worker minutes later
    units = [
        range(s, min(s + _BATCH, first_seed + episodes)) for s in range(first_seed, first_seed + episodes, _BATCH)
    ]
    work = partial(_roll, folder=folder, task=task, needs=needs, max_steps=max_steps, device=device)
    found: dict[int, list[Rollout]] = {}
    report(0, episodes)
    for seeds, rolled in each(work, units, workers):
        found[seeds[0]] = rolled
        report(sum(map(len, found.values())), episodes)
    return [rollout for first in sorted(found) for rollout in found[first]]


def _roll(
    seeds: range, folder: Path, task: str, needs: frozenset[Signal], max_steps: int, device: str
) -> list[Rollout]:
    planner, worlds = _actor(folder, task, max_steps, device)
    recorder = Recorder(needs)
    outcomes, _ = roll_out(planner, worlds[: len(seeds)], seeds, max_steps, False, recorder)
    return [Rollout(outcome.success, recorder.plans[row]) for row, outcome in enumerate(outcomes)]


@lru_cache(maxsize=1)
def _actor(folder: Path, task: str, max_steps: int, device: str) -> tuple[Planner, list[World]]:
    env = environment_for(folder, task, max_steps)
    worlds = [World(task, env.cameras, env.settings) for _ in range(_BATCH)]
    return Planner(folder, env, device), worlds

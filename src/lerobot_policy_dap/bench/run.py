"""Carries out a plan: units over processes or a cluster, each kept as soon as it is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ..checkpoints import checkpoint_folder
from ..errors import UserError
from ..monitor.monitor import Monitor, find_monitor
from ..processes import Died, check_device, default_workers, surviving
from ..worlds.rendering import RenderSettings, require_backend
from ..worlds.shifts import CLEAN
from ..worlds.world import World, world_versions
from .cluster import surviving_on_ray
from .episodes import BLIND, Episode
from .expert import ScriptedPlanner
from .plan import Plan, Policy
from .policies import Planner as CheckpointPlanner
from .policies import environment_for
from .request import Request, claim, describe_request, guesses, monitor_hash, sole_writer
from .rollout import NotFiniteError, Outcome, Planner, roll_out
from .store import Actions, UnitKey, discard_shorter, discard_unit, plan_units, read_unit, write_unit
from .watching import Guard

Progress = Callable[[int, int], None]
"""Called with the episodes done and the episodes in all."""


@dataclass(frozen=True)
class Unit:
    """A few episodes of one cell: the piece of work that a process takes, and that is kept or repeated whole.

    Args:
        checkpoint: the hash that the policy had when the run began.
        monitor: the hash that its monitor had then; None where it had none.
        films: seeds whose actions are kept however they end.
    """

    key: UnitKey
    policy: Policy
    checkpoint: str
    monitor: str | None
    films: frozenset[int]
    max_steps: int
    device: str
    versions: str


Finished = tuple[list[Episode], dict[int, Actions]]
"""The episodes of a unit, and the actions of those that can be seen again, by seed."""


@cache
def versions() -> str:
    """What a result depends on, as one string."""
    names = {"dap": "lerobot_policy_dap", "lerobot": "lerobot", "torch": "torch"}
    parts = {label: version(name) for label, name in names.items()} | world_versions()
    return ", ".join(f"{label} {number}" for label, number in parts.items())


def check_plan(plan: Plan, here: bool = True) -> None:
    """Raises `UserError` for what would otherwise fail in a worker, minutes later.

    Args:
        here: whether policies compute on this machine, and not on a cluster, whose nodes may have other devices.
    """
    check_device(plan.device, here and any(policy.path is not None for policy in plan.policies))
    require_backend()
    for policy in plan.policies:
        for task in plan.tasks:
            _environment(policy, task, plan.max_steps)
        _monitor(policy)


def run(
    plan: Plan,
    out: Path,
    workers: int | None,
    progress: Progress,
    *,
    ray: str | None = None,
    say: Callable[[str], None] = print,
    command: str = "",
) -> list[UnitKey]:
    """Evaluates what is not evaluated yet; `store.open_results` reads what is then in `out`.

    Args:
        workers: processes, one a core if None; on a cluster units at once, one a CPU if None.
        ray: address of a Ray cluster that takes the place of processes here.
        say: called with a line about what was found damaged.
        command: what the user typed, for the report.

    Returns:
        The units given up, because each killed its process several times; everything else is finished.

    Raises:
        UserError: bad input, or `out` holds what the plan cannot be joined to. Everything finished stays.
    """
    check_plan(plan, here=ray is None)
    with sole_writer(out):
        asked = describe_request(plan, versions(), command)
        units = list(_units(plan, asked, claim(out, asked, say)))
        for guess in guesses(asked):
            say(guess)
        todo = [unit for unit in units if not _is_finished(out, unit.key, say)]
        total = sum(unit.key.count for unit in units)
        done = total - sum(unit.key.count for unit in todo)
        progress(done, total)
        lost: list[UnitKey] = []
        results = (
            surviving(evaluate, todo, workers or default_workers())
            if ray is None
            else surviving_on_ray(evaluate, todo, ray, workers)
        )
        for unit, result in results:
            if isinstance(result, Died):
                lost.append(unit.key)
                continue
            rows, actions = result
            write_unit(out, unit.key, rows, actions)
            done += len(rows)
            progress(done, total)
    return lost


def give_up(lost: Sequence[UnitKey]) -> None:
    """Raises `UserError` for units that killed their processes, in one line."""
    if lost:
        which = "; ".join(unit.words() for unit in lost)
        raise UserError(
            f"the worker process died each time it evaluated {which} (out of memory?); "
            "everything else is finished and kept: run the command again to try these again"
        )


def evaluate(unit: Unit) -> Finished:
    """The episodes of one unit; runs in a worker process.

    Raises:
        UserError: the checkpoint, its monitor or the software is no longer what it was when the run began.
    """
    if versions() != unit.versions:
        raise UserError(f"a worker has {versions()}, and the run began with {unit.versions}")
    key = unit.key
    planner, worlds = _loaded(unit)
    if planner.hash != unit.checkpoint:
        raise UserError(f"the checkpoint {unit.policy.path} was replaced during the run")
    monitor, calibration = _monitor(unit.policy)
    if calibration != unit.monitor:
        raise UserError(f"the monitor of {unit.policy.path} was replaced during the run")
    blind = key.shift == BLIND
    for world in worlds:
        world.set_shift(CLEAN if blind else key.shift, key.severity)
    guard = None if monitor is None else Guard(monitor)
    try:
        outcomes, plan_ms = roll_out(planner, worlds, key.seeds, unit.max_steps, blind, guard)
    except NotFiniteError as error:
        raise UserError(f"{unit.policy} gives actions that are not finite: {error}; leave it out") from error
    rows = [
        Episode(
            policy=key.policy,
            task=key.task,
            shift=key.shift,
            severity=key.severity,
            seed=o.seed,
            success=o.success,
            steps=o.steps,
            episode_return=o.episode_return,
            plan_ms=plan_ms,
            checkpoint=unit.checkpoint,
            versions=unit.versions,
            training_seed=key.training_seed,
            p_value=guard.p_values.get(i) if guard else None,
            alarm_step=guard.alarm_steps.get(i) if guard else None,
        )
        for i, o in enumerate(outcomes)
    ]
    return rows, {o.seed: np.stack(o.actions) for o in _worth_seeing(outcomes, unit.films)}


def _units(plan: Plan, asked: Request, whole: Request) -> Iterator[Unit]:
    """The units of the whole folder's plan that hold an episode which is asked for now."""
    cells = {tuple(cell[name] for name in UnitKey.CELL): cell["episodes"] for cell in asked["cells"]}
    order = {cell: i for i, cell in enumerate(cells)}
    keys = [k for k in plan_units(whole) if k.first_seed < plan.first_seed + cells.get(k.cell, 0)]
    policies = {(policy.name, policy.training_seed): policy for policy in plan.policies}
    hashes = {(p["name"], p["training_seed"]): (p["checkpoint"], p["monitor"]) for p in asked["policies"]}
    films = frozenset(range(plan.first_seed, plan.first_seed + plan.films))
    for key in sorted(keys, key=lambda k: order[k.cell]):
        who = key.policy, key.training_seed
        yield Unit(
            key,
            policies[who],
            *hashes[who],
            films,
            plan.max_steps,
            plan.device,
            asked["settings"]["versions"],
        )


def _is_finished(out: Path, unit: UnitKey, say: Callable[[str], None]) -> bool:
    try:
        if read_unit(out, unit) is None:
            return False
        discard_shorter(out, unit)  # which older versions left there when they were killed at the wrong moment
        return True
    except UserError as error:
        say(f"evaluated again: {error}")
        discard_unit(out, unit)
        return False


def _worth_seeing(outcomes: Sequence[Outcome], films: frozenset[int]) -> list[Outcome]:
    """The chosen episodes, and the first that failed: a report wants to show how."""
    failed = [o.seed for o in outcomes if not o.success][:1]
    return [o for o in outcomes if o.seed in films or o.seed in failed]


def _environment(policy: Policy, task: str, max_steps: int) -> tuple[tuple[str, ...], RenderSettings]:
    """Cameras and render settings under which the policy acts; the expert looks at nothing."""
    if policy.path is None:
        return ("corner2",), RenderSettings()
    env = environment_for(checkpoint_folder(policy.path), task, max_steps)
    return env.cameras, env.settings


# A process meets the units of one task and one policy after the other. A world holds 20 MB: few tasks' are kept.


def _loaded(unit: Unit) -> tuple[Planner, list[World]]:
    """The unit's planner, and a world for each of its episodes."""
    task = unit.key.task
    planner, cameras, settings = _actor(unit.policy, task, unit.max_steps, unit.device)
    worlds = _worlds(task, cameras, settings)
    while len(worlds) < unit.key.count:
        worlds.append(World(task, cameras, settings))
    return planner, worlds[: unit.key.count]


@lru_cache(maxsize=4)
def _actor(
    policy: Policy, task: str, max_steps: int, device: str
) -> tuple[Planner, tuple[str, ...], RenderSettings]:
    """The policy, and the cameras and render settings that it is used to."""
    seen = _environment(policy, task, max_steps)
    if policy.path is None:
        return ScriptedPlanner(task), *seen
    folder = checkpoint_folder(policy.path)
    return CheckpointPlanner(folder, environment_for(folder, task, max_steps), device), *seen


@lru_cache(maxsize=4)
def _monitor(policy: Policy) -> tuple[Monitor | None, str | None]:
    """The monitor beside the policy's checkpoint, if it was calibrated, and its hash."""
    if policy.path is None:
        return None, None
    folder = checkpoint_folder(policy.path)
    calibration = monitor_hash(folder)
    return find_monitor(folder), calibration


@lru_cache(maxsize=1)
def _worlds(task: str, cameras: tuple[str, ...], settings: RenderSettings) -> list[World]:
    """Grows with the units that use it."""
    return []

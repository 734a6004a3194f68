"""What is evaluated: cells of policy, task, factor and severity, cut into units of a few episodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from ..worlds.shifts import CLEAN, check_shift
from ..worlds.tasks import resolve_task
from ..worlds.world import MAX_STEPS, supports
from .episodes import BLIND, EXPERT

FIRST_SEED = 10_000
"""Held-out episodes start here; demonstrations are collected from seed 0 on."""


@dataclass(frozen=True)
class Policy:
    """A checkpoint under the name that the report gives it.

    Args:
        name: of the policy; several checkpoints of one name are training replicates.
        path: the checkpoint; None for the scripted expert.
        training_seed: tells replicates apart.
    """

    name: str
    path: Path | None
    training_seed: int = 0

    def __str__(self) -> str:
        return f"{self.name}@{self.training_seed}"


class Cell(NamedTuple):
    """Episodes of one policy under one condition."""

    policy: str
    training_seed: int
    task: str
    shift: str
    severity: int
    episodes: int


@dataclass(frozen=True)
class Plan:
    """A grid of cells on the same seeds.

    Args:
        policies: what is evaluated.
        tasks: on what.
        conditions: factors and severities; the clean arm is always evaluated, and so is the blind floor of
            whatever sees images.
        episodes: seeds of a shifted cell and of the floor.
        clean_episodes: seeds of the clean cell, at least `episodes`.
        max_steps: an episode that has not succeeded by then has failed.
        left_out: pairs of task and factor that are not evaluated, since the task lacks what the factor changes.
        batch: episodes that share a policy call.
        films: seeds of every cell, from the first on, whose actions are kept for videos; so are those of the
            first failure in each unit.
        first_seed: the first held-out seed.
        device: torch's name of the device on which policies compute.
    """

    policies: tuple[Policy, ...]
    tasks: tuple[str, ...]
    conditions: tuple[tuple[str, int], ...]
    episodes: int
    clean_episodes: int
    max_steps: int
    left_out: tuple[tuple[str, str], ...] = ()
    batch: int = 10
    films: int = 1
    first_seed: int = FIRST_SEED
    device: str = "cpu"

    def cells(self) -> Iterator[Cell]:
        """One task after the other, and in it one policy after the other: a process keeps one set of worlds."""
        for task in self.tasks:
            shifted = [(shift, level) for shift, level in self.conditions if (task, shift) not in self.left_out]
            for policy in self.policies:
                who = policy.name, policy.training_seed, task
                yield Cell(*who, CLEAN, 0, self.clean_episodes)
                if policy.path is not None:
                    yield Cell(*who, BLIND, 0, self.episodes)
                for shift, level in shifted:
                    yield Cell(*who, shift, level, self.episodes)


def make_plan(
    policies: Sequence[Policy],
    tasks: Sequence[str],
    shifts: Sequence[str],
    severities: Sequence[int],
    *,
    where_possible: bool = False,
    **numbers: Any,
) -> Plan:
    """A checked plan.

    Args:
        where_possible: leave out the factors that a task has no object for, instead of refusing them.
        numbers: the other arguments of `Plan`.

    Raises:
        UserError: an unknown task, factor or severity, a factor that a task has no object for, policies that
            cannot be told apart, or numbers that make no grid.
    """
    _check_names(policies)
    for severity in severities:
        if severity < 1:
            raise UserError(
                f"severity is {severity}; name levels from 1 to 5 (the clean world is always evaluated)"
            )
    for shift in shifts:
        for severity in severities or (1,):
            check_shift(shift, severity)
    if shifts and not severities:
        raise UserError("--severity names no level; give some from 1 to 5, such as 1,3,5")
    if not tasks:
        raise UserError("--task names no task; `dap collect --list-tasks` lists them")
    names = tuple(dict.fromkeys(resolve_task(task) for task in tasks))
    shifts, severities = list(dict.fromkeys(shifts)), list(dict.fromkeys(severities))
    reasons = {(task, shift): why for task in names for shift in shifts if (why := supports(task, shift))}
    if reasons and not where_possible:
        raise UserError(next(iter(reasons.values())))
    plan = Plan(
        tuple(policies),
        names,
        tuple((shift, severity) for shift in shifts for severity in severities),
        left_out=tuple(reasons),
        **numbers,
    )
    for name, value in (("--episodes", plan.episodes), ("--batch", plan.batch), ("--max-steps", plan.max_steps)):
        if value < 1:
            raise UserError(f"{name} is {value}; it must be at least 1")
    if plan.max_steps > MAX_STEPS:
        raise UserError(f"--max-steps is {plan.max_steps}; Meta-World ends every episode after {MAX_STEPS}")
    if plan.first_seed < 0:
        raise UserError(f"--first-seed is {plan.first_seed}; it must be 0 or more")
    if plan.clean_episodes < plan.episodes:
        raise UserError(
            "--clean-episodes must be at least --episodes: shifted episodes are paired with clean ones"
        )
    return plan


def _check_names(policies: Sequence[Policy]) -> None:
    if not policies:
        raise UserError("--policy names nothing to evaluate; give NAME=CHECKPOINT, or expert")
    seen: set[str] = set()
    for policy in policies:
        if str(policy) in seen:
            raise UserError(
                f"two policies are {policy}; name them apart: NAME=CHECKPOINT, or NAME@SEED=CHECKPOINT for replicates"
            )
        seen.add(str(policy))
        if not policy.name.replace("_", "").replace("-", "").replace(".", "").isalnum():
            raise UserError(f"policy name {policy.name!r} must be made of letters, digits, '-', '_' and '.'")
        if (policy.name == EXPERT) != (policy.path is None):
            raise UserError(
                f"the name {EXPERT!r} is kept for the scripted expert; give the checkpoint another one"
            )

"""What is evaluated: cells of policy, shift and severity, cut into units of a few episodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..worlds.shifts import CLEAN, check_shift
from ..worlds.tasks import resolve_task
from .episodes import BLIND

FIRST_SEED = 10_000
"""Held-out episodes start here; demonstrations are collected from seed 0 on."""


@dataclass(frozen=True)
class Policy:
    """A checkpoint under the name that the report gives it."""

    name: str
    path: Path


@dataclass(frozen=True)
class Plan:
    """A grid of cells on the same seeds.

    Args:
        policies: what is evaluated.
        task: on what.
        conditions: shifts and severities; the clean arm and the blind floor are always evaluated.
        episodes: seeds of a shifted cell and of the floor.
        clean_episodes: seeds of the clean cell, at least `episodes`.
        max_steps: an episode that has not succeeded by then has failed.
        batch: episodes that share a policy call.
        films: seeds of every cell, from the first on, whose actions are kept for videos.
        first_seed: the first held-out seed.
        device: torch's name of the device on which policies compute.
    """

    policies: tuple[Policy, ...]
    task: str
    conditions: tuple[tuple[str, int], ...]
    episodes: int
    clean_episodes: int
    max_steps: int
    batch: int = 10
    films: int = 1
    first_seed: int = FIRST_SEED
    device: str = "cpu"

    def units(self) -> Iterator[Unit]:
        """Every unit of the plan; all policies of a condition follow each other, the clean ones first."""
        cells = [(CLEAN, 0, self.clean_episodes), (BLIND, 0, self.episodes)]
        cells += [(shift, severity, self.episodes) for shift, severity in self.conditions]
        for shift, severity, n in cells:
            for start in range(0, n, self.batch):
                seeds = tuple(self.first_seed + i for i in range(start, min(start + self.batch, n)))
                films = tuple(s for s in seeds if s < self.first_seed + self.films)
                for policy in self.policies:
                    yield Unit(policy, self.task, shift, severity, seeds, films, self.max_steps, self.device)


@dataclass(frozen=True)
class Unit:
    """A few episodes of one cell: the piece of work that a process takes, and that is kept or repeated whole."""

    policy: Policy
    task: str
    shift: str
    severity: int
    seeds: tuple[int, ...]
    films: tuple[int, ...]
    max_steps: int
    device: str

    @property
    def key(self) -> str:
        """A name for the unit's file."""
        return f"{self.policy.name}-{self.task}-{self.shift}-{self.severity}-{self.seeds[0]}"


def make_plan(
    policies: Sequence[Policy],
    task: str,
    shifts: Sequence[str],
    severities: Sequence[int],
    **numbers: Any,
) -> Plan:
    """A checked plan.

    Raises:
        UserError: an unknown task, shift or severity, two policies of one name, or numbers that make no grid.
    """
    names = [p.name for p in policies]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two policies are named {name!r}; name them: NAME=CHECKPOINT")
        if not name.replace("_", "").replace("-", "").replace(".", "").isalnum():
            raise UserError(f"policy name {name!r} must be made of letters, digits, '-', '_' and '.'")
    for severity in severities:
        if severity < 1:
            raise UserError(
                f"severity is {severity}; name levels from 1 to 5 (the clean world is always evaluated)"
            )
        for shift in shifts:
            check_shift(shift, severity)
    plan = Plan(
        tuple(policies),
        resolve_task(task),
        tuple((shift, severity) for shift in shifts for severity in severities),
        **numbers,
    )
    if plan.episodes < 1 or plan.batch < 1:
        raise UserError("--episodes and --batch must be at least 1")
    if plan.clean_episodes < plan.episodes:
        raise UserError(
            "--clean-episodes must be at least --episodes: shifted episodes are paired with clean ones"
        )
    return plan

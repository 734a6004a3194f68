"""Episodes by condition and seed: which can be compared with which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from . import words
from .episodes import BLIND, CLEAN, Episode

Key = tuple[str, str, str, int]
"""Policy, task, shift, severity."""


class Pairing:
    """Success of every episode, by condition and seed, in the order of the report."""

    def __init__(self, episodes: Iterable[Episode], meta: Mapping[str, Any]) -> None:
        self.cells: dict[Key, dict[int, Episode]] = {}
        checkpoints: dict[str, str] = {}
        versions: str | None = None
        for episode in episodes:
            key = (episode.policy, episode.task, episode.shift, episode.severity)
            cell = self.cells.setdefault(key, {})
            if episode.seed in cell:
                where = words.under(episode.shift, episode.severity)
                raise UserError(f"seed {episode.seed} of {episode.policy} {where} occurs twice; keep one of them")
            cell[episode.seed] = episode
            if checkpoints.setdefault(episode.policy, episode.checkpoint) != episode.checkpoint:
                raise UserError(f"policy {episode.policy} names two checkpoints; give each its own name")
            versions = episode.versions if versions is None else versions
            if versions != episode.versions:
                raise UserError(
                    f"episodes of different software cannot be compared ({versions!r} and "
                    f"{episode.versions!r}); evaluate again with one of them"
                )
        if not self.cells:
            raise UserError("there are no episodes to summarise; run the evaluation first")
        self.policies = _ordered({key[0] for key in self.cells}, meta.get("policies"))
        self.tasks = sorted({key[1] for key in self.cells})
        shifts = _ordered({key[2] for key in self.cells} - {CLEAN, BLIND}, meta.get("shifts"))
        rank = {shift: i for i, shift in enumerate([CLEAN, *shifts, BLIND])}
        self.conditions = sorted({key[2:] for key in self.cells}, key=lambda c: (rank[c[0]], c[1]))
        self.shifted = [c for c in self.conditions if c[0] not in (CLEAN, BLIND)]
        self.keys = [
            (policy, task, *c)
            for task in self.tasks
            for policy in self.policies
            for c in self.conditions
            if (policy, task, *c) in self.cells
        ]
        # The one named first is the baseline: differences are later minus earlier.
        self.pairs = [(a, b) for b, a in combinations(self.policies, 2)]

    def has(self, policy: str, task: str, condition: tuple[str, int]) -> bool:
        return (policy, task, *condition) in self.cells

    def common(self, keys: Sequence[Key]) -> NDArray[np.float64]:
        """Success `[seeds, len(keys)]` on the seeds that all the conditions have; none when one is missing."""
        members = [self.cells.get(key, {}) for key in keys]
        seeds = sorted(set(members[0]).intersection(*members)) if members else []
        table = [[member[seed].success for member in members] for seed in seeds]
        return np.asarray(table, dtype=np.float64).reshape(len(seeds), len(keys))


def _ordered(names: set[str], listed: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """The names in the order of the list, then what it does not hold by the alphabet."""
    rank = {str(entry.get("name")): i for i, entry in enumerate(listed or [])}
    return sorted(names, key=lambda name: (rank.get(name, len(rank)), name))

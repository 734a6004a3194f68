"""Episodes by condition, training seed and seed: which can be compared with which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from . import words
from .episodes import BLIND, CLEAN, EXPERT, Episode

Key = tuple[str, str, str, int]
"""Policy, task, shift, severity."""

Block = NDArray[np.bool_]
"""Success `[training seeds, seeds, keys]`; all of them paired."""


class Pairing:
    """Success of every episode, by condition, training seed and seed, in the order of the report."""

    def __init__(self, episodes: Iterable[Episode], meta: Mapping[str, Any]) -> None:
        self.cells: dict[Key, dict[int, dict[int, Episode]]] = {}
        checkpoints: dict[tuple[str, str, int], str] = {}
        versions: str | None = None
        for episode in episodes:
            key = (episode.policy, episode.task, episode.shift, episode.severity)
            run = self.cells.setdefault(key, {}).setdefault(episode.training_seed, {})
            if episode.seed in run:
                where = words.under(episode.shift, episode.severity)
                raise UserError(f"seed {episode.seed} of {episode.policy} {where} occurs twice; keep one of them")
            run[episode.seed] = episode
            trained = (episode.policy, episode.task, episode.training_seed)
            if checkpoints.setdefault(trained, episode.checkpoint) != episode.checkpoint:
                raise UserError(
                    f"policy {episode.policy} names two checkpoints; give each its own name or training seed"
                )
            versions = episode.versions if versions is None else versions
            if versions != episode.versions:
                raise UserError(
                    f"episodes of different software cannot be compared ({versions!r} and "
                    f"{episode.versions!r}); evaluate again with one of them"
                )
        if not self.cells:
            raise UserError("there are no episodes to summarise; run the evaluation first")
        self.versions = str(versions)
        self.policies = _ordered({key[0] for key in self.cells}, meta.get("policies"))
        self.learned = [policy for policy in self.policies if policy != EXPERT]
        self.policies = [*self.learned, *(policy for policy in self.policies if policy == EXPERT)]
        self.tasks = sorted({key[1] for key in self.cells})
        self.shifts = _ordered({key[2] for key in self.cells} - {CLEAN, BLIND}, meta.get("shifts"))
        self.physical = {str(s["name"]) for s in meta.get("shifts") or [] if s.get("physical")}
        self.visual = [shift for shift in self.shifts if shift not in self.physical]
        rank = {shift: i for i, shift in enumerate([CLEAN, *self.shifts, BLIND])}
        self.conditions = sorted({key[2:] for key in self.cells}, key=lambda c: (rank[c[0]], c[1]))
        self.keys = [
            (policy, task, *c)
            for task in self.tasks
            for policy in self.policies
            for c in self.conditions
            if (policy, task, *c) in self.cells
        ]
        # The one named first is the baseline: differences are later minus earlier.
        self.pairs = [(a, b) for b, a in combinations(self.learned, 2)]
        self._runs: dict[Key, dict[int, tuple[NDArray[np.int64], Block]]] = {
            key: {training: _columns(run) for training, run in sorted(runs.items())}
            for key, runs in self.cells.items()
        }

    def severities(self, shift: str, task: str, *policies: str) -> list[int]:
        """The severities of a shift that all the policies were run at."""
        return [s for name, s in self.conditions if name == shift and all(
            (policy, task, name, s) in self.cells for policy in policies
        )]  # fmt: skip

    def training_seeds(self, policy: str) -> list[int]:
        """The training seeds of a policy, on any task."""
        return sorted({seed for key, runs in self.cells.items() if key[0] == policy for seed in runs})

    def common(self, keys: Sequence[Key]) -> Block:
        """Success on the training seeds and seeds that all the conditions have; empty when one is missing.

        Conditions of one policy are matched by training seed. So are policies, where one has no training seed that
        another lacks: the same seed gave them the same noise and batches. Otherwise they are matched by the order of
        their training seeds, the first of one beside the first of the other, as many as both have.
        """
        by_policy: dict[str, list[int]] = {}
        for policy in dict.fromkeys(key[0] for key in keys):
            members = [self._runs.get(key, {}).keys() for key in keys if key[0] == policy]
            by_policy[policy] = sorted(set(members[0]).intersection(*members))
        fewest = min(by_policy.values(), key=len, default=[])
        runs = len(fewest)
        if all(set(fewest).issubset(seeds) for seeds in by_policy.values()):
            by_policy = dict.fromkeys(by_policy, fewest)
        cells = [[self._runs[key][by_policy[key[0]][run]] for key in keys] for run in range(runs)]
        first = cells[0][0][0] if cells else np.empty(0, np.int64)
        if all(np.array_equal(seeds, first) for row in cells for seeds, _ in row):
            shared = first
            table = [[success for _, success in row] for row in cells]
        else:
            shared = first
            for row in cells:
                for seeds, _ in row:
                    shared = np.intersect1d(shared, seeds, assume_unique=True)
            table = [[success[np.searchsorted(seeds, shared)] for seeds, success in row] for row in cells]
        block = np.asarray(table, dtype=bool).reshape(runs, len(keys), len(shared))
        return block.transpose(0, 2, 1)


def _columns(run: Mapping[int, Episode]) -> tuple[NDArray[np.int64], Block]:
    seeds = sorted(run)
    return np.asarray(seeds, np.int64), np.asarray([run[seed].success for seed in seeds], dtype=bool)


def _ordered(names: set[str], listed: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """The names in the order of the list, then what it does not hold by the alphabet."""
    rank = {str(entry.get("name")): i for i, entry in enumerate(listed or [])}
    return sorted(names, key=lambda name: (rank.get(name, len(rank)), name))

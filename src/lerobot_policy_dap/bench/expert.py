"""The scripted expert in a policy's place: whether the task can be solved at all under a condition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..worlds.tasks import Expert, expert
from ..worlds.world import World
from .rollout import Look, Watcher

HASH = "expert"
"""Stands in the tables where a checkpoint has its hash; the versions beside it say which expert it was."""


class ScriptedPlanner:
    """Acts on the full state, without images: visual factors cannot move it, physical ones can.

    Args:
        task: whose expert it is.
    """

    hash = HASH
    chunked = False
    plans_next = True

    def __init__(self, task: str) -> None:
        self._task = task
        self._experts: list[Expert] = []

    def reset(self, seeds: Sequence[int]) -> None:
        """A fresh expert an episode: some keep state."""
        self._experts = [expert(self._task) for _ in seeds]

    def observe(
        self, worlds: Sequence[World], running: Sequence[bool], blind: bool = False
    ) -> list[NDArray[np.float64] | None]:
        """Full observations `[39]`, None where the episode is over."""
        return [world.observation39 if on else None for world, on in zip(worlds, running, strict=True)]

    def plan(self, observation: list[NDArray[np.float64] | None]) -> NDArray[np.float32]:
        """Actions `[worlds, 1, 4]`."""
        still = np.zeros(4, np.float32)
        actions = [still if o is None else act(o) for act, o in zip(self._experts, observation, strict=True)]
        return np.stack(actions)[:, None]

    def look_back(self, watcher: Watcher, looks: Sequence[Look]) -> None:
        """Shows nothing: an expert knows the state, and expects nothing."""

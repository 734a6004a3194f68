"""The 50 Meta-World v3 tasks and their scripted experts."""

from __future__ import annotations

import difflib
import json
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError


class Expert(Protocol):
    """A scripted policy that reads the whole state."""

    def __call__(self, observation: NDArray[np.float64]) -> NDArray[np.float32]:
        """The action `[4]` in [-1, 1] for the full observation `[39]`."""
        ...


@cache
def _catalogue() -> dict[str, Any]:
    # LeRobot ships the table (descriptions, difficulty, expert's name); its Python module would import Meta-World.
    text = (files("lerobot.envs") / "metaworld_config.json").read_text(encoding="utf-8")
    catalogue: dict[str, Any] = json.loads(text)
    return catalogue


def tasks() -> tuple[str, ...]:
    """All task names, as in `drawer-open-v3`, in alphabetical order."""
    return tuple(sorted(_catalogue()["TASK_POLICY_MAPPING"]))


def resolve_task(name: str) -> str:
    """The full name of a task given with or without `-v3`.

    Raises:
        UserError: there is no such task.
    """
    full = name if name.endswith("-v3") else f"{name}-v3"
    if full not in tasks():
        near = ", ".join(n.removesuffix("-v3") for n in difflib.get_close_matches(full, tasks(), n=3))
        hint = f"did you mean {near}? " if near else ""
        raise UserError(f"unknown task {name!r}; {hint}`dap collect --list-tasks` lists them all")
    return full


def description(task: str) -> str:
    """The task in words."""
    return str(_catalogue()["TASK_DESCRIPTIONS"][task])


def difficulty(task: str) -> str:
    """`easy`, `medium`, `hard` or `very_hard`, as Meta-World's authors and LeRobot group the tasks."""
    for level, members in _catalogue()["DIFFICULTY_TO_TASKS"].items():
        if task in members:
            return str(level)
    return "unknown"


def expert(task: str) -> Expert:
    """A fresh scripted expert (some keep state: take one an episode)."""
    import metaworld.policies

    scripted = getattr(metaworld.policies, _catalogue()["TASK_POLICY_MAPPING"][task])()

    def act(observation: NDArray[np.float64]) -> NDArray[np.float32]:
        clipped: NDArray[np.float32] = np.clip(scripted.get_action(observation), -1, 1).astype(np.float32)
        return clipped

    return act

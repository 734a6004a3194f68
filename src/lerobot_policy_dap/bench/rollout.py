"""A few episodes at once: worlds step side by side, the policy plans for all that still run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UserError
from ..worlds.world import World


class Planner(Protocol):
    """What acts in several worlds at once: a checkpoint (`policies.Planner`) or the scripted expert."""

    hash: str
    """Of the checkpoint."""
    chunked: bool
    """Whether it plans from what it sees at that moment alone, so that finished worlds need not be shown."""

    @property
    def plans_next(self) -> bool:
        """Whether the next call of `plan` computes something worth timing."""
        ...

    def reset(self, seeds: Sequence[int]) -> None:
        """Starts one episode a seed."""
        ...

    def observe(self, worlds: Sequence[World], running: Sequence[bool], blind: bool = False) -> Any:
        """What `plan` takes."""
        ...

    def plan(self, observation: Any) -> NDArray[np.float32]:
        """Actions `[worlds, steps, A]`."""
        ...

    def look_back(self, watcher: Watcher, looks: Sequence[Look]) -> None:
        """Shows `watcher` what the last call of `plan` saw and planned, where there is something to show."""
        ...


class NotFiniteError(UserError):
    """A policy gave an action that is no number; the message says where."""


class Look(NamedTuple):
    """Where one episode stood when a chunk was planned for it."""

    place: int
    """Its place in the call of `plan`."""
    row: int
    """Its place among the episodes."""
    step: int
    """Control steps since it began."""


class Watcher(Protocol):
    """Follows what a policy sees and plans in each episode; it changes nothing."""

    def look(self, policy: Any, batch: dict[str, Any], chunk: Tensor | None, looks: Sequence[Look]) -> None:
        """Is called whenever a chunk was computed.

        Args:
            batch: normalised, as the policy got it.
            chunk: `[worlds, H, A]`, normalised; None where the policy tells single actions only.
        """
        ...


@dataclass
class Outcome:
    """How one episode went."""

    seed: int
    success: bool = False
    steps: int = 0
    episode_return: float = 0.0
    actions: list[NDArray[np.float32]] = field(default_factory=list)


def roll_out(
    planner: Planner,
    worlds: Sequence[World],
    seeds: Sequence[int],
    max_steps: int,
    blind: bool,
    watcher: Watcher | None = None,
) -> tuple[list[Outcome], float]:
    """Runs one episode in each world.

    Returns:
        The outcomes in the order of `seeds`, and the median time of a planning call in milliseconds (rendering
        its frames not counted).

    Raises:
        NotFiniteError: an action holds an infinity, or no number.
    """
    outcomes = [Outcome(seed) for seed in seeds]
    for world, seed in zip(worlds, seeds, strict=True):
        world.reset(seed)
    planner.reset(seeds)
    spent: list[float] = []
    running = list(range(len(seeds)))
    while running:
        # A policy that is shown single steps keeps one memory for each world: finished ones are shown to it too.
        shown = list(running) if planner.chunked else list(range(len(seeds)))
        observation = planner.observe([worlds[i] for i in shown], [i in running for i in shown], blind)
        computes = planner.plans_next
        started = time.perf_counter()
        chunk = planner.plan(observation)
        if computes:
            spent.append(1e3 * (time.perf_counter() - started))
            if watcher is not None:
                looks = [Look(p, i, outcomes[i].steps) for p, i in enumerate(shown) if i in running]
                planner.look_back(watcher, looks)
        for actions, i in zip(chunk, shown, strict=True):
            if i not in running:
                continue
            outcome = outcomes[i]
            for action in actions:
                if not np.isfinite(action).all():  # the simulator would begin anew, and a failure be counted
                    world = worlds[i]
                    raise NotFiniteError(f"{world.task}, seed {outcome.seed}, step {outcome.steps}")
                step = worlds[i].step(action)
                outcome.actions.append(action)
                outcome.steps += 1
                outcome.episode_return += step.reward
                outcome.success = step.success
                if step.success or outcome.steps >= max_steps:
                    running.remove(i)
                    break
    return outcomes, float(np.median(spent))

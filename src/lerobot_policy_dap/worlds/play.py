"""Play: episodes with actions that are no demonstrations, from which dynamics can be learned and a policy cannot.

A play episode is a function of its seed: the kind of behaviour, every random number in it, and the shift under which
it is seen. Its seeds begin at `FIRST_SEED`, so it shares its initial state, and the direction and placement of a
shift, with no demonstration (from 0 on) and no held-out episode (from 10,000 on).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.demonstrations import Listed, RecordedEpisode
from ..errors import UserError
from .record import OBJECT, Act, noisy, record
from .shifts import CLEAN, SHIFTS, check_shift
from .tasks import expert
from .world import World

FIRST_SEED = 1_000_000
TASK = "play"
"""What a play episode is to do, as LeRobot labels it: policies know it by this text."""
STEPS = 150
"""Recorded steps of a play episode, fewer where it ends with success."""

_CORRELATION = 10
"""Steps over which random motion forgets its direction."""
_DEVIATION = 0.6
"""Of random motion, in action units."""
_PULL = 5.0
"""Of random motion towards the object, in action units a metre: it stays within about 10 cm."""
_SEVERITIES = 5


class Behaviour(NamedTuple):
    """A kind of play."""

    words: str
    make: Callable[[str, np.random.Generator], Act]
    """For a task, what acts in one episode."""
    lead_in: tuple[int, int] = (0, 0)
    """Least and most steps before the recording begins."""
    ends_with_success: bool = True


@dataclass(frozen=True)
class Play:
    """What play is collected.

    Args:
        kinds: names among `KINDS`; the episodes take turns.
        episodes: of all kinds together.
        varied: factors of shift; an episode is seen under one of them, at one of five severities, both by its seed.
            Clean if empty.
        varied_share: which share of the episodes is seen so, by their seeds; the others are clean.

    Raises:
        UserError: an argument names nothing that exists, or no episode.
    """

    kinds: tuple[str, ...]
    episodes: int
    varied: tuple[str, ...] = ()
    varied_share: float = 1.0

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise UserError(f"unknown kind of play {kind!r}; choose among: {', '.join(KINDS)}")
        if not self.kinds:
            raise UserError(f"--play names no kind of play; choose among: {', '.join(KINDS)}")
        if self.episodes < 1:
            raise UserError(f"--play-episodes is {self.episodes}; collect at least 1, or leave out --play")
        if not 0 <= self.varied_share <= 1:
            raise UserError(f"--varied-share is {self.varied_share}; it is a share, from 0 to 1")
        for factor in self.varied:
            check_shift(factor, 0)
            if factor == CLEAN:
                raise UserError(f"--varied names {CLEAN!r}, which is no factor; choose among: {', '.join(SHIFTS)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "kinds": list(self.kinds),
            "episodes": self.episodes,
            "varied": list(self.varied),
            "varied_share": self.varied_share,
            "steps": STEPS,
        }

    def seeds(self, first_seed: int) -> range:
        """The episodes' seeds, where demonstrations begin at `first_seed`."""
        return range(FIRST_SEED + first_seed, FIRST_SEED + first_seed + self.episodes)

    def kind(self, seed: int) -> str:
        """What is done in the episode of a seed."""
        return self.kinds[seed % len(self.kinds)]

    def shift(self, seed: int) -> tuple[str, int]:
        """Under which factor and severity the episode of a seed is seen."""
        if not self.varied:
            return CLEAN, 0
        rng = np.random.default_rng([seed, 1])
        factor, severity = rng.integers([len(self.varied), _SEVERITIES])
        if rng.random() >= self.varied_share:
            return CLEAN, 0
        return self.varied[factor], 1 + int(severity)

    def listed(self, seed: int) -> Listed:
        """The episode of a seed as a dataset holds it."""
        shift, severity = self.shift(seed)
        return Listed(seed, TASK, {"kind": self.kind(seed), "shift": shift, "severity": severity})


def record_play(play: Play, world: World, seed: int) -> RecordedEpisode:
    """The episode of `seed`, however it ends; leaves the world under the episode's shift."""
    world.set_shift(*play.shift(seed))
    behaviour = KINDS[play.kind(seed)]
    rng = np.random.default_rng([seed, 0])
    lead_in = int(rng.integers(behaviour.lead_in[0], behaviour.lead_in[1] + 1))
    act = behaviour.make(world.task, rng)
    return record(world, act, seed, STEPS, lead_in=lead_in, ends_with_success=behaviour.ends_with_success)


def random_motion(rng: np.random.Generator) -> Act:
    """Smooth random motion about the object: an Ornstein-Uhlenbeck process, pulled to where the object is."""
    keep = math.exp(-1 / _CORRELATION)
    wander = rng.standard_normal(4)
    home: NDArray[np.float64] | None = None

    def act(observation: NDArray[np.float64]) -> NDArray[np.float32]:
        nonlocal wander, home
        wander = keep * wander + math.sqrt(1 - keep**2) * rng.standard_normal(4)
        if home is None:
            home = observation[:3].copy()
        # Objects that a task does not have are reported at the origin: stay where the hand began.
        centre = observation[OBJECT] if np.any(observation[OBJECT]) else home
        action = _DEVIATION * wander
        action[:3] += _PULL * (centre - observation[:3])
        return np.clip(action, -1, 1).astype(np.float32)

    return act


def _noisy_expert(task: str, rng: np.random.Generator) -> Act:
    return noisy(expert(task), rng.uniform(0.1, 1.0), rng)


def _expert_after_random_motion(task: str, rng: np.random.Generator) -> Act:
    return _in_turns(
        random_motion(rng), expert(task), lambda turn: int(rng.integers(20, 61)) if turn == 0 else None
    )


def _expert_and_random_motion_in_turns(task: str, rng: np.random.Generator) -> Act:
    return _in_turns(expert(task), random_motion(rng), lambda turn: int(rng.integers(10, 61)))


def _in_turns(first: Act, second: Act, length: Callable[[int], int | None]) -> Act:
    """The two alternate; a turn lasts `length(turn)` steps, without end if None."""
    turn, left = 0, length(0)

    def act(observation: NDArray[np.float64]) -> NDArray[np.float32]:
        nonlocal turn, left
        if left == 0:
            turn += 1
            left = length(turn)
        if left is not None:
            left -= 1
        return (first, second)[turn % 2](observation)

    return act


KINDS: dict[str, Behaviour] = {
    "expert": Behaviour("the scripted expert, whether or not it succeeds", lambda task, rng: expert(task)),
    "noisy": Behaviour("the expert with Gaussian noise of 0.1 to 1.0 action units", _noisy_expert),
    "perturbed": Behaviour("20 to 60 steps of random motion, then the expert", _expert_after_random_motion),
    "random": Behaviour("smooth random motion about the object", lambda task, rng: random_motion(rng)),
    "reset_free": Behaviour(
        "expert and random motion in turns, recorded from 50 to 250 steps after the last reset",
        _expert_and_random_motion_in_turns,
        lead_in=(50, 250),
        ends_with_success=False,
    ),
}

"""The checkpoint's monitor among the clients of a server."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ..monitor.monitor import Monitor, find_monitor
from .contract import Request

_MOST_EPISODES = 4096


class OnAlarm(StrEnum):
    """What a server does with the chunks of an episode in which the monitor has raised an alarm."""

    REPORT = "report"
    """Sends them, and says so."""
    HOLD = "hold"
    """Sends them, and tells the player to hold instead of playing them."""
    SLOW = "slow"
    """Sends them, and tells the player to play them at half speed."""
    STOP = "stop"
    """Sends none: the request is refused with `alarm`."""


class Judged(NamedTuple):
    """What the monitor says of one chunk; None where it cannot know yet, or was not calibrated."""

    score: float | None
    chunk_p_value: float | None
    p_value: float | None
    outcome_distance: float | None
    """Between what is seen and what the dynamics expected of the last chunk: root mean square over the outcome's
    dimensions, in its standard deviations. None for a policy without dynamics."""
    alarm: bool
    first: bool = False
    """Whether the alarm begins here; `Alarms` knows."""


class Watch:
    """Asks a monitor about every chunk, each client's episode apart.

    Args:
        monitor: of the policy that is served.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        # Clients leave without a word: the episodes heard of longest ago are forgotten.
        self._heard_of: OrderedDict[Hashable, None] = OrderedDict()

    @classmethod
    def beside(cls, folder: Path, policy: Any) -> Watch | None:
        """The watch of a checkpoint: of its monitor, or else of its dynamics alone; None where it has neither.

        Raises:
            UserError: the monitor is of other weights.
        """
        monitor = find_monitor(folder)
        monitor = Monitor.uncalibrated(policy) if monitor is None else monitor.telling_distance(policy)
        return None if monitor is None else cls(monitor)

    def describe(self) -> dict[str, Any] | None:
        """For the metadata that a client gets on connecting; None where nothing was calibrated."""
        return self._monitor.describe()

    def judge(
        self, policy: Any, batch: dict[str, Any], chunk: Tensor, requests: Sequence[Request]
    ) -> list[Judged]:
        """The verdicts on a call of the policy."""
        keys = [request.episode for request in requests]
        steps = [request.step for request in requests]
        verdict = self._monitor.look(policy, batch, chunk, keys, steps)
        judged = []
        for i, key in enumerate(keys):
            self._heard_of[key] = None
            self._heard_of.move_to_end(key)
            numbers = (verdict.score[i], verdict.chunk_p_value[i], verdict.p_value[i], verdict.outcome_distance[i])
            score, chunk_p_value, p_value, distance = map(_told, numbers)
            judged.append(Judged(score, chunk_p_value, p_value, distance, bool(verdict.alarm[i])))
        while len(self._heard_of) > _MOST_EPISODES:
            self._monitor.reset(self._heard_of.popitem(last=False)[0])
        return judged

    def forget(self, episodes: Sequence[Hashable]) -> None:
        """What was judged of these episodes, as if they had never been."""
        for key in episodes:
            self._heard_of.pop(key, None)
            self._monitor.reset(key)


class Alarms:
    """The episodes of a server in which an alarm is on: whatever checkpoint answers by then, none is taken back."""

    def __init__(self) -> None:
        self._began: OrderedDict[Hashable, float] = OrderedDict()

    def kept(self, episode: Hashable, judged: Judged | None) -> Judged | None:
        """What the monitor says of a chunk, with the alarm that the episode had before."""
        before = episode in self._began
        if judged is not None and judged.alarm:
            judged = judged._replace(first=not before)
            self._began.setdefault(episode, math.nan if judged.p_value is None else judged.p_value)
        elif before:
            judged = (judged or Judged(None, None, None, None, True))._replace(alarm=True)
        if episode in self._began:
            self._began.move_to_end(episode)
        while len(self._began) > _MOST_EPISODES:
            self._began.popitem(last=False)
        return judged

    def p_value(self, episode: Hashable) -> float:
        """The p-value with which the episode's alarm began."""
        return self._began[episode]


def _told(number: float) -> float | None:
    return None if math.isnan(number) else float(number)

"""What the monitors said: alarms in every cell of a policy that has one."""

from __future__ import annotations

from collections.abc import Iterable

from .episodes import BLIND, Episode
from .records import Alarms


def alarms_of(episodes: Iterable[Episode]) -> list[Alarms]:
    """A row a policy, task, shift and severity, in the order in which they first come; none without monitors."""
    cells: dict[tuple[str, str, str, int], list[Episode]] = {}
    for episode in episodes:
        if episode.p_value is not None and episode.shift != BLIND:
            key = episode.policy, episode.task, episode.shift, episode.severity
            cells.setdefault(key, []).append(episode)
    return [
        {
            "policy": policy,
            "task": task,
            "shift": shift,
            "severity": severity,
            "successes": sum(e.success for e in cell),
            "alarms_in_successes": sum(e.success and e.alarm_step is not None for e in cell),
            "failures": sum(not e.success for e in cell),
            "alarms_in_failures": sum(not e.success and e.alarm_step is not None for e in cell),
            "in_time": sum(_in_time(e) for e in cell),
        }
        for (policy, task, shift, severity), cell in cells.items()
    ]


def _in_time(episode: Episode) -> bool:
    """Whether a failure was flagged before its last third."""
    return not episode.success and episode.alarm_step is not None and 3 * episode.alarm_step < 2 * episode.steps

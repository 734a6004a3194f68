"""Watchers of roll-outs: one that keeps what a policy told, and one that asks its monitor."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..monitor.monitor import Monitor
from ..monitor.scores import Plan
from ..monitor.signals import Signal, read_signals
from .rollout import Look


class Recorder:
    """Keeps the signals of every episode, for calibration.

    Args:
        needs: which.
    """

    def __init__(self, needs: frozenset[Signal]) -> None:
        self._needs = needs
        self.plans: dict[int, list[Plan]] = defaultdict(list)
        """By place of the episode."""

    def look(self, policy: Any, batch: dict[str, Any], chunk: Tensor | None, looks: Sequence[Look]) -> None:
        """Keeps one moment of each episode."""
        rows = list(read_signals(policy, batch, chunk, self._needs).rows())
        for place, row, step in looks:
            self.plans[row].append(Plan(step, rows[place]))


class Guard:
    """Asks a monitor about every chunk.

    Args:
        monitor: of the policy that is rolled out.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        monitor.reset()
        self.p_values: dict[int, float] = {}
        """The least so far, by place of the episode; not there before the first."""
        self.alarm_steps: dict[int, int] = {}
        """Steps before the first alarm, by place of the episode; not there without one."""

    def look(self, policy: Any, batch: dict[str, Any], chunk: Tensor | None, looks: Sequence[Look]) -> None:
        """Shows the monitor one moment of each episode."""
        signals = read_signals(policy, batch, chunk, self._monitor.score.needs)
        places, rows, steps = zip(*looks, strict=True)
        verdict = self._monitor.observe(signals.take(places), rows, steps)
        for row, step, p, alarm in zip(rows, steps, verdict.p_value, verdict.alarm, strict=True):
            if not math.isnan(p):
                self.p_values[row] = float(p)
            if alarm:
                self.alarm_steps.setdefault(row, step)

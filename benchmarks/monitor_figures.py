"""The figures of monitor.py: scores calibrated on the same clean successes, and judged on the same other episodes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from lerobot_policy_dap.monitor import scores
from lerobot_policy_dap.monitor.conformal import p_values
from lerobot_policy_dap.monitor.scores import Plan, episode_scores

FALSE_ALARM = 0.05
MAX_STEPS = 300
LATE = 2 * MAX_STEPS // 3
"""Failures run to the step limit; an alarm from here on comes in the last third."""
DRAWS = 1000


class Rollout(NamedTuple):
    """One episode as a policy told of it."""

    shift: str
    severity: int
    seed: int
    success: bool
    length: int
    """Control steps."""
    plans: list[Plan]


class Judged(NamedTuple):
    """One episode as one score saw it."""

    task: str
    rollout: Rollout
    scores: NDArray[np.float64]
    """A chunk each, NaN where there was none."""
    p: NDArray[np.float64]
    """Running p-value, a chunk each."""
    equal: int
    """Control steps of the median clean success: what episodes of unequal length are compared within."""

    @property
    def alarm(self) -> float:
        """The step of the first alarm; infinity without."""
        steps = [plan.step for plan, p in zip(self.rollout.plans, self.p, strict=True) if p <= FALSE_ALARM]
        return steps[0] if steps else np.inf

    def strangest(self, before: int) -> float:
        """The p-value of everything planned before that step, negated: comparable across tasks, higher is stranger."""
        p = [
            p for plan, p in zip(self.rollout.plans, self.p, strict=True) if plan.step < before and not np.isnan(p)
        ]
        return -p[-1] if p else -1.0


class Clock:
    """The control: how long it has been going on. It sees nothing, and failures here are what lasts too long."""

    name = "clock"

    def __call__(self, plans: Sequence[Plan]) -> float:
        return plans[-1].step


class Both:
    """The stranger of two scores, each measured in the 99th percentile of its values on demonstrations."""

    def __init__(self, *parts: tuple[Any, float]) -> None:
        self.parts = parts
        self.name = "+".join(score.name for score, _ in parts)

    def __call__(self, plans: Sequence[Plan]) -> float | None:
        told = [(score(plans), unit) for score, unit in self.parts]
        return max((value / unit for value, unit in told if value is not None), default=None)


def fitted(demonstrations: list[list[Plan]], offsets: tuple[int, ...]) -> list[Any]:
    """Every score, pairs of them, and the control."""
    single = [scores.fit(name, demonstrations, offsets) for name in scores.SCORES]
    unit = {
        s.name: float(np.nanpercentile(np.concatenate([episode_scores(s, d) for d in demonstrations]), 99))
        for s in single
    }
    pairs = [Both(*((s, unit[s.name]) for s in pair)) for pair in itertools.combinations(single, 2)]
    return [*single, *pairs, Clock()]


def judge(task: str, score: Any, calibration: Sequence[Rollout], test: Sequence[Rollout]) -> list[Judged]:
    """The test episodes, in p-values of the calibration's clean successes."""
    clean = [episode_scores(score, rollout.plans) for rollout in calibration if rollout.success]
    maxima = [np.nanmax(told) for told in clean if not np.isnan(told).all()]
    equal = int(np.median([rollout.length for rollout in calibration if rollout.success]))
    judged = []
    for rollout in test:
        told = episode_scores(score, rollout.plans)
        judged.append(Judged(task, rollout, told, p_values(maxima, np.fmax.accumulate(told)), equal))
    return judged


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The probability that a positive is above a negative, ties counting half."""
    if not positive or not negative:
        return float("nan")
    ranks = rankdata([*positive, *negative])[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def figures(found: Any) -> Any:
    return [], {}

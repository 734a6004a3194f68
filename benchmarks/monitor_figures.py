"""The figures of monitor.py: scores calibrated on the same clean successes, and judged on the same other episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from lerobot_policy_dap.bench.statistics import wilson
from lerobot_policy_dap.monitor import scores
from lerobot_policy_dap.monitor.conformal import p_values
from lerobot_policy_dap.monitor.scores import Plan, episode_scores
from lerobot_policy_dap.worlds.shifts import CLEAN

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
    pairs = [Both(*((s, unit[s.name]) for s in pair)) for pair in ((single[0], single[1]), (single[1], single[3]))]
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


def auroc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """The probability that a positive is above a negative, ties counting half."""
    if not len(positive) or not len(negative):
        return float("nan")
    ranks = rankdata([*positive, *negative])[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def figures(
    found: Mapping[str, tuple[tuple[list[list[Plan]], tuple[int, ...]], list[Rollout], list[Rollout]]],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row a score over all tasks, and the same by task and by factor.

    Args:
        found: by task: what scores are fitted to, and the episodes to calibrate and to judge on.
    """
    judged: dict[str, list[Judged]] = {}
    for task, ((demonstrations, offsets), calibration, test) in found.items():
        for score in fitted(demonstrations, offsets):
            judged.setdefault(str(score.name), []).extend(judge(task, score, calibration, test))
    rows = [{"score": name, **_row(episodes)} for name, episodes in judged.items()]
    by_task = [
        {"task": task, "score": name, **_row([e for e in episodes if e.task == task])}
        for task in found
        for name, episodes in judged.items()
    ]
    conditions = dict.fromkeys((e.rollout.shift, e.rollout.severity) for e in next(iter(judged.values())))
    by_factor = [
        {"factor": shift, "severity": severity, "score": name,
         **_alarms([e for e in episodes if (e.rollout.shift, e.rollout.severity) == (shift, severity)])}
        for shift, severity in conditions
        for name, episodes in judged.items()
        if name in list(scores.ScoreName)
    ]  # fmt: skip
    calibrated = {
        task: {
            "calibration successes": sum(r.success for r in calibration),
            "calibration episodes": len(calibration),
        }
        for task, (_, calibration, _) in found.items()
    }
    return rows, {"by_task": by_task, "by_factor": by_factor, "calibration": calibrated}


def _row(episodes: Sequence[Judged]) -> dict[str, Any]:
    """What the table says of one score."""
    clean = [e for e in episodes if e.rollout.shift == CLEAN]
    shifted = [e for e in episodes if e.rollout.shift != CLEAN]
    failures = [e for e in shifted if not e.rollout.success]
    alarmed = [e.alarm for e in failures if e.alarm < np.inf]
    return {
        "false alarms, clean successes": _share([e.alarm < np.inf for e in clean if e.rollout.success]),
        "failures under shift flagged before the last third": _share([e.alarm < LATE for e in failures]),
        "median step of the alarm": float(np.median(alarmed)) if alarmed else None,
        "alarms in successes under shift": _share([e.alarm < np.inf for e in shifted if e.rollout.success]),
        "balanced accuracy": _balanced(episodes),
        "failure, AUROC": _auroc(episodes, lambda e: not e.rollout.success, lambda e: e.strangest(LATE)),
        "failure, AUROC at equal length": _auroc(
            episodes, lambda e: not e.rollout.success, lambda e: e.strangest(e.equal)
        ),
        "shift, AUROC at equal length": _auroc(
            episodes, lambda e: e.rollout.shift != CLEAN, lambda e: e.strangest(e.equal)
        ),
    }


def _balanced(episodes: Sequence[Judged]) -> str:
    """The mean of failures flagged and successes left alone, clean and shifted together."""
    won = [e.alarm == np.inf for e in episodes if e.rollout.success]
    lost = [e.alarm < np.inf for e in episodes if not e.rollout.success]
    return f"{50 * (np.mean(won) + np.mean(lost)):.1f} %"


def _alarms(episodes: Sequence[Judged]) -> dict[str, Any]:
    won = [e for e in episodes if e.rollout.success]
    lost = [e for e in episodes if not e.rollout.success]
    return {
        "alarms in successes": f"{sum(e.alarm < np.inf for e in won)}/{len(won)}",
        "failures flagged in time": f"{sum(e.alarm < LATE for e in lost)}/{len(lost)}",
    }


def _share(flags: Sequence[bool]) -> str:
    if not flags:
        return "-"
    limits = wilson(sum(flags), len(flags))
    return f"{100 * np.mean(flags):.1f} % [{100 * limits.low:.1f}, {100 * limits.high:.1f}] ({sum(flags)}/{len(flags)})"


def _auroc(
    episodes: Sequence[Judged], positive: Callable[[Judged], bool], value: Callable[[Judged], float]
) -> str:
    """Over episodes of each task, the mean of tasks, with a bootstrap of episodes."""
    parts = []
    for task in dict.fromkeys(e.task for e in episodes):
        of = [e for e in episodes if e.task == task]
        parts.append((np.array([positive(e) for e in of]), np.array([value(e) for e in of])))
    rng = np.random.default_rng(0)

    def mean(draw: bool) -> float:
        areas = []
        for positives, values in parts:
            i = rng.integers(len(values), size=len(values)) if draw else np.arange(len(values))
            areas.append(auroc(values[i][positives[i]], values[i][~positives[i]]))
        return float(np.mean(areas))

    low, high = np.nanpercentile([mean(True) for _ in range(DRAWS)], [2.5, 97.5])
    return f"{mean(False):.3f} [{low:.3f}, {high:.3f}]"

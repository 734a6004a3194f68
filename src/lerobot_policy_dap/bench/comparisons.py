"""The comparisons of the bench, each on the seeds that its members have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from . import words
from .episodes import BLIND, CLEAN
from .pairing import Pairing
from .records import Cell, Difference, Drop, Overall
from .statistics import (
    clustered_mean,
    episodes_to_settle,
    holm,
    mcnemar_exact,
    mean_paired_difference,
    paired_difference,
    wilson,
)

SIGNIFICANCE = 0.05


def cells_of(pairing: Pairing) -> list[Cell]:
    """Success of every policy under every condition, with Wilson intervals and the floor mark of `summarise`."""
    return [_cell(pairing, *key) for key in pairing.keys]


def drops_of(pairing: Pairing) -> list[Drop]:
    """Clean minus shifted of every policy and shift; p values adjusted by Holm over all of them."""
    compared = [
        (key, pairs)
        for key in pairing.keys
        if key[2] not in (CLEAN, BLIND) and len(pairs := pairing.common([(key[0], key[1], CLEAN, 0), key]))
    ]
    p_values = [mcnemar_exact(*pairs.T) for _, pairs in compared]
    drops: list[Drop] = []
    for ((policy, task, shift, severity), pairs), p, p_holm in zip(
        compared, p_values, holm(p_values), strict=True
    ):
        interval = paired_difference(*pairs.T)
        drops.append(
            {
                "policy": policy,
                "task": task,
                "shift": shift,
                "severity": severity,
                "n": len(pairs),
                "drop": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "p": p,
                "p_holm": float(p_holm),
            }
        )
    return drops


def differences_of(pairing: Pairing, cells: Iterable[Cell]) -> list[Difference]:
    """Policy against policy, clean and under every shift; p values adjusted by Holm over all of them."""
    floors = {(cell["policy"], cell["task"], cell["shift"], cell["severity"]): cell["at_floor"] for cell in cells}
    compared = [
        (a, b, task, condition, pairs)
        for task in pairing.tasks
        for a, b in pairing.pairs
        for condition in pairing.conditions
        if condition[0] != BLIND and len(pairs := pairing.common([(a, task, *condition), (b, task, *condition)]))
    ]
    p_values = [mcnemar_exact(*pairs.T) for *_, pairs in compared]
    differences: list[Difference] = []
    for (a, b, task, (shift, severity), pairs), p, p_holm in zip(compared, p_values, holm(p_values), strict=True):
        interval = paired_difference(*pairs.T)
        established = bool(p_holm <= SIGNIFICANCE and interval.excludes_zero())
        marks = [floors[a, task, shift, severity], floors[b, task, shift, severity]]
        at_floor = None if None in marks else all(marks)
        verdict = _verdict(pairs, established, float(p_holm), len(compared))
        if at_floor:
            verdict += "; both are at their blind floor, so this says nothing of robustness"
        differences.append(
            {
                "a": a,
                "b": b,
                "task": task,
                "shift": shift,
                "severity": severity,
                "n": len(pairs),
                "difference": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "p": p,
                "p_holm": float(p_holm),
                "established": established,
                "at_floor": at_floor,
                "verdict": verdict,
                "words": f"{a} minus {b} {words.under(shift, severity)}{_of(pairing, task)}: "
                f"{words.points(interval)} over {words.counted(len(pairs), 'paired episode')}: {verdict}.",
            }
        )
    return differences


def overall_of(pairing: Pairing) -> list[Overall]:
    """Means over the shifted cells of a task: of each policy, of what it loses, and policy against policy."""
    entries: list[Overall] = []
    for task in pairing.tasks:
        for policy in pairing.policies:
            shifted = [(policy, task, *c) for c in pairing.shifted if pairing.has(policy, task, c)]
            values = pairing.common(shifted)
            if len(values) >= 2:
                entries.append(_mean(pairing, "rate", policy, None, task, values))
            with_clean = pairing.common([(policy, task, CLEAN, 0), *shifted])
            if shifted and len(with_clean) >= 2:
                lost = with_clean[:, :1] - with_clean[:, 1:]
                entries.append(_mean(pairing, "drop", policy, None, task, lost))
    compared = []
    for task in pairing.tasks:
        for a, b in pairing.pairs:
            both = [c for c in pairing.shifted if pairing.has(a, task, c) and pairing.has(b, task, c)]
            pairs = pairing.common([(policy, task, *c) for policy in (a, b) for c in both])
            if len(pairs) >= 2:
                compared.append((a, b, task, pairs[:, : len(both)] - pairs[:, len(both) :]))
    for a, b, task, gained in compared:
        level = 1 - SIGNIFICANCE / len(compared)
        established = mean_paired_difference(gained, level).excludes_zero()
        entries.append(_mean(pairing, "difference", a, b, task, gained, established))
    return entries


def _cell(pairing: Pairing, policy: str, task: str, shift: str, severity: int) -> Cell:
    episodes = list(pairing.cells[policy, task, shift, severity].values())
    successes = sum(episode.success for episode in episodes)
    interval = wilson(successes, len(episodes))
    plan_ms = [episode.plan_ms for episode in episodes if math.isfinite(episode.plan_ms)]
    return {
        "policy": policy,
        "task": task,
        "shift": shift,
        "severity": severity,
        "n": len(episodes),
        "successes": successes,
        "rate": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "mean_steps": float(np.mean([episode.steps for episode in episodes])),
        "plan_ms": float(np.median(plan_ms)) if plan_ms else None,
        "at_floor": _at_floor(pairing, policy, task, shift, severity),
    }


def _at_floor(pairing: Pairing, policy: str, task: str, shift: str, severity: int) -> bool | None:
    if shift == BLIND:
        return None
    pairs = pairing.common([(policy, task, shift, severity), (policy, task, BLIND, 0)])
    return paired_difference(*pairs.T).low <= 0 if len(pairs) else None


def _verdict(pairs: NDArray[np.float64], established: bool, p_holm: float, family: int) -> str:
    if established:
        after = " after Holm" if family > 1 else ""
        return f"established (exact McNemar p {words.p_value(p_holm)}{after})"
    # Planned for the hardest step of Holm, at which the smallest of all p values is tested.
    needed = episodes_to_settle(pairs[:, 0], pairs[:, 1], confidence=1 - SIGNIFICANCE / family)
    if needed is None:
        return "not established; these episodes show no difference to settle"
    if needed <= len(pairs):
        return "not established; somewhat more paired episodes would settle a difference of this size"
    return f"not established; about {words.about(needed)} paired episodes would settle a difference of this size"


def _mean(
    pairing: Pairing,
    kind: Literal["rate", "drop", "difference"],
    policy: str,
    other: str | None,
    task: str,
    values: NDArray[np.float64],
    established: bool | None = None,
) -> Overall:
    """The entry for `values` `[seeds, cells]`."""
    seeds, cells = values.shape
    interval = clustered_mean(values) if kind == "rate" else mean_paired_difference(values)
    subject = {
        "rate": policy,
        "drop": f"{policy}, clean minus shifted",
        "difference": f"{policy} minus {other}",
    }
    found = words.rate(interval) if kind == "rate" else words.points(interval)
    verdict = (
        ""
        if established is None
        else ": established for these checkpoints"
        if established
        else ": not established"
    )
    return {
        "kind": kind,
        "policy": policy,
        "other": other,
        "task": task,
        "cells": cells,
        "n": seeds,
        "estimate": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "established": established,
        "words": f"{subject[kind]}, mean of {words.counted(cells, 'shifted condition')}{_of(pairing, task)}: {found}, "
        f"interval over {words.counted(seeds, 'seed')}{verdict}.",
    }


def _of(pairing: Pairing, task: str) -> str:
    return f" of {task}" if len(pairing.tasks) > 1 else ""

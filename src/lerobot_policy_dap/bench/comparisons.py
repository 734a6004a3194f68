"""Cell by cell: success, what each shift costs, and policy against policy, on the seeds that both sides have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from . import words
from .episodes import BLIND, CLEAN
from .hierarchy import hierarchical_mean
from .means import SIGNIFICANCE
from .pairing import Block, Pairing
from .records import Cell, Difference, Drop
from .statistics import Interval, episodes_to_settle, holm, mcnemar_exact, paired_difference, wilson


def cells_of(pairing: Pairing) -> list[Cell]:
    """Success of every policy under every condition, with Wilson intervals and the floor mark of `summarise`."""
    return [_cell(pairing, *key) for key in pairing.keys]


def drops_of(pairing: Pairing) -> list[Drop]:
    """Clean minus shifted of every policy and shift; p values adjusted by Holm over those of one policy and task."""
    compared = []
    for key in pairing.keys:
        if key[2] not in (CLEAN, BLIND):
            block = pairing.common([(key[0], key[1], CLEAN, 0), key])
            if block.size:
                compared.append((key, block, mcnemar_exact(*_pairs(block))))
    adjusted = _holm_within([key[:2] for key, _, _ in compared], [p for *_, p in compared])
    drops: list[Drop] = []
    for ((policy, task, shift, severity), block, p), (p_holm, family) in zip(compared, adjusted, strict=True):
        interval = paired_interval(block)
        established = bool(p_holm <= SIGNIFICANCE and interval.excludes_zero())
        n = block.shape[0] * block.shape[1]
        verdict = _verdict(block, established, p_holm, family)
        drops.append(
            {
                "policy": policy,
                "task": task,
                "shift": shift,
                "severity": severity,
                "n": n,
                "drop": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "p": p,
                "p_holm": p_holm,
                "established": established,
                "verdict": verdict,
                "words": f"{policy}, clean minus {words.condition(shift, severity)}{_of(pairing, task)}: "
                f"{words.points(interval)} over {words.counted(n, 'paired episode')}: {verdict}.",
            }
        )
    return drops


def differences_of(pairing: Pairing, cells: Iterable[Cell]) -> list[Difference]:
    """Policy against policy, clean and shifted; p values adjusted by Holm over those of one pair and task."""
    floors = {(cell["policy"], cell["task"], cell["shift"], cell["severity"]): cell["at_floor"] for cell in cells}
    compared = []
    for task in pairing.tasks:
        for a, b in pairing.pairs:
            for condition in pairing.conditions:
                block = pairing.common([(a, task, *condition), (b, task, *condition)])
                if condition[0] != BLIND and block.size:
                    compared.append((a, b, task, condition, block, mcnemar_exact(*_pairs(block))))
    adjusted = _holm_within([entry[:3] for entry in compared], [entry[-1] for entry in compared])
    differences: list[Difference] = []
    for (a, b, task, (shift, severity), block, p), (p_holm, family) in zip(compared, adjusted, strict=True):
        interval = paired_interval(block)
        established = bool(p_holm <= SIGNIFICANCE and interval.excludes_zero())
        marks = [floors[a, task, shift, severity], floors[b, task, shift, severity]]
        at_floor = None if None in marks else all(marks)
        n = block.shape[0] * block.shape[1]
        verdict = _verdict(block, established, p_holm, family)
        if at_floor:
            verdict += "; both are at their blind floor, so this says nothing of robustness"
        differences.append(
            {
                "a": a,
                "b": b,
                "task": task,
                "shift": shift,
                "severity": severity,
                "n": n,
                "difference": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "p": p,
                "p_holm": p_holm,
                "established": established,
                "at_floor": at_floor,
                "verdict": verdict,
                "words": f"{a} minus {b} {words.under(shift, severity)}{_of(pairing, task)}: "
                f"{words.points(interval)} over {words.counted(n, 'paired episode')}: {verdict}.",
            }
        )
    return differences


def paired_interval(block: Block) -> Interval:
    """First minus second key of `[training seeds, seeds, 2]`.

    Newcombe's interval with one training seed (or one seed); with several, the hierarchical bootstrap.
    """
    if block.shape[0] == 1 or block.shape[1] == 1:
        return paired_difference(*_pairs(block))
    return hierarchical_mean([block[:, :, 0].astype(float) - block[:, :, 1]], bounds=(-1.0, 1.0))


def _pairs(block: Block) -> Block:
    """The two members of every pair, `[2, training seeds * seeds]`."""
    return block.reshape(-1, 2).T


def _holm_within(families: Sequence[tuple[str, ...]], p_values: Sequence[float]) -> list[tuple[float, int]]:
    """Each p value adjusted by Holm within its family, and the family's size."""
    members: dict[tuple[str, ...], list[int]] = {}
    for i, family in enumerate(families):
        members.setdefault(family, []).append(i)
    adjusted = [(1.0, 1)] * len(p_values)
    for indices in members.values():
        for i, p in zip(indices, holm([p_values[i] for i in indices]), strict=True):
            adjusted[i] = (float(p), len(indices))
    return adjusted


def _cell(pairing: Pairing, policy: str, task: str, shift: str, severity: int) -> Cell:
    runs = pairing.cells[policy, task, shift, severity]
    episodes = [episode for run in runs.values() for episode in run.values()]
    successes = sum(episode.success for episode in episodes)
    interval = wilson(successes, len(episodes))
    block = pairing.common([(policy, task, shift, severity)])[:, :, 0]
    luck = hierarchical_mean([block]) if len(block) > 1 and block.shape[1] > 1 else None
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
        "training_seeds": len(runs),
        "luck_low": luck.low if luck else None,
        "luck_high": luck.high if luck else None,
        "mean_steps": float(np.mean([episode.steps for episode in episodes])),
        "plan_ms": float(np.median(plan_ms)) if plan_ms else None,
        "at_floor": _at_floor(pairing, policy, task, shift, severity),
    }


def _at_floor(pairing: Pairing, policy: str, task: str, shift: str, severity: int) -> bool | None:
    if shift == BLIND:
        return None
    block = pairing.common([(policy, task, shift, severity), (policy, task, BLIND, 0)])
    return paired_interval(block).low <= 0 if block.size else None


def _verdict(block: Block, established: bool, p_holm: float, family: int) -> str:
    if established:
        after = " after Holm" if family > 1 else ""
        return f"established (exact McNemar p {words.p_value(p_holm)}{after})"
    # Planned for the hardest step of Holm, at which the smallest of all p values is tested.
    one, other = _pairs(block)
    needed = episodes_to_settle(one, other, confidence=1 - SIGNIFICANCE / family)
    if needed is None:
        return "not established; these episodes show no difference to settle"
    if needed <= len(one):
        if block.shape[0] > 1:
            return "not established; it differs between training seeds, and more of them would settle it"
        return "not established; somewhat more paired episodes would settle a difference of this size"
    return f"not established; about {words.about(needed)} paired episodes would settle a difference of this size"


def _of(pairing: Pairing, task: str) -> str:
    return f" of {task}" if len(pairing.tasks) > 1 else ""

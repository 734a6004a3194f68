"""Means over factors, severities and tasks: what a policy loses, keeps, and gains over another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from . import words
from .episodes import CLEAN
from .exact import matched_sets, sign_flips
from .hierarchy import HierarchicalMean, hierarchical_mean, more_to_settle
from .pairing import Block, Key, Pairing
from .records import Mean
from .statistics import holm

SIGNIFICANCE = 0.05
ALL = ""
"""In place of a task or a shift: the mean over all of them."""

Kind = Literal["rate", "area", "drop", "difference"]


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """A mean before its p value is adjusted."""

    kind: Kind
    policy: str
    other: str | None
    task: str
    shift: str
    severity: int | None
    cells: int
    n: int
    training_seeds: int
    mean: HierarchicalMean
    p: float | None


def means_of(pairing: Pairing) -> list[Mean]:
    """Every mean of the report: for each task and for all together, for each factor and for the visual ones.

    p values are adjusted by Holm within the family of one question: the factors under which a policy loses; the
    factors under which one policy differs from another; the pairs of policies that differ over all factors.
    """
    found: list[_Found] = []
    for task in scopes(pairing):
        for policy in pairing.policies:
            found += _of_policy(pairing, policy, task)
        for a, b in pairing.pairs:
            found += _of_pair(pairing, a, b, task)
    families: dict[tuple[str | None, ...], list[int]] = {}
    for i, entry in enumerate(found):
        if entry.p is not None:
            whole = entry.shift == ALL
            members = (entry.policy, entry.other) if not whole else (None, None)
            families.setdefault((entry.kind, entry.task, str(whole), *members), []).append(i)
    adjusted: dict[int, tuple[float, int]] = {}
    for indices in families.values():
        p_values = holm([found[i].p or 0.0 for i in indices])
        adjusted |= {i: (float(p), len(indices)) for i, p in zip(indices, p_values, strict=True)}
    return [_record(pairing, entry, *adjusted.get(i, (None, 1))) for i, entry in enumerate(found)]


def scopes(pairing: Pairing) -> list[str]:
    """All tasks together first, where there are several, and then each."""
    return ([ALL] if len(pairing.tasks) > 1 else []) + pairing.tasks


def area_weights(severities: Sequence[int]) -> NDArray[np.float64]:
    """Weights `[len(severities)]` of the normalised area under a severity curve; they add up to 1.

    The trapezoid rule over the severities given, the first of them 0 (clean), divided by the last: the mean
    success over severities from none to the last, if success is linear in between.
    """
    widths = np.diff(np.asarray(severities, dtype=np.float64))
    weights: NDArray[np.float64] = np.append(widths, 0) + np.insert(widths, 0, 0)
    weights /= weights.sum()
    return weights


def _of_policy(pairing: Pairing, policy: str, task: str) -> Iterable[_Found]:
    if task == ALL:
        yield from _of_conditions(pairing, policy)
    for shift in [ALL, *pairing.shifts]:
        shifts = pairing.visual if shift == ALL else [shift]
        rates, losses, weights_of = [], [], []
        for name in _tasks(pairing, task):
            conditions = [(s, severity) for s in shifts for severity in pairing.severities(s, name, policy)]
            keys: list[Key] = [(policy, name, *c) for c in conditions]
            if not keys:
                continue
            rates.append(pairing.common(keys))
            clean: Key = (policy, name, CLEAN, 0)
            losses.append(pairing.common([clean, *keys]))
            weights = np.zeros(len(keys) + 1)
            severities: dict[str, list[int]] = {}
            for s, severity in conditions:
                severities.setdefault(s, []).append(severity)
            for s, levels in severities.items():
                share = area_weights([0, *levels]) / len(severities)
                weights[0] += share[0]
                weights[[1 + i for i, c in enumerate(conditions) if c[0] == s]] = share[1:]
            weights_of.append(weights)
        scope = (policy, None, task, shift)
        rates, losses = _alike(rates), _alike(losses)
        if shift == ALL and _enough(rates):
            yield _found("rate", scope, rates, [block.mean(axis=2) for block in rates], None)
        if _enough(losses):
            lost = [block[:, :, 0] - block[:, :, 1:].mean(axis=2) for block in losses]
            sets = [(block[:, :, 0].ravel(), block[:, :, 1:].reshape(-1, block.shape[2] - 1)) for block in losses]
            yield _found("drop", scope, losses, lost, matched_sets(sets), clean=True)
            areas = [block @ weights for block, weights in zip(losses, weights_of, strict=True)]
            yield _found("area", scope, losses, areas, None, clean=True)


def _of_conditions(pairing: Pairing, policy: str) -> Iterable[_Found]:
    """Success over all tasks under every single condition, clean and blind among them."""
    for shift, severity in pairing.conditions:
        blocks = [pairing.common([(policy, task, shift, severity)]) for task in pairing.tasks]
        blocks = _alike([block for block in blocks if block.size])
        if _enough(blocks):
            values = [block.mean(axis=2) for block in blocks]
            yield _found("rate", (policy, None, ALL, shift), blocks, values, None, severity=severity)


def _of_pair(pairing: Pairing, a: str, b: str, task: str) -> Iterable[_Found]:
    for shift in [ALL, CLEAN, *pairing.shifts]:
        shifts = pairing.visual if shift == ALL else [shift]
        blocks = []
        for name in _tasks(pairing, task):
            conditions = [(s, severity) for s in shifts for severity in pairing.severities(s, name, a, b)]
            if conditions:
                blocks.append(pairing.common([(policy, name, *c) for policy in (a, b) for c in conditions]))
        blocks = _alike(blocks)
        if _enough(blocks):
            gained = [_halves(block) for block in blocks]
            flips = sign_flips(np.concatenate([table.sum(axis=2).ravel() for table in gained]))
            values = [table.mean(axis=2) for table in gained]
            yield _found("difference", (a, b, task, shift), gained, values, flips)


def _halves(block: Block) -> NDArray[np.int64]:
    """Success of the first half of the keys minus success of the second, `[training seeds, seeds, keys / 2]`."""
    half = block.shape[2] // 2
    return block[:, :, :half].astype(np.int64) - block[:, :, half:]


def _tasks(pairing: Pairing, task: str) -> list[str]:
    return pairing.tasks if task == ALL else [task]


def _alike(blocks: Sequence[Block]) -> list[Block]:
    """The tasks' blocks with as many training seeds as each of them has: a grid may be stopped half way."""
    runs = min((block.shape[0] for block in blocks), default=0)
    return [block[:runs] for block in blocks]


def _enough(blocks: Sequence[NDArray[np.generic]]) -> bool:
    return bool(blocks) and all(block.shape[0] and block.shape[1] >= 2 for block in blocks)


def _found(
    kind: Kind,
    scope: tuple[str, str | None, str, str],
    blocks: Sequence[NDArray[np.generic]],
    values: Sequence[NDArray[np.floating]],
    p: float | None,
    clean: bool = False,
    severity: int | None = None,
) -> _Found:
    bounds = (0.0, 1.0) if kind in ("rate", "area") else (-1.0, 1.0)
    mean = hierarchical_mean(values, bounds=bounds)
    cells = sum(block.shape[2] - clean for block in blocks)
    states = sum(table.shape[1] for table in values)
    return _Found(kind, *scope, severity, cells, states, values[0].shape[0], mean, p)


def _record(pairing: Pairing, found: _Found, p_holm: float | None, family: int) -> Mean:
    mean = found.mean
    established = None if p_holm is None else bool(p_holm <= SIGNIFICANCE and mean.excludes_zero())
    verdict = "" if p_holm is None or established is None else _verdict(found, established, p_holm, family)
    of_what = f"{found.policy} minus {found.other}" if found.other else found.policy
    what = {"drop": ", clean minus shifted", "area": ", area under the severity curve"}.get(found.kind, "")
    under = words.factor(found.shift) if found.severity is None else words.condition(found.shift, found.severity)
    where = {
        ALL: f"mean of {words.counted(found.cells, 'shifted condition')}",
        CLEAN: "on clean episodes",
    }.get(found.shift, f"under {under}")
    task = " of all tasks" if found.task == ALL else f" of {found.task}" if len(pairing.tasks) > 1 else ""
    rate = found.kind in ("rate", "area")
    over = words.counted(found.n, "seed")
    if found.training_seeds > 1:
        over = f"{words.counted(found.training_seeds, 'training seed')} and {over}"
    text = (
        f"{of_what}{what}, {where}{task}: {words.rate(mean) if rate else words.points(mean)}, interval over {over}"
    )
    return {
        "kind": found.kind,
        "policy": found.policy,
        "other": found.other,
        "task": found.task,
        "shift": found.shift,
        "severity": found.severity,
        "cells": found.cells,
        "training_seeds": found.training_seeds,
        "n": found.n,
        "estimate": mean.estimate,
        "low": mean.low,
        "high": mean.high,
        "p": found.p,
        "p_holm": p_holm,
        "established": established,
        "verdict": verdict,
        "words": f"{text}{f': {verdict}' if verdict else ''}.",
    }


def _verdict(found: _Found, established: bool, p_holm: float, family: int) -> str:
    if established:
        whose = "for these checkpoints " if found.training_seeds == 1 else ""
        return f"established {whose}(exact p {words.p_value(p_holm)}{' after Holm' if family > 1 else ''})"
    # Planned for the hardest step of Holm, at which the smallest of all p values is tested.
    states, runs = more_to_settle(found.mean, found.n, found.training_seeds, confidence=1 - SIGNIFICANCE / family)
    if states is None and runs is None:
        return "not established; these episodes show no difference to settle"
    if runs is not None:
        return f"not established; episodes alone cannot settle it, about {words.about(runs)} training seeds would"
    if states is not None and states <= found.n:
        return "not established; somewhat more episodes would settle a difference of this size"
    return f"not established; about {words.about(states or 0)} seeds would settle a difference of this size"

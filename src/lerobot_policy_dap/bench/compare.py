"""Two result sets side by side: what has changed from A to B, and whether anything has become worse.

Pairs are episodes of equal policy, task, factor, severity and seed. A difference is B minus A, so a loss is negative.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..worlds.shifts import SHIFTS
from . import words
from .episodes import BLIND, CLEAN, EXPERT, Episode
from .exact import sign_flips
from .hierarchy import HierarchicalMean, hierarchical_mean
from .means import ALL, SIGNIFICANCE
from .pairing import Key, Pairing
from .statistics import Interval

SCHEMA_VERSION = 1
A, B = "A", "B"

_SIMULATORS = ("mujoco", "metaworld")
"""Software whose version decides what an action does: results of two versions are not of one experiment."""


@dataclass(frozen=True)
class ResultSet:
    """Episodes under the name by which messages call them, and what is known of how they came about.

    Args:
        image_sizes: of each policy, in words.
        unfinished: parts of its plan that are still to be evaluated.
    """

    name: str
    episodes: Sequence[Episode]
    image_sizes: Mapping[str, str] = field(default_factory=dict)
    max_steps: int | None = None
    unfinished: int = 0


class Row(TypedDict):
    """B minus A of one policy: over all but physical factors (`shift` ""), or under one ("none": clean), all tasks.

    `low` and `high` are 95% limits; `sure_low` and `sure_high` those of the level that Holm's procedure gives this
    row within its policy. `regressed`: see `compare`.
    """

    policy: str
    shift: str
    cells: int
    training_seeds: int
    n: int
    a: float
    b: float
    difference: float
    low: float
    high: float
    sure_low: float
    sure_high: float
    p: float
    regressed: bool
    words: str


class Comparison(TypedDict):
    """The whole of compare.json."""

    schema: int
    a: str
    b: str
    versions: dict[str, str]
    margin: float
    regressed: bool
    summary: list[str]
    rows: list[Row]


@dataclass(frozen=True, slots=True, eq=False)
class _Member:
    policy: str
    shift: str
    cells: int
    n: int
    training_seeds: int
    rates: tuple[float, float]
    p: float
    at: Callable[[float], HierarchicalMean]


def compare(a: ResultSet, b: ResultSet, margin: float = 0.05) -> Comparison:
    """Compares two result sets on the episodes that both have.

    The rows of a policy are a family: the mean over all clean and visually shifted conditions, the clean one, and each
    factor. Holm's procedure runs through them by intervals (`hierarchy.hierarchical_mean`). With the row whose loss is
    clearest first, row i of m is looked at with the interval of confidence 1 - 0.05 / (m - i + 1). Its loss is a
    regression when the whole interval lies below -margin; the first row of which this is not true ends the search.
    So the chance of any false alarm in a policy is about 2.5%, and a loss within the margin is no regression
    however well it is established.

    The expert and the blind floor are not compared: neither is the policy's merit.

    Args:
        a: the earlier results.
        b: the later ones.
        margin: share of episodes that may be lost, in [0, 1).

    Raises:
        UserError: a set is empty or mixes software; other simulator versions, image sizes or step limits; no policy,
            cell or seed in common; a margin that is none.
    """
    if not 0 <= margin < 1:
        raise UserError(f"--margin is {margin}; give a share of episodes from 0 to less than 1, such as 0.05")
    one, other = (Pairing(s.episodes, {}) for s in (a, b))
    _check_software(a.name, one.versions, b.name, other.versions)
    if a.max_steps and b.max_steps and a.max_steps != b.max_steps:
        raise UserError(
            f"{a.name} was evaluated with at most {a.max_steps} steps an episode and {b.name} with {b.max_steps}; "
            "evaluate both with one --max-steps"
        )
    rows: list[Row] = []
    pairs = _policies(a.name, one, b.name, other)
    for name, of_a, of_b in pairs:
        sizes = a.image_sizes.get(of_a), b.image_sizes.get(of_b)
        if all(sizes) and sizes[0] != sizes[1]:
            raise UserError(
                f"{name} was evaluated with images of {sizes[0]} px in {a.name} and of {sizes[1]} px in {b.name}; "
                "evaluate both with one image size"
            )
        both = _joined(one, of_a, other, of_b)
        members = _family(name, both)
        if not members:
            _explain(a.name, one, of_a, b.name, other, of_b)
        rows += _holm_by_intervals(members, margin)
    return {
        "schema": SCHEMA_VERSION,
        "a": a.name,
        "b": b.name,
        "versions": {A: one.versions, B: other.versions},
        "margin": margin,
        "regressed": any(row["regressed"] for row in rows),
        "summary": [*_summary(rows, margin, one.versions, other.versions), *_lacking(a, one, b, other, pairs)],
        "rows": rows,
    }


def _check_software(a: str, versions_a: str, b: str, versions_b: str) -> None:
    for simulator in _SIMULATORS:
        found = [re.search(rf"\b{simulator} ([^,\s]+)", versions) for versions in (versions_a, versions_b)]
        numbers = [match.group(1) if match else None for match in found]
        if numbers[0] != numbers[1]:
            raise UserError(
                f"{a} was evaluated with {simulator} {numbers[0] or 'of an unknown version'} and {b} with "
                f"{numbers[1] or 'an unknown version'}; dynamics differ between versions: evaluate both with one"
            )


def _policies(a: str, one: Pairing, b: str, other: Pairing) -> list[tuple[str, str, str]]:
    """Which policy stands beside which: those of one name, or the only ones there are."""
    same = [policy for policy in one.learned if policy in other.learned]
    if same:
        return [(policy, policy, policy) for policy in same]
    if len(one.learned) == len(other.learned) == 1:
        return [(f"{one.learned[0]} → {other.learned[0]}", one.learned[0], other.learned[0])]
    names = [words.listed(p.learned) or f"only {EXPERT}" for p in (one, other)]
    raise UserError(f"{a} and {b} have no policy of one name ({names[0]}; {names[1]}); name them alike")


def _joined(one: Pairing, of_a: str, other: Pairing, of_b: str) -> Pairing:
    """Both policies in one table, under the names A and B, as if of one software: that has been checked."""
    episodes = [
        replace(episode, policy=name, versions="")
        for name, pairing, policy in ((A, one, of_a), (B, other, of_b))
        for key, runs in pairing.cells.items()
        if key[0] == policy
        for run in runs.values()
        for episode in run.values()
    ]
    # A table of episodes does not say which factors are physical; their names do.
    shifts = [{"name": name, "physical": name in SHIFTS and SHIFTS[name].physical} for name in other.shifts]
    return Pairing(episodes, {"policies": [{"name": A}, {"name": B}], "shifts": shifts})


def _family(policy: str, both: Pairing) -> list[_Member]:
    members = []
    shared = [name for name in both.visual if any(both.severities(name, task, A, B) for task in both.tasks)]
    for shift in [*([ALL] if shared else []), CLEAN, *both.shifts]:
        names = [CLEAN, *shared] if shift == ALL else [shift]
        blocks: list[NDArray[np.bool_]] = []
        for task in both.tasks:
            conditions = [(name, level) for name in names for level in both.severities(name, task, A, B)]
            keys: list[Key] = [(who, task, *condition) for who in (B, A) for condition in conditions]
            block = both.common(keys)
            if block.size and block.shape[1] >= 2:
                blocks.append(block)
        if blocks:
            members.append(_member(policy, shift, blocks))
    return members


def _member(policy: str, shift: str, blocks: Sequence[NDArray[np.bool_]]) -> _Member:
    runs = min(len(block) for block in blocks)
    halves = [np.split(block[:runs].astype(np.int64), 2, axis=2) for block in blocks]
    gained = [later - earlier for later, earlier in halves]
    values = [table.mean(axis=2) for table in gained]
    rates = tuple(float(np.mean([half[i].mean() for half in halves])) for i in (1, 0))

    def at(confidence: float) -> HierarchicalMean:
        return hierarchical_mean(values, confidence, bounds=(-1.0, 1.0))

    return _Member(
        policy,
        shift,
        cells=sum(table.shape[2] for table in gained),
        n=sum(table.shape[1] for table in gained),
        training_seeds=runs,
        rates=(rates[0], rates[1]),
        p=sign_flips(np.concatenate([table.sum(axis=2).ravel() for table in gained])),
        at=at,
    )


def _holm_by_intervals(members: Sequence[_Member], margin: float) -> list[Row]:
    """The family's rows in their order, each with the interval of its step."""
    clearest = sorted(range(len(members)), key=lambda i: _clearness(members[i].at(1 - SIGNIFICANCE), margin))
    rows: dict[int, Row] = {}
    searching = True
    confidence = 1 - SIGNIFICANCE
    for step, i in enumerate(clearest):
        if searching:
            confidence = 1 - SIGNIFICANCE / (len(members) - step)
        sure = members[i].at(confidence)
        searching = searching and sure.high < -margin
        rows[i] = _row(members[i], sure, searching, margin)
    return [rows[i] for i in range(len(members))]


def _clearness(mean: HierarchicalMean, margin: float) -> float:
    """How far the loss exceeds the margin, in half widths of its interval; the most negative is clearest."""
    return (mean.estimate + margin) / max(mean.high - mean.estimate, 1e-12)


def _row(member: _Member, sure: Interval, regressed: bool, margin: float) -> Row:
    mean = member.at(1 - SIGNIFICANCE)
    where = {ALL: "over all conditions", CLEAN: "on clean episodes"}.get(
        member.shift, f"under {words.factor(member.shift)}"
    )
    if regressed:
        verdict = f"a regression of more than {words.percent(margin)} of episodes"
    elif mean.high < 0:
        verdict = "a loss, but not established to exceed the margin after Holm"
    elif mean.low > 0:
        verdict = "a gain"
    else:
        verdict = "no difference is established"
    return {
        "policy": member.policy,
        "shift": member.shift,
        "cells": member.cells,
        "training_seeds": member.training_seeds,
        "n": member.n,
        "a": member.rates[0],
        "b": member.rates[1],
        "difference": mean.estimate,
        "low": mean.low,
        "high": mean.high,
        "sure_low": sure.low,
        "sure_high": sure.high,
        "p": member.p,
        "regressed": regressed,
        "words": f"{member.policy} {where}: {words.points(mean)}: {verdict}.",
    }


def _explain(a: str, one: Pairing, of_a: str, b: str, other: Pairing, of_b: str) -> None:
    """Raises `UserError` for why two policies have no episode in common."""
    cells = [
        {key[1:] for key in p.cells if key[0] == who and key[2] != BLIND}
        for p, who in ((one, of_a), (other, of_b))
    ]
    shared = cells[0] & cells[1]
    if not shared:
        tasks = [{task for task, _, _ in found} for found in cells]
        what = "task" if not tasks[0] & tasks[1] else "factor and severity"
        raise UserError(f"{a} and {b} have no {what} in common for {of_b}; evaluate both on the same plan")
    raise UserError(
        f"the episodes of {a} ({_seeds(one, of_a)}) and {b} ({_seeds(other, of_b)}) have fewer than two seeds in "
        "common, so nothing can be paired; evaluate both with the same --first-seed"
    )


def _seeds(pairing: Pairing, policy: str) -> str:
    seeds = [s for key, runs in pairing.cells.items() if key[0] == policy for run in runs.values() for s in run]
    return f"seeds {min(seeds)} to {max(seeds)}"


def _summary(rows: Sequence[Row], margin: float, versions_a: str, versions_b: str) -> list[str]:
    found = [row["words"] for row in rows if row["regressed"]]
    if not found:
        none = (
            f"No regression of more than {words.percent(margin)} of episodes is established, overall or by factor."
        )
        found = [f"{none} That is not evidence of equality: look at the intervals."]
    found += [row["words"] for row in rows if row["shift"] == ALL and not row["regressed"]]
    if versions_a != versions_b:
        found.append(f"The software differs ({versions_a} against {versions_b}): that is part of the difference.")
    return found


def _lacking(
    a: ResultSet, one: Pairing, b: ResultSet, other: Pairing, pairs: Sequence[tuple[str, str, str]]
) -> list[str]:
    """What is compared of neither: B without it looks no worse than B that has kept it."""
    found = [
        f"{s.name} is not finished: of its plan, {words.counted(s.unfinished, 'part')} to go."
        for s in (a, b)
        if s.unfinished
    ]
    left = [policy for policy in one.learned if policy not in {of_a for _, of_a, _ in pairs}]
    if left:
        found.append(f"{b.name} lacks policies that {a.name} has: {words.listed(left)}.")
    for name, of_a, of_b in pairs:
        sides = (one, of_a), (other, of_b)
        had, kept = (len(pairing.training_seeds(who)) for pairing, who in sides)
        if kept < had:
            fewer, more = (words.counted(n, "training seed") for n in (kept, had))
            found.append(f"{b.name} has {fewer} of {name}, where {a.name} has {more}.")
        cells = [{key[1:] for key in p.cells if key[0] == who} for p, who in sides]
        lost = sorted(cell for cell in cells[0] - cells[1] if cell[1] != BLIND)
        if lost:
            named = [f"{task} {words.under(shift, level)}" for task, shift, level in lost[:3]]
            named += [f"{len(lost) - 3} more"] if len(lost) > 3 else []
            found.append(f"{b.name} lacks conditions of {name} that {a.name} has: {words.listed(named)}.")
    return found

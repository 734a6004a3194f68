"""From measured distances to estimates with intervals, and to words that say what is established."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..data.trained_on import trained_on
from . import phrases
from .dataset import Samples
from .distances import overall
from .factors import FACTORS
from .measure import Arrays
from .planner import Checkpoint
from .records import SCHEMA_VERSION, Estimate, Harm, ProbeCell, ProbedPolicy, ProbeResults, Verdict
from .request import Cell, Request, clean_cell

FEW_EPISODES = 10
"""Below it the report warns."""
BOOTSTRAP_EPISODES = 6
"""A bootstrap never leaves the range of n values, which holds their median with probability 1 - 2^(1-n): 94% of 5."""


def summarise(
    request: Request,
    samples: Samples,
    checkpoints: dict[str, Checkpoint],
    parts: dict[Cell, Arrays],
    meta: dict[str, Any],
) -> ProbeResults:
    """The whole of probe.json; `meta` goes in as it is.

    Raises:
        ValueError: there are fewer than two episodes.
    """
    policies, cells = [], []
    for named in request.policies:
        clean = parts[clean_cell(named)]
        policy = _policy(named.name, checkpoints[named.name], clean, samples.episode)
        policies.append(policy)
        cells += [
            _cell(cell, arrays, clean, samples.episode, policy["deterministic"])
            for cell, arrays in parts.items()
            if cell.policy == named and not cell.is_clean
        ]
    return {
        "schema": SCHEMA_VERSION,
        "meta": meta,
        "summary": [
            phrases.summary(policy, [c for c in cells if c["policy"] == policy["name"]]) for policy in policies
        ],
        "policies": policies,
        "cells": cells,
        "caveats": _caveats(request, policies, checkpoints, meta),
    }


def over_episodes(values: NDArray[np.floating], episodes: NDArray[np.int64], least: float = -np.inf) -> Estimate:
    """The mean over episodes of each episode's mean, with an interval that resamples whole episodes.

    Frames of one episode look alike and are not independent. The bootstrap's percentile level is expanded to
    α' = 2Φ(-sqrt(n / (n - 1))·t_{α/2, n-1}), without which it is too narrow for a few dozen episodes (Hesterberg,
    "What teachers should know about the bootstrap", The American Statistician 2015). Fewer than
    `BOOTSTRAP_EPISODES` means cannot carry a bootstrap and get Student's t interval.

    Args:
        values: `[N]`, one a frame.
        episodes: `[N]`, of two episodes at least.
        least: what no value can be below, such as 0 for a distance.
    """
    _, where = np.unique(episodes, return_inverse=True)
    means = np.bincount(where, weights=values) / np.bincount(where)
    mean, n = float(means.mean()), len(means)
    if n < BOOTSTRAP_EPISODES:
        half = float(stats.t.isf(0.025, n - 1) * means.std(ddof=1) / np.sqrt(n))
        return {"estimate": mean, "low": max(mean - half, least), "high": mean + half}
    if np.ptp(means) < 1e-12:
        return {"estimate": mean, "low": mean, "high": mean}
    tail = float(stats.norm.sf(np.sqrt(n / (n - 1)) * stats.t.isf(0.025, n - 1)))
    found = stats.bootstrap((means,), np.mean, confidence_level=1 - 2 * tail, method="percentile", rng=0)
    interval = found.confidence_interval
    return {"estimate": mean, "low": float(min(interval.low, mean)), "high": float(max(interval.high, mean))}


def _policy(name: str, checkpoint: Checkpoint, clean: Arrays, episodes: NDArray[np.int64]) -> ProbedPolicy:
    return {
        "name": name,
        "type": str(checkpoint.config.type),
        "checkpoint": str(checkpoint.folder),
        "steps": int(clean["chunk"].shape[1]),
        "history": checkpoint.history,
        "cameras": checkpoint.cameras,
        "deterministic": bool((clean["spread"] == 0).all()),
        "spread": over_episodes(overall(clean["spread"]), episodes, least=0),
        "error": over_episodes(overall(clean["error"]), episodes, least=0),
        "spread_by_dimension": _by_dimension(clean["spread"]),
        "error_by_dimension": _by_dimension(clean["error"]),
    }


def _cell(
    cell: Cell, arrays: Arrays, clean: Arrays, episodes: NDArray[np.int64], deterministic: bool
) -> ProbeCell:
    moved, spread = overall(arrays["moved"]), overall(clean["spread"])
    error, error_clean = overall(arrays["error"]), overall(clean["error"])
    beyond, harm = over_episodes(moved - spread, episodes), over_episodes(error - error_clean, episodes)
    made: ProbeCell = {
        "policy": cell.policy.name,
        "factor": cell.factor,
        "severity": cell.severity,
        "magnitude": FACTORS[cell.factor].magnitudes[cell.severity - 1] if cell.severity else 0.0,
        "camera": cell.camera,
        "frames": len(moved),
        "episodes": len(np.unique(episodes)),
        "moved": over_episodes(moved, episodes, least=0),
        "spread": over_episodes(spread, episodes, least=0),
        "beyond": beyond,
        "verdict": _verdict(moved, beyond, deterministic),
        "error_clean": over_episodes(error_clean, episodes, least=0),
        "error_shifted": over_episodes(error, episodes, least=0),
        "harm": harm,
        "harm_verdict": _harm(harm),
        "moved_by_dimension": _by_dimension(arrays["moved"]),
        "error_shifted_by_dimension": _by_dimension(arrays["error"]),
        "words": "",
    }
    made["words"] = phrases.cell(made)
    return made


def _verdict(moved: NDArray[np.floating], beyond: Estimate, deterministic: bool) -> Verdict:
    if not moved.any():
        return "none"
    if deterministic:
        return "no spread"
    if beyond["low"] > 0:
        return "beyond"
    return "within" if beyond["high"] < 0 else "unclear"


def _harm(harm: Estimate) -> Harm:
    if harm["low"] > 0:
        return "farther"
    return "closer" if harm["high"] < 0 else "not established"


def _by_dimension(distances: NDArray[np.floating]) -> list[float]:
    return [float(value) for value in distances.mean(axis=0)]


def _caveats(
    request: Request, policies: Sequence[ProbedPolicy], checkpoints: dict[str, Checkpoint], meta: dict[str, Any]
) -> list[str]:
    caveats = [
        (
            "A chunk that moves is not a failure, and one that stays is not a success: this shows what a policy's plan "
            "depends on. Only episodes on the robot, or in a simulator, show what that costs."
        ),
        "Shifts are applied to recorded pictures: light does not change the scene's own shadows and highlights.",
        "Intervals are for one cell each and are not adjusted for the number of cells.",
    ]
    if len(request.episodes) < FEW_EPISODES:
        caveats.append(
            f"There are {len(request.episodes)} episodes; intervals over so few are rough. Ten or more are better."
        )
    caveats += [
        f"{policy['name']} gives the same chunk whatever its noise: it has no spread of its own, and any movement "
        "comes from the shift."
        for policy in policies
        if policy["deterministic"]
    ]
    if meta["still_dimensions"]:
        caveats.append(
            f"Left out, since they never move in the dataset: action {phrases.listed(meta['still_dimensions'])}."
        )
    for policy in policies:
        caveats += _seen_in_training(request, policy["name"], checkpoints[policy["name"]])
    return caveats


def _seen_in_training(request: Request, name: str, checkpoint: Checkpoint) -> list[str]:
    """What the checkpoint's own record of its training says of the episodes shown."""
    trained = trained_on(checkpoint.folder)
    if trained is None:
        return [
            f"Nothing in {name}'s checkpoint says which episodes it was trained on: see that none is shown here."
        ]
    same = trained.is_at(request.root, request.repo_id)
    if same is None:
        return [
            (
                f"{name} was trained on {trained.root or trained.repo_id}: whether that is the dataset shown here "
                "cannot be told, so see that no episode is of its training."
            )
        ]
    seen = {*request.episodes} & trained.known(checkpoint.meta, checkpoint.config) if same else set()
    if not seen:
        return []
    return [
        (
            f"{name} was trained on {len(seen)} of the {len(request.episodes)} episodes shown: for these it is not "
            "held out, and its distance from the demonstration is too small."
        )
    ]

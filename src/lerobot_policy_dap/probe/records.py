"""The shape of probe.json: what `summarise` makes and the report shows. All distances are in σ: see `distances`."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

SCHEMA_VERSION = 1

Verdict = Literal["none", "beyond", "within", "unclear", "no spread"]
"""A movement against the policy's own spread: no movement at all, more than the spread, less, not told apart from it,
or a movement of a policy that has no spread."""

Harm = Literal["farther", "closer", "not established"]
"""Where the movement leads: away from the demonstrated actions, towards them, or neither with any certainty."""


class Estimate(TypedDict):
    """A mean over episodes with its 95% interval."""

    estimate: float
    low: float
    high: float


class ProbeCell(TypedDict):
    """One policy under one shift. `camera` is "all" or the feature's name.

    `beyond` is moved - spread, `harm` is error_shifted - error_clean, both paired frame by frame. Lists are means for
    each action dimension named in `meta`.
    """

    policy: str
    factor: str
    severity: int
    magnitude: float
    camera: str
    frames: int
    episodes: int
    moved: Estimate
    spread: Estimate
    beyond: Estimate
    verdict: Verdict
    error_clean: Estimate
    error_shifted: Estimate
    harm: Estimate
    harm_verdict: Harm
    moved_by_dimension: list[float]
    error_shifted_by_dimension: list[float]
    words: str


class ProbedPolicy(TypedDict):
    """One policy on the clean frames. `steps` are the executed ones of a chunk, `history` the observations it sees."""

    name: str
    type: str
    checkpoint: str
    steps: int
    history: int
    cameras: list[str]
    deterministic: bool
    spread: Estimate
    error: Estimate
    spread_by_dimension: list[float]
    error_by_dimension: list[float]


class ProbeResults(TypedDict):
    """The whole of probe.json."""

    schema: int
    meta: dict[str, Any]
    summary: list[str]
    policies: list[ProbedPolicy]
    cells: list[ProbeCell]
    caveats: list[str]

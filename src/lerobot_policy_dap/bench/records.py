"""The shape of results.json: what `summarise` makes and the report shows."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

SCHEMA_VERSION = 3


class Cell(TypedDict):
    """One policy under one condition, all its training seeds together.

    `low` and `high` are Wilson's limits over all `n` episodes: of these checkpoints. `luck_low` and `luck_high` hold
    the luck of training too, and are None with one training seed. `plan_ms` is None when not measured; for
    `at_floor` see `summarise`.
    """

    policy: str
    task: str
    shift: str
    severity: int
    n: int
    successes: int
    rate: float
    low: float
    high: float
    training_seeds: int
    luck_low: float | None
    luck_high: float | None
    mean_steps: float
    plan_ms: float | None
    at_floor: bool | None


class Drop(TypedDict):
    """What one policy loses under one shift: clean minus shifted, on their common training seeds and seeds.

    `n` counts pairs. `verdict` is the end of `words`.
    """

    policy: str
    task: str
    shift: str
    severity: int
    n: int
    drop: float
    low: float
    high: float
    p: float
    p_holm: float
    established: bool
    verdict: str
    words: str


class Difference(TypedDict):
    """Policy a minus policy b under one condition, on their common seeds.

    `verdict` is the end of `words`. `at_floor`: neither policy leaves its blind floor, so the difference says
    nothing of robustness; None when a floor is unknown.
    """

    a: str
    b: str
    task: str
    shift: str
    severity: int
    n: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    established: bool
    at_floor: bool | None
    verdict: str
    words: str


class Mean(TypedDict):
    """A mean over cells, each weighing the same within its task, and over tasks, each weighing the same.

    `kind`:
        "rate": success of `policy` under shift;
        "area": the normalised area under its severity curve, see `means.area_weights`;
        "drop": clean minus shifted of `policy`;
        "difference": `policy` minus `other`.

    `task` is "" for all tasks, `shift` "" for all visual factors; physical factors stand for themselves alone.
    `severity` is None for a mean over severities.
    `n` is the number of initial states in every cell, summed over tasks. `p`, `p_holm` and `established` are None
    for the first two kinds, `other` for all but the last. The interval is `hierarchy.hierarchical_mean`'s.
    """

    kind: Literal["rate", "area", "drop", "difference"]
    policy: str
    other: str | None
    task: str
    shift: str
    severity: int | None
    cells: int
    training_seeds: int
    n: int
    estimate: float
    low: float
    high: float
    p: float | None
    p_holm: float | None
    established: bool | None
    verdict: str
    words: str


class Alarms(TypedDict):
    """What one policy's monitor said under one condition, in episodes.

    `in_time` counts the failures whose alarm came before their last third.
    """

    policy: str
    task: str
    shift: str
    severity: int
    successes: int
    alarms_in_successes: int
    failures: int
    alarms_in_failures: int
    in_time: int


class Results(TypedDict):
    """The whole of results.json."""

    schema: int
    meta: dict[str, Any]
    summary: list[str]
    cells: list[Cell]
    drops: list[Drop]
    differences: list[Difference]
    means: list[Mean]
    alarms: list[Alarms]
    caveats: list[str]

"""The shape of results.json: what `summarise` makes and the report shows."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

SCHEMA_VERSION = 1


class Cell(TypedDict):
    """One policy under one condition. `plan_ms` is None when not measured; for `at_floor` see `summarise`."""

    policy: str
    task: str
    shift: str
    severity: int
    n: int
    successes: int
    rate: float
    low: float
    high: float
    mean_steps: float
    plan_ms: float | None
    at_floor: bool | None


class Drop(TypedDict):
    """What one policy loses under one shift: clean minus shifted, on their common seeds."""

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


class Overall(TypedDict):
    """A mean over all shifted cells of a task, each weighing the same, with an interval over seeds.

    `kind` "rate": success of `policy`; "drop": clean minus shifted of `policy`; "difference": `policy` minus
    `other`. `other` and `established` are None for the first two. `n` is the number of seeds in every cell.
    """

    kind: Literal["rate", "drop", "difference"]
    policy: str
    other: str | None
    task: str
    cells: int
    n: int
    estimate: float
    low: float
    high: float
    established: bool | None
    words: str


class Results(TypedDict):
    """The whole of results.json."""

    schema: int
    meta: dict[str, Any]
    summary: list[str]
    cells: list[Cell]
    drops: list[Drop]
    differences: list[Difference]
    overall: list[Overall]
    caveats: list[str]

"""What stands where in the report: the scopes of the task switch, the heat map, and names for links."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from . import charts
from .episodes import BLIND, CLEAN, EXPERT
from .means import ALL
from .records import Cell, Mean, Results

ROW_LIMIT = 2000
"""Rows of one table; of more, the established ones come first and the rest stays in results.json."""


class Anchors:
    """Names for links: one for each list of parts, safe in an address, and never the same for two lists."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, ...], str] = {}
        self._taken: set[str] = set()

    def __call__(self, *parts: object) -> str:
        """The name of these parts, the same whenever asked."""
        key = tuple(str(part) for part in parts)
        if key not in self._names:
            plain = name = ".".join(re.sub(r"[^\w-]+", "-", part) or "all" for part in key)
            count = 1
            while name in self._taken:
                count += 1
                name = f"{plain}.{count}"
            self._taken.add(name)
            self._names[key] = name
        return self._names[key]


def scopes(results: Results, policies: Sequence[str]) -> list[dict[str, Any]]:
    """What the task switch chooses between, all tasks together first where there are several."""
    tasks = list(dict.fromkeys(cell["task"] for cell in results["cells"]))
    names = [ALL, *tasks] if len(tasks) > 1 else tasks
    shifts = results["meta"].get("shifts") or []
    physical = {str(shift["name"]) for shift in shifts if shift.get("physical")}
    return [_scope(results, name, policies, physical, shifts) for name in names]


def capped(rows: Sequence[Any]) -> tuple[list[Any], int]:
    """At most `ROW_LIMIT` rows in their order, and how many are left out, of those that are not established."""
    spare = max(ROW_LIMIT - sum(row["established"] for row in rows), 0)
    kept = []
    for row in rows:
        if not row["established"]:
            spare -= 1
        if row["established"] or spare >= 0:
            kept.append(row)
    return kept, len(rows) - len(kept)


def condition_major(drops: Sequence[Any]) -> list[Any]:
    """Policies of one condition beside one another, conditions in their order."""
    order = {key: i for i, key in enumerate(dict.fromkeys((d["task"], d["shift"], d["severity"]) for d in drops))}
    return sorted(drops, key=lambda drop: order[drop["task"], drop["shift"], drop["severity"]])


def quantity_in_words(value: Any) -> str:
    """A value of a table: grouped integers, three significant digits of a float, an en dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return with_minus(f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}")
    return str(value)


def with_minus(text: str) -> str:
    """Typographic minus signs; hyphens inside names, dates and ranges stay."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text)


def _scope(
    results: Results,
    task: str,
    policies: Sequence[str],
    physical: set[str],
    shifts: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    means: dict[tuple[str, str, str, int | None], Mean] = {
        (m["kind"], m["policy"], m["shift"], m["severity"]): m
        for m in results["means"]
        if m["task"] == task and m["other"] is None
    }
    cells = _cells(results, task, means)
    conditions = list(dict.fromkeys((shift, severity) for _, shift, severity in cells))
    # Policies may differ in their conditions: put what only a later one has where it belongs.
    conditions.sort(key=lambda c: (c[0] != CLEAN, c[0] == BLIND, c[0] in physical))
    factors = list(dict.fromkeys(shift for shift, _ in conditions if shift not in (CLEAN, BLIND)))
    if task == ALL:
        spots = [charts.spot_of_mean(m) for m in means.values() if m["severity"] is not None]
    else:
        spots = [charts.spot_of_cell(cell) for cell in results["cells"] if cell["task"] == task]
    panels = charts.severity_panels(spots, policies, _magnitudes(shifts), _quantities(shifts))
    return {
        "task": task,
        "name": task or "All tasks",
        "conditions": conditions,
        "cells": cells,
        "floors": {p: cells[p, BLIND, 0]["rate"] if (p, BLIND, 0) in cells else None for p in policies},
        "means": means,
        "visual": [factor for factor in factors if factor not in physical],
        "physical": [factor for factor in factors if factor in physical],
        "panels": [p for p in panels if p.shift not in physical],
        "physical_panels": [p for p in panels if p.shift in physical],
        "drops": [
            m for factor in factors for policy in policies
            if policy != EXPERT and (m := means.get(("drop", policy, factor, None)))
        ],
        "gains": [
            m for m in results["means"] if (m["kind"], m["task"]) == ("difference", task) and m["shift"] == ALL
        ],
        "differences": [
            m for m in results["means"] if (m["kind"], m["task"]) == ("difference", task) and m["shift"] != ALL
        ],
    }  # fmt: skip


def _cells(
    results: Results, task: str, means: Mapping[tuple[str, str, str, int | None], Mean]
) -> dict[tuple[str, str, int], Any]:
    """By policy, shift and severity: cells of a task, or means over all tasks in the same shape."""
    if task != ALL:
        return {(c["policy"], c["shift"], c["severity"]): c for c in results["cells"] if c["task"] == task}
    return {
        (policy, shift, severity): _as_cell(mean)
        for (kind, policy, shift, severity), mean in means.items()
        if kind == "rate" and severity is not None
    }


def _as_cell(mean: Mean) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(Cell.__annotations__)
    return empty | {
        "policy": mean["policy"],
        "shift": mean["shift"],
        "severity": mean["severity"],
        "rate": mean["estimate"],
        "low": mean["low"],
        "high": mean["high"],
    }


def _magnitudes(shifts: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, str]]:
    """For a shift and a severity (1 is the first of its magnitudes), the number."""
    return {
        str(shift["name"]): {
            severity: quantity_in_words(magnitude)
            for severity, magnitude in enumerate(shift.get("magnitudes") or [], start=1)
        }
        for shift in shifts
    }


def _quantities(shifts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """For a shift, what its magnitude measures and in which unit."""
    named = {str(shift["name"]): (shift.get("quantity"), shift.get("unit")) for shift in shifts}
    return {name: ", ".join(str(part) for part in parts if part) for name, parts in named.items()}

"""Geometry of the severity curves: what the template draws as inline SVG, in the units of its view box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import words
from .episodes import BLIND, CLEAN
from .records import Cell

WIDTH, HEIGHT = 300, 208
LEFT, RIGHT, TOP, BOTTOM = 34, 292, 14, 162
DODGE = 16
"""Greatest horizontal shift between policies, so that equal rates stay visible."""


@dataclass(frozen=True, slots=True)
class Point:
    """A cell of a curve. `filled` is false at the blind floor."""

    x: float
    y: float
    filled: bool
    label: str


@dataclass(frozen=True, slots=True)
class Curve:
    """One policy: its points, the outline of its interval band, and the height of its blind floor."""

    policy: int
    points: list[Point]
    band: str
    floor: float | None


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of the horizontal axis with its two lines of text."""

    x: float
    name: str
    magnitude: str


@dataclass(frozen=True, slots=True)
class Panel:
    """All policies under one shift, severity 0 being clean."""

    shift: str
    title: str
    quantity: str
    curves: list[Curve]
    ticks: list[Tick]


def height_of(rate: float) -> float:
    """The vertical position of a rate in [0, 1]."""
    return round(BOTTOM - rate * (BOTTOM - TOP), 2)


def severity_panels(
    cells: Sequence[Cell],
    policies: Sequence[str],
    magnitudes: dict[str, dict[int, str]],
    quantities: dict[str, str],
) -> list[Panel]:
    """One panel for every shift among the cells of one task.

    Args:
        cells: of one task, in the order of the report.
        policies: all policies, in the order of their colours.
        magnitudes: for a shift and a severity, the physical magnitude in words; may lack any.
        quantities: for a shift, what its magnitude measures; may lack any.
    """
    shifts = list(dict.fromkeys(cell["shift"] for cell in cells if cell["shift"] not in (CLEAN, BLIND)))
    # One axis for all panels, so that slopes can be compared across them.
    last = max((cell["severity"] for cell in cells), default=1)
    panels = []
    for shift in shifts:
        shown = [cell for cell in cells if cell["shift"] in (CLEAN, shift)]
        severities = sorted({cell["severity"] for cell in shown})
        ticks = [
            Tick(_across(s, last), "clean" if s == 0 else str(s), magnitudes.get(shift, {}).get(s, ""))
            for s in severities
        ]
        curves = []
        for index, policy in enumerate(policies):
            mine = sorted((cell for cell in shown if cell["policy"] == policy), key=lambda cell: cell["severity"])
            blind = [cell["rate"] for cell in cells if cell["policy"] == policy and cell["shift"] == BLIND]
            if mine:
                step = min(5.0, DODGE / max(len(policies) - 1, 1))
                dodge = (index - (len(policies) - 1) / 2) * step
                curves.append(_curve(index, mine, blind, dodge, last))
        panels.append(Panel(shift, shift.replace("_", " "), quantities.get(shift, ""), curves, ticks))
    return panels


def _curve(index: int, cells: Sequence[Cell], blind: Sequence[float], dodge: float, last: int) -> Curve:
    points = []
    upper, lower = [], []
    for cell in cells:
        x = round(_across(cell["severity"], last) + dodge, 2)
        where = words.condition(cell["shift"], cell["severity"])
        label = f"{cell['policy']}, {where}: {words.rate_of(cell)}, {cell['successes']} of {cell['n']}"
        if cell["at_floor"]:
            label += ", at the blind floor"
        points.append(Point(x, height_of(cell["rate"]), not cell["at_floor"], label))
        upper.append(f"{x},{height_of(cell['high'])}")
        lower.append(f"{x},{height_of(cell['low'])}")
    floor = height_of(blind[0]) if blind else None
    return Curve(index, points, " ".join([*upper, *reversed(lower)]), floor)


def _across(severity: int, last: int) -> float:
    inset = 20
    return round(LEFT + inset + severity / max(last, 1) * (RIGHT - LEFT - 2 * inset), 2)

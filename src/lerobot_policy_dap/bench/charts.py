"""Geometry of the severity curves: what the template draws as inline SVG, in the units of its view box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import words
from .episodes import BLIND, CLEAN
from .records import Cell, Mean
from .statistics import Interval

WIDTH, HEIGHT = 300, 208
LEFT, RIGHT, TOP, BOTTOM = 34, 292, 14, 162
DODGE = 16
"""Greatest horizontal shift between policies, so that equal rates stay visible."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A rate in [0, 1] to be drawn, with its interval and its text."""

    policy: str
    shift: str
    severity: int
    rate: float
    low: float
    high: float
    at_floor: bool
    label: str


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
    spots: Sequence[Spot],
    policies: Sequence[str],
    magnitudes: dict[str, dict[int, str]],
    quantities: dict[str, str],
) -> list[Panel]:
    """One panel for every shift among the cells of one task.

    Args:
        spots: of one task, or of all together, in the order of the report.
        policies: all policies, in the order of their colours.
        magnitudes: for a shift and a severity, the physical magnitude in words; may lack any.
        quantities: for a shift, what its magnitude measures; may lack any.
    """
    shifts = list(dict.fromkeys(spot.shift for spot in spots if spot.shift not in (CLEAN, BLIND)))
    # One axis for all panels, so that slopes can be compared across them.
    last = max((spot.severity for spot in spots), default=1)
    panels = []
    for shift in shifts:
        shown = [spot for spot in spots if spot.shift in (CLEAN, shift)]
        severities = sorted({spot.severity for spot in shown})
        ticks = [
            Tick(_across(s, last), "clean" if s == 0 else str(s), magnitudes.get(shift, {}).get(s, ""))
            for s in severities
        ]
        curves = []
        for index, policy in enumerate(policies):
            mine = sorted((spot for spot in shown if spot.policy == policy), key=lambda spot: spot.severity)
            blind = [spot.rate for spot in spots if spot.policy == policy and spot.shift == BLIND]
            if mine:
                step = min(5.0, DODGE / max(len(policies) - 1, 1))
                dodge = (index - (len(policies) - 1) / 2) * step
                curves.append(_curve(index, mine, blind, dodge, last))
        panels.append(Panel(shift, words.factor(shift), quantities.get(shift, ""), curves, ticks))
    return panels


def spot_of_cell(cell: Cell) -> Spot:
    """A cell; with several training seeds, its band holds their luck."""
    low = cell["low"] if cell["luck_low"] is None else cell["luck_low"]
    high = cell["high"] if cell["luck_high"] is None else cell["luck_high"]
    where = words.condition(cell["shift"], cell["severity"])
    label = f"{cell['policy']}, {where}: {words.rate(Interval(cell['rate'], low, high))}"
    label += f", {cell['successes']} of {cell['n']}"
    label += ", at the blind floor" if cell["at_floor"] else ""
    key = cell["policy"], cell["shift"], cell["severity"]
    return Spot(*key, cell["rate"], low, high, bool(cell["at_floor"]), label)


def spot_of_mean(mean: Mean) -> Spot:
    """A mean over all tasks under one condition."""
    severity = mean["severity"] or 0
    where = words.condition(mean["shift"], severity)
    interval = Interval(mean["estimate"], mean["low"], mean["high"])
    label = f"{mean['policy']}, {where}, all tasks: {words.rate(interval)}"
    key = mean["policy"], mean["shift"], severity
    return Spot(*key, mean["estimate"], mean["low"], mean["high"], False, label)


def _curve(index: int, spots: Sequence[Spot], blind: Sequence[float], dodge: float, last: int) -> Curve:
    points = []
    upper, lower = [], []
    for spot in spots:
        x = round(_across(spot.severity, last) + dodge, 2)
        points.append(Point(x, height_of(spot.rate), not spot.at_floor, spot.label))
        upper.append(f"{x},{height_of(spot.high)}")
        lower.append(f"{x},{height_of(spot.low)}")
    floor = height_of(blind[0]) if blind else None
    return Curve(index, points, " ".join([*upper, *reversed(lower)]), floor)


def _across(severity: int, last: int) -> float:
    inset = 20
    return round(LEFT + inset + severity / max(last, 1) * (RIGHT - LEFT - 2 * inset), 2)

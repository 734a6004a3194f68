"""Geometry of the movement curves: what the template draws as inline SVG, in the units of its view box."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..bench.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Curve, Point, Tick
from .factors import FACTORS
from .records import Estimate, ProbeCell

__all__ = [
    "BOTTOM",
    "HEIGHT",
    "LEFT",
    "RIGHT",
    "TOP",
    "WIDTH",
    "Axis",
    "Panel",
    "axis",
    "magnitude",
    "panels",
    "reach",
]

_DODGE = 4.0
_INSET = 16


@dataclass(frozen=True)
class Axis:
    """The vertical axis that all panels of a policy share, from 0 to the last of `levels`, in σ."""

    levels: tuple[float, ...]

    @property
    def top(self) -> float:
        """The greatest distance shown."""
        return self.levels[-1]

    def height_of(self, distance: float) -> float:
        """The vertical position of a distance."""
        return round(BOTTOM - min(max(distance / self.top, 0.0), 1.0) * (BOTTOM - TOP), 2)


@dataclass(frozen=True)
class Panel:
    """One factor: a curve for each camera shifted, and the policy's own spread as a level with its interval."""

    factor: str
    title: str
    quantity: str
    curves: list[Curve]
    ticks: list[Tick]


def axis(cells: Sequence[ProbeCell]) -> Axis:
    """Round levels up to `reach`."""
    top = reach(cells)
    power = 10.0 ** math.floor(math.log10(top / 4))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * 4 >= top)
    count = math.ceil(top / step - 1e-9)
    return Axis(tuple(round(step * i, 10) for i in range(count + 1)))


def reach(cells: Sequence[ProbeCell]) -> float:
    """The greatest distance worth showing: every mean, and intervals up to thrice the greatest of them.

    An interval over two or three episodes can be so long that nothing else could be seen beside it.
    """
    shown = [cell[part] for cell in cells for part in ("moved", "spread")]
    greatest = max((value["estimate"] for value in shown), default=0.0)
    return min(max((value["high"] for value in shown), default=0.0), 3 * greatest) or 1.0


def panels(cells: Sequence[ProbeCell], cameras: Sequence[str], scale: Axis) -> list[Panel]:
    """One panel for every factor among the cells of one policy.

    Args:
        cameras: what is shifted, in the order of their colours.
        scale: from `axis`.
    """
    last = max((cell["severity"] for cell in cells), default=1) or 1
    made = []
    for factor in dict.fromkeys(cell["factor"] for cell in cells):
        mine = [cell for cell in cells if cell["factor"] == factor]
        ticks = [
            Tick(_across(severity, last), str(severity) if severity else "clean", magnitude(factor, severity))
            for severity in sorted({0, *(cell["severity"] for cell in mine)})
        ]
        curves = [
            _curve(i, sorted((c for c in mine if c["camera"] == camera), key=lambda c: c["severity"]), last, scale)
            for i, camera in enumerate(cameras)
        ]
        quantity = f"{FACTORS[factor].quantity}, {FACTORS[factor].unit}"
        made.append(Panel(factor, factor.replace("_", " "), quantity, curves, ticks))
    return made


def magnitude(factor: str, severity: int) -> str:
    """The number that a severity stands for; nothing for the untouched frame."""
    return f"{FACTORS[factor].magnitudes[severity - 1]:g}" if severity else ""


def _curve(index: int, cells: Sequence[ProbeCell], last: int, scale: Axis) -> Curve:
    still: Estimate = {"estimate": 0.0, "low": 0.0, "high": 0.0}
    shown = [(0, still, "clean: 0 σ"), *((c["severity"], c["moved"], c["words"]) for c in cells if c["severity"])]
    points, upper, lower = [], [], []
    for severity, moved, label in shown:
        x = round(_across(severity, last) + (index * _DODGE if severity else 0), 2)
        points.append(Point(x, scale.height_of(moved["estimate"]), True, label))
        upper.append(f"{x},{scale.height_of(moved['high'])}")
        lower.append(f"{x},{scale.height_of(moved['low'])}")
    return Curve(index, points, " ".join([*upper, *reversed(lower)]), None)


def _across(severity: int, last: int) -> float:
    return round(LEFT + _INSET + severity / last * (RIGHT - LEFT - 2 * _INSET), 2)

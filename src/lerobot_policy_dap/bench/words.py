"""Numbers as plain words: the same sentences in the results file, on the terminal and in the report."""

from __future__ import annotations

from collections.abc import Sequence

from .episodes import BLIND, CLEAN
from .records import Cell
from .statistics import Interval


def factor(shift: str) -> str:
    """A shift as words: "light intensity"."""
    return shift.replace("_", " ")


def condition(shift: str, severity: int) -> str:
    """What the images went through, in words: "clean", "blind" or "light intensity 4"."""
    if shift == CLEAN:
        return "clean"
    return "blind" if shift == BLIND else f"{factor(shift)} {severity}"


def under(shift: str, severity: int) -> str:
    """The condition as it follows a subject: "on clean episodes" or "under light intensity 4"."""
    return "on clean episodes" if shift == CLEAN else f"under {condition(shift, severity)}"


def percent(rate: float) -> str:
    """A rate in [0, 1] as "75%"."""
    return f"{_whole(rate)}%"


def rate(interval: Interval) -> str:
    """A rate with its interval: "75% [53, 89]"."""
    return f"{percent(interval.estimate)} [{_whole(interval.low)}, {_whole(interval.high)}]"


def rate_of(cell: Cell) -> str:
    """The rate of a cell with its interval: "75% [53, 89]"."""
    return rate(Interval(cell["rate"], cell["low"], cell["high"]))


def signed(difference: float) -> str:
    """A difference in [-1, 1] as signed points, "+5"; a decimal where rounding would hide the sign."""
    rounded = _whole(difference)
    if rounded == "0":
        tenths = f"{100 * difference:+.1f}"
        return "0" if tenths[1:] == "0.0" else tenths
    return rounded if rounded.startswith("-") else f"+{rounded}"


def points(interval: Interval) -> str:
    """A difference with its interval: "+5 points [-14, +23]"."""
    unit = "point" if signed(interval.estimate) in ("+1", "-1") else "points"
    return f"{signed(interval.estimate)} {unit} [{signed(interval.low)}, {signed(interval.high)}]"


def p_value(p: float) -> str:
    """A p value to three decimals, with its relation: "= 0.004" or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {min(p, 1.0):.3f}"


def about(count: int) -> str:
    """A count to two significant digits, for what is only an order of magnitude."""
    digits = max(len(str(count)) - 2, 0)
    return f"{round(count, -digits):,}"


def counted(count: int, noun: str) -> str:
    """The noun with its number: "1 cell", "3 cells"; nouns here take an s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(items: Sequence[str]) -> str:
    """Items joined for a sentence: "a", "a and b", "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def _whole(fraction: float) -> str:
    # Python rounds -0.4 to "-0".
    return f"{round(100 * fraction) + 0}"

"""The figure of a round: every arm clean and shifted, and what the main arm gains over it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment

from lerobot_policy_dap.bench.statistics import Interval

HEAD, ROW, WIDTH = 58, 26, 760
LETTER = 9
"""Pixels that a letter of a name takes: for long names the figure is wider, to either side."""
NAMES, RATES, GAINS = 138, (150, 440), (490, 740)
"""Right end of the names; left and right end of the two axes."""
STYLE = """\
svg { --paper: #fdfdfb; --ink: #1c1f23; --soft: #5a626b; --rule: #d9dcdd; --blue: #0072b2; --orange: #c9510c;
  --green: #00795a; background: var(--paper); font: 13px system-ui, "Segoe UI", "Liberation Sans", Arial, sans-serif;
  fill: var(--ink) }
@media (prefers-color-scheme: dark) {
  svg { --paper: #14171a; --ink: #e4e6e7; --soft: #9ba4ac; --rule: #363c42; --blue: #5fb3ea; --orange: #f08a4b;
    --green: #35c796 } }
.soft { fill: var(--soft); font-size: 12px } .main { font-weight: 600 }
.tick { text-anchor: middle; fill: var(--soft); font-size: 11px } .name { text-anchor: end }
.rule { stroke: var(--rule) } .zero { stroke: var(--soft) }
path { stroke-width: 2; stroke: currentColor } circle { stroke-width: 2; stroke: currentColor; fill: currentColor }
.blue { color: var(--blue) } .orange { color: var(--orange) } .green { color: var(--green) }
.clean { color: var(--blue) } .clean circle { fill: var(--paper) } .shifted { color: var(--blue) }
.gain { color: var(--orange) }"""
"""Of a round's figures, on light and dark paper."""


@dataclass(frozen=True, slots=True)
class Row:
    """An arm: success clean and shifted, and the main arm's shifted success minus its own; fractions, or unknown."""

    name: str
    clean: Interval | None
    shifted: Interval | None
    gain: Interval | None


def draw(rows: Sequence[Row], main: str, about: Sequence[str]) -> str:
    """SVG of the rows, readable on light and dark paper.

    Args:
        main: the arm that the gains are of.
        about: lines below the figure.
    """
    ends = [abs(end) for row in rows if row.gain for end in (row.gain.low, row.gain.high)]
    reach = math.ceil(max([0.1, *ends]) * 10) / 10  # whole tens of points
    step = 0.1 if reach <= 0.3 else 0.2
    ticks = [round(n * step, 1) for n in range(-int(reach / step), int(reach / step) + 1)]
    bottom = HEAD + ROW * len(rows)
    longest = max((len(row.name) for row in rows), default=0)
    gained = f"{main} minus arm, shifted"
    return _TEMPLATE.render(
        style=STYLE,
        rows=[(row, HEAD + ROW * (n + 0.5)) for n, row in enumerate(rows)],
        main=main,
        about=about,
        bottom=bottom,
        gained=gained,
        names=NAMES,
        rates=RATES[0],
        gains=GAINS[0],
        left=min(0, NAMES - LETTER * longest),
        right=max(WIDTH, GAINS[0] + LETTER * len(gained)),
        height=bottom + 28 + 15 * len(about),
        rate=lambda value: place(value, 0, 1, RATES),
        gain=lambda value: place(value, -reach, reach, GAINS),
        gain_ticks=ticks,
    )


def place(value: float, low: float, high: float, axis: tuple[int, int]) -> float:
    """Where a value between low and high stands on an axis, in pixels."""
    left, right = axis
    return round(left + (value - low) / (high - low) * (right - left), 1)


_TEMPLATE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
{% macro bar(interval, place, y, kind) %}
<g class="{{ kind }}"><path d="M{{ place(interval.low) }} {{ y }}H{{ place(interval.high) }}"/>\
<circle cx="{{ place(interval.estimate) }}" cy="{{ y }}" r="4"/></g>
{% endmacro %}
<svg xmlns="http://www.w3.org/2000/svg" viewBox="{{ left }} 0 {{ right - left }} {{ height }}" \
width="{{ right - left }}" height="{{ height }}" role="img">
<title>Success of each arm clean and under shift, and what {{ main }} gains over it under shift</title>
<style>
{{ style | safe }}
</style>
<rect x="{{ left }}" width="{{ right - left }}" height="{{ height }}" fill="var(--paper)"/>
<text x="{{ rates }}" y="18" class="main">Success, %</text>
<g class="clean"><circle cx="248" cy="14" r="4"/></g><text x="258" y="18" class="soft">clean</text>
<g class="shifted"><circle cx="308" cy="14" r="4"/></g><text x="318" y="18" class="soft">shifted</text>
<text x="{{ gains }}" y="18" class="main">{{ gained }}</text>
{% for share in (0, 0.25, 0.5, 0.75, 1) %}
<path class="rule" style="stroke-width: 1" d="M{{ rate(share) }} 50V{{ bottom }}"/>
<text x="{{ rate(share) }}" y="42" class="tick">{{ "%.0f" | format(100 * share) }}</text>
{% endfor %}
{% for points in gain_ticks %}
<path class="{{ 'zero' if points == 0 else 'rule' }}" style="stroke-width: 1" d="M{{ gain(points) }} 50V{{ bottom }}"/>
<text x="{{ gain(points) }}" y="42" class="tick">{{ "%+.0f" | format(100 * points) if points else 0 }}</text>
{% endfor %}
{% for row, y in rows %}
<text x="{{ names }}" y="{{ y + 4 }}" class="name{{ ' main' if row.name == main }}">{{ row.name }}</text>
{% if row.clean %}
{{ bar(row.clean, rate, y - 4, "clean") -}}
{% endif %}
{% if row.shifted %}
{{ bar(row.shifted, rate, y + 4, "shifted") -}}
{% endif %}
{% if row.gain %}
{{ bar(row.gain, gain, y, "gain") -}}
{% endif %}
{% endfor %}
{% for line in about %}
<text x="{{ left + 20 }}" y="{{ bottom + 24 + 15 * loop.index0 }}" class="soft">{{ line }}</text>
{% endfor %}
</svg>
""")

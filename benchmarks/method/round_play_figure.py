"""The figure of a round whose arms learn from different amounts of play: success, clean and shifted, by amount."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from jinja2 import Environment
from round_figure import STYLE, Row, place

PANELS = {"clean": (60, 350), "shifted": (430, 720)}
"""Left and right end of the two horizontal axes."""
TOP, BOTTOM = 70, 270
COLOURS = ("blue", "orange", "green")
APART = 7.0
"""Pixels between the couplings at one amount, so that their intervals do not lie on each other."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An arm's coupling, and how many episodes of play it has learned from."""

    coupling: str
    play: int
    row: Row


def draw(arms: Sequence[Shown], about: Sequence[str]) -> str:
    """SVG of success against the amount of play, a line a coupling; amounts stand at equal distances."""
    amounts = sorted({arm.play for arm in arms})
    colours = dict(zip(dict.fromkeys(arm.coupling for arm in arms), cycle(COLOURS), strict=False))

    def spot(amount: int, ends: tuple[int, int]) -> float:
        return place(amounts.index(amount), -0.5, len(amounts) - 0.5, ends)

    lines = []
    for panel, ends in PANELS.items():
        for n, (coupling, colour) in enumerate(colours.items()):
            shift = APART * (n - (len(colours) - 1) / 2)
            points = [
                (spot(arm.play, ends) + shift, interval)
                for arm in sorted(arms, key=lambda arm: arm.play)
                if arm.coupling == coupling and (interval := getattr(arm.row, panel)) is not None
            ]
            lines.append((coupling, colour, points))
    return _TEMPLATE.render(
        style=STYLE,
        panels=PANELS,
        ticks=[(spot(amount, ends), amount) for ends in PANELS.values() for amount in amounts],
        legend=[(coupling, colour, 60 + 110 * n) for n, (coupling, colour) in enumerate(colours.items())],
        lines=lines,
        about=about,
        top=TOP,
        bottom=BOTTOM,
        height=BOTTOM + 66 + 15 * len(about),
        rate=lambda share: place(share, 0, 1, (BOTTOM, TOP)),
    )


_TEMPLATE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {{ height }}" width="760" height="{{ height }}" role="img">
<title>Success, clean and under shift, against the number of play episodes</title>
<style>
{{ style | safe }}
</style>
<rect width="760" height="{{ height }}" fill="var(--paper)"/>
{% for coupling, colour, x in legend %}
<g class="{{ colour }}"><circle cx="{{ x }}" cy="14" r="4"/></g><text x="{{ x + 10 }}" y="18">{{ coupling }}</text>
{% endfor %}
{% for panel, (left, right) in panels.items() %}
<text x="{{ left }}" y="{{ top - 18 }}" class="main">Success {{ panel }}, %</text>
{% for share in (0, 0.25, 0.5, 0.75, 1) %}
<path class="rule" style="stroke-width: 1" d="M{{ left }} {{ rate(share) }}H{{ right }}"/>
<text x="{{ left - 18 }}" y="{{ rate(share) + 4 }}" class="tick">{{ "%.0f" | format(100 * share) }}</text>
{% endfor %}
<text x="{{ (left + right) / 2 }}" y="{{ bottom + 38 }}" class="tick">episodes of play</text>
{% endfor %}
{% for x, amount in ticks %}
<text x="{{ x }}" y="{{ bottom + 20 }}" class="tick">{{ amount }}</text>
{% endfor %}
{% for coupling, colour, points in lines %}
<g class="{{ colour }} line" data-coupling="{{ coupling }}">
{% if points | length > 1 %}
<path style="fill: none" d="M{% for x, of in points %}{{ x }} {{ rate(of.estimate) }}\
{{ "L" if not loop.last }}{% endfor %}"/>
{% endif %}
{% for x, of in points %}
<path style="stroke-width: 1" d="M{{ x }} {{ rate(of.low) }}V{{ rate(of.high) }}"/>
<circle cx="{{ x }}" cy="{{ rate(of.estimate) }}" r="4"/>
{% endfor %}
</g>
{% endfor %}
{% for line in about %}
<text x="20" y="{{ bottom + 64 + 15 * loop.index0 }}" class="soft">{{ line }}</text>
{% endfor %}
</svg>
""")

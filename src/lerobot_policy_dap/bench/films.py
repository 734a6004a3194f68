"""Which filmed episodes a report shows: chosen by rule, never by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from .episodes import BLIND, CLEAN

FIRST = "the first seed"
FAILS = "the first seed that succeeds clean and fails here"
BESIDE = "clean, to compare"


class Filmed(Protocol):
    """What the choice looks at; episodes have it, and films."""

    @property
    def policy(self) -> str: ...
    @property
    def training_seed(self) -> int: ...
    @property
    def task(self) -> str: ...
    @property
    def shift(self) -> str: ...
    @property
    def severity(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def success(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Chosen[F: Filmed]:
    """An episode to show, and by which rule it was chosen."""

    film: F
    why: str


def choose_films[F: Filmed](films: Iterable[F]) -> list[Chosen[F]]:
    """One film of each kind, for every policy and task, of its first training seed.

    The clean episode of the first seed; for every factor, at its highest severity, the first seed that succeeds
    clean and fails there, or else the first seed; and beside each of these, the clean episode of its seed. Clean
    ones of a seed come first, seeds in their order, and what cannot be paired with a clean film comes alone.
    """
    groups: dict[tuple[str, str], list[F]] = {}
    for film in films:
        if film.shift != BLIND:
            groups.setdefault((film.task, film.policy), []).append(film)
    chosen: list[Chosen[F]] = []
    for members in groups.values():
        first_run = min(film.training_seed for film in members)
        chosen += _of_group([film for film in members if film.training_seed == first_run])
    return chosen


def _of_group[F: Filmed](films: list[F]) -> list[Chosen[F]]:
    clean = {film.seed: film for film in films if film.shift == CLEAN}
    first = min(film.seed for film in films)
    picked: dict[int, list[Chosen[F]]] = {}
    if first in clean:
        picked[first] = [Chosen(clean[first], FIRST)]
    for shift in dict.fromkeys(film.shift for film in films if film.shift != CLEAN):
        highest = max(film.severity for film in films if film.shift == shift)
        shown = {film.seed: film for film in films if (film.shift, film.severity) == (shift, highest)}
        failures = [seed for seed in sorted(shown) if _succeeds(clean.get(seed)) and not shown[seed].success]
        seed, why = (failures[0], FAILS) if failures else (min(shown), FIRST)
        if seed not in picked:
            picked[seed] = [Chosen(clean[seed], BESIDE)] if seed in clean else []
        picked[seed].append(Chosen(shown[seed], why))
    return [one for seed in sorted(picked) for one in picked[seed]]


def _succeeds(film: Filmed | None) -> bool:
    return film is not None and film.success

"""From a finished plan to results.json, episodes.parquet and report.html."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_json
from ..processes import each
from ..worlds.rendering import RenderSettings
from ..worlds.shifts import CLEAN, SHIFTS
from ..worlds.world import FPS, World
from .describe import describe_plan
from .episodes import BLIND, Episode, write_episodes
from .plan import Plan
from .policies import checkpoint_folder, environment_for
from .report import StripImage, VideoClip, write_report
from .results import summarise
from .run import Film, show

_STRIP_SIZE, _FILM_SIZE = 192, 192
_FILM_EVERY = 4
"""Steps between two frames of a video: 20 frames a second, at the speed of the robot."""


def publish(
    plan: Plan,
    episodes: Sequence[Episode],
    films: Sequence[Film],
    out: Path,
    *,
    title: str,
    command: str,
    stages: list[dict[str, Any]],
    workers: int,
) -> dict[str, Any]:
    """Writes the three files into `out` and returns the results."""
    meta = describe_plan(plan, title, command)
    meta["stages"] = stages
    results = summarise(episodes, meta)
    cameras = environment_for(checkpoint_folder(plan.policies[0].path), plan.task, plan.max_steps).cameras
    shown = _worth_showing(plan, films)
    seen: dict[tuple[str, str, int, int], list[Any]] = {}
    for film, frames in each(partial(_show, task=plan.task, cameras=cameras), shown, workers):
        seen[_name(film)] = frames
    clips = [
        VideoClip(
            policy=film.policy,
            shift=film.shift,
            severity=film.severity,
            seed=film.seed,
            success=film.success,
            frames=np.stack(seen[_name(film)]),
            fps=FPS // _FILM_EVERY,
            steps=len(film.actions),
        )
        for film in shown
    ]
    write_episodes(out / "episodes.parquet", episodes)
    write_json(out / "results.json", results)
    write_report(out / "report.html", results, _strip(plan, cameras), clips)
    return dict(results)


def _worth_showing(plan: Plan, films: Sequence[Film]) -> list[Film]:
    """The first held-out seed, clean and at each shift's highest severity."""
    highest = {shift: max(s for name, s in plan.conditions if name == shift) for shift, _ in plan.conditions}
    highest[CLEAN] = 0
    return [f for f in films if f.seed == plan.first_seed and f.shift != BLIND and highest[f.shift] == f.severity]


def _strip(plan: Plan, cameras: tuple[str, ...]) -> list[StripImage]:
    """The first held-out episode's first frame, clean and under every condition."""
    world = World(plan.task, cameras, RenderSettings(_STRIP_SIZE, _STRIP_SIZE, samples=4))
    images = []
    for shift, severity in ((CLEAN, 0), *plan.conditions):
        world.set_shift(shift, severity)
        world.reset(plan.first_seed)
        caption = "clean"
        if shift != CLEAN:
            caption = f"{SHIFTS[shift].magnitudes[severity - 1]:g} {SHIFTS[shift].unit}"
        images.append(StripImage(shift, severity, caption, world.render()))
    return images


def _show(film: Film, task: str, cameras: tuple[str, ...]) -> list[Any]:
    return show(film, task, cameras, _FILM_SIZE, _FILM_EVERY)


def _name(film: Film) -> tuple[str, str, int, int]:
    return film.policy, film.shift, film.severity, film.seed

"""The gallery: every factor at every severity on one page, so that people see what a number means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from numpy.typing import NDArray

from ..files import replacing_file
from ..worlds.rendering import RenderSettings, require_backend
from ..worlds.shifts import CLEAN, SHIFTS, Factor
from ..worlds.tasks import description, resolve_task
from ..worlds.world import World, supports, world_versions
from .report import page_environment
from .video import data_uri, encode_webp

PAGE = "gallery.html"
_VISIBLE = 3
"""A pixel counts as changed if a channel differs by at least so many of 255: less is not seen."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and how many there will be."""


@dataclass(frozen=True)
class Picture:
    """The first frame of an episode at one severity."""

    severity: int
    magnitude: str
    changed: float
    """Share of the pixels that differ from the clean frame by what can be seen."""
    uri: str


@dataclass(frozen=True)
class Row:
    """One factor on one task: its pictures, or why there are none."""

    factor: Factor
    pictures: tuple[Picture, ...]
    missing: str | None


def write_gallery(
    out: Path,
    tasks: Sequence[str],
    seed: int,
    settings: RenderSettings,
    camera: str,
    command: str,
    progress: Progress,
) -> Path:
    """Renders every factor at every severity for each task and writes one page, which needs no file beside it.

    Args:
        out: the folder of the page.
        seed: of the episode whose first frame is shown.
        settings: size and quality of the frames.

    Raises:
        UserError: an unknown task or camera, or nothing can be rendered.
    """
    names = list(dict.fromkeys(resolve_task(task) for task in tasks))
    require_backend()
    worlds = (
        [World(names[0], (camera,), settings)] if names else []
    )  # before the bar: a wrong camera is said at once
    sections = []
    total = len(names) * len(SHIFTS)
    for done, name in enumerate(names):
        world = worlds.pop() if worlds else World(name, (camera,), settings)
        rows: list[Row] = []
        for factor in SHIFTS.values():
            progress("rendering", done * len(SHIFTS) + len(rows), total)
            rows.append(_row(world, factor, seed))
        clean = data_uri("image/webp", encode_webp(_frame(world, CLEAN, 0, seed)))
        sections.append(
            {"name": name.removesuffix("-v3"), "text": description(name), "clean": clean, "rows": rows}
        )
    progress("rendering", total, total)
    page = (
        _environment()
        .get_template("gallery.html.j2")
        .render(
            sections=sections,
            factors=list(SHIFTS.values()),
            magnitude=magnitude,
            seed=seed,
            camera=camera,
            settings=settings,
            command=command,
            versions=", ".join(f"{name} {number}" for name, number in world_versions().items()),
        )
    )
    path = out / PAGE
    with replacing_file(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


def magnitude(factor: Factor, severity: int) -> str:
    """What a severity means, with its unit."""
    return f"{factor.magnitudes[severity - 1]:g} {factor.unit}"


def _row(world: World, factor: Factor, seed: int) -> Row:
    missing = supports(world.task, factor.name)
    if missing is not None:
        return Row(factor, (), missing)
    clean = _frame(world, CLEAN, 0, seed).astype(np.int16)
    pictures = []
    for severity in range(1, len(factor.magnitudes) + 1):
        frame = _frame(world, factor.name, severity, seed)
        changed = float((np.abs(frame - clean).max(axis=-1) >= _VISIBLE).mean())
        uri = data_uri("image/webp", encode_webp(frame))
        pictures.append(Picture(severity, magnitude(factor, severity), changed, uri))
    return Row(factor, tuple(pictures), None)


def _frame(world: World, shift: str, severity: int, seed: int) -> NDArray[np.uint8]:
    world.set_shift(shift, severity)
    world.reset(seed)
    return world.render()


@cache
def _environment() -> Environment:
    environment = page_environment()
    environment.globals["css"] = Markup(_read("report.css") + _read("gallery.css"))
    environment.filters["percent"] = lambda share: "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"
    environment.filters["title"] = lambda name: name.replace("_", " ")
    return environment


@cache
def _read(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")

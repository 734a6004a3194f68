"""The report: one HTML file that shows what broke, how sure that is, and what it looked like."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from ..files import replacing_file
from . import charts, words
from .episodes import BLIND, CLEAN
from .records import Results
from .video import data_uri, encode_video, encode_webp

MEDIA_BUDGET = 16_000_000
"""Bytes of video in one page; clips beyond it are left out and counted. Base64 adds a third."""


@dataclass(frozen=True, slots=True, eq=False)
class StripImage:
    """What a shift looks like: the first frame of one seed, uint8 `[H, W, 3]`.

    `shift` and `severity` are as in `Episode`; the caption may say more, such as the magnitude.
    """

    shift: str
    severity: int
    caption: str
    image: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class VideoClip:
    """One filmed episode: frames uint8 `[T, H, W, 3]` at `fps`, with what became of it.

    Clips of equal task, shift, severity and seed stand above one another in the report, one row for a policy.
    """

    policy: str
    shift: str
    severity: int
    seed: int
    success: bool
    frames: NDArray[np.uint8]
    fps: float
    steps: int | None = None
    task: str = ""


_META = (
    "title", "command", "created", "versions", "hardware", "task_description", "max_steps", "stages", "shifts", "notes"
)  # fmt: skip
"""What the page shows of `meta`; each may be missing."""


def write_report(
    path: Path, results: Results, strip: Sequence[StripImage] = (), videos: Sequence[VideoClip] = ()
) -> None:
    """Writes the report, whole or not at all. The page needs no network and no file beside it.

    Args:
        path: the HTML file.
        results: from `summarise`.
        strip: in any order; grouped by shift.
        videos: in any order.

    Raises:
        UserError: the disk is full.
    """
    page = _environment().get_template("report.html.j2").render(_context(results, strip, videos))
    with replacing_file(path) as part:
        part.write_text(page, encoding="utf-8")


def _context(results: Results, strip: Sequence[StripImage], videos: Sequence[VideoClip]) -> dict[str, Any]:
    cells = results["cells"]
    policies = list(dict.fromkeys(cell["policy"] for cell in cells))
    tasks = list(dict.fromkeys(cell["task"] for cell in cells))
    recorded = {str(policy.get("name")): policy for policy in results["meta"].get("policies") or []}
    shifts = results["meta"].get("shifts") or []
    clips, left_out = _encoded(videos)
    return {
        "results": results,
        "meta": dict.fromkeys(_META) | results["meta"],
        "policies": policies,
        "tasks": [_task(results, task, policies, shifts) for task in tasks],
        "several_tasks": len(tasks) > 1,
        "several_pairs": len({(d["a"], d["b"]) for d in results["differences"]}) > 1,
        "uneven": len({cell["n"] for cell in cells if cell["shift"] != BLIND}) > 1,
        "floored": {
            (cell["policy"], cell["task"], cell["shift"], cell["severity"]) for cell in cells if cell["at_floor"]
        },
        "any_panel": any(cell["shift"] not in (CLEAN, BLIND) for cell in cells),
        "drops": _condition_major(results["drops"]),
        "strip": _strip(strip, shifts),
        "columns": _columns(videos),
        "clips": clips,
        "left_out": left_out,
        "longest_shift": max((len(shift.get("magnitudes") or []) for shift in shifts), default=0),
        "training": _training(policies, recorded),
        "longest_stage": max((stage["seconds"] for stage in results["meta"].get("stages") or []), default=0),
        "css": Markup(_read("report.css")),
        "js": Markup(_read("report.js")),
        "chart": charts,
    }


def _task(results: Results, task: str, policies: list[str], shifts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The tables and curves of one task."""
    cells = [cell for cell in results["cells"] if cell["task"] == task]
    by_key = {(cell["policy"], cell["shift"], cell["severity"]): cell for cell in cells}
    conditions = list(dict.fromkeys((cell["shift"], cell["severity"]) for cell in cells))
    # Policies may differ in their conditions: put what only a later one has where it belongs.
    conditions.sort(key=lambda c: (c[0] != CLEAN, c[0] == BLIND))
    overall = {
        (entry["kind"], entry["policy"]): entry
        for entry in results["overall"]
        if entry["task"] == task and entry["kind"] != "difference"
    }
    return {
        "name": task,
        "conditions": conditions,
        "cells": by_key,
        "floors": {p: by_key[p, BLIND, 0]["rate"] if (p, BLIND, 0) in by_key else None for p in policies},
        "overall": overall,
        "panels": charts.severity_panels(cells, policies, _magnitudes(shifts), _quantities(shifts)),
    }


def _condition_major(drops: Sequence[Any]) -> list[Any]:
    """Policies of one condition beside one another, conditions in their order."""
    order = {key: i for i, key in enumerate(dict.fromkeys((d["task"], d["shift"], d["severity"]) for d in drops))}
    return sorted(drops, key=lambda drop: order[drop["task"], drop["shift"], drop["severity"]])


def _magnitudes(shifts: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, str]]:
    """For a shift and a severity (1 is the first of its magnitudes), the number."""
    return {
        str(shift["name"]): {
            severity: _quantity(magnitude)
            for severity, magnitude in enumerate(shift.get("magnitudes") or [], start=1)
        }
        for shift in shifts
    }


def _quantities(shifts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """For a shift, what its magnitude measures and in which unit."""
    named = {str(shift["name"]): (shift.get("quantity"), shift.get("unit")) for shift in shifts}
    return {name: ", ".join(str(part) for part in parts if part) for name, parts in named.items()}


def _strip(images: Sequence[StripImage], shifts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Images grouped by shift, clean first, then in the order of the shifts, each by severity."""
    rank = {CLEAN: -1} | {str(shift["name"]): i for i, shift in enumerate(shifts)}
    groups: dict[str, list[StripImage]] = {}
    for image in sorted(images, key=lambda i: (rank.get(i.shift, len(rank)), i.shift, i.severity)):
        groups.setdefault(image.shift, []).append(image)
    return [
        {
            "title": words.condition(shift, 0) if shift in (CLEAN, BLIND) else shift.replace("_", " "),
            "images": [
                {
                    "alt": f"{words.condition(image.shift, image.severity)}: {image.caption}",
                    "severity": image.severity,
                    "caption": image.caption,
                    "uri": data_uri("image/webp", encode_webp(image.image)),
                    "width": image.image.shape[1],
                    "height": image.image.shape[0],
                }
                for image in group
            ],
        }
        for shift, group in groups.items()
    ]


Column = tuple[str, str, int, int]
"""Task, shift, severity, seed."""


def _columns(videos: Sequence[VideoClip]) -> list[Column]:
    return list(dict.fromkeys((clip.task, clip.shift, clip.severity, clip.seed) for clip in videos))


def _encoded(videos: Sequence[VideoClip]) -> tuple[dict[str, dict[Column, dict[str, Any]]], int]:
    """The clips by policy and column, within the budget, and how many were left out."""
    clips: dict[str, dict[Column, dict[str, Any]]] = {}
    spent = left_out = 0
    for clip in videos:
        mime, content = encode_video(clip.frames, clip.fps)
        if spent + len(content) > MEDIA_BUDGET:
            left_out += 1
            continue
        spent += len(content)
        where = words.under(clip.shift, clip.severity)
        outcome = "success" if clip.success else "failure"
        clips.setdefault(clip.policy, {})[clip.task, clip.shift, clip.severity, clip.seed] = {
            "uri": data_uri(mime, content),
            "poster": data_uri("image/webp", encode_webp(clip.frames[0])),
            "label": f"{clip.policy} {where}, seed {clip.seed}: {outcome}",
            "outcome": outcome,
            "steps": None if clip.steps is None else words.counted(clip.steps, "step"),
            "width": clip.frames.shape[2],
            "height": clip.frames.shape[1],
        }
    return clips, left_out


def _training(policies: Sequence[str], recorded: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[Any]]]:
    """Rows of the training table: a name, and a value or None for each policy."""
    fields = {
        "type": "policy type",
        "coupling": "coupling",
        "parameters": "parameters",
        "train_steps": "training steps",
        "batch_size": "batch size",
        "train_seed": "training seed",
        "checkpoint": "checkpoint",
    }
    rows = [(label, [recorded.get(p, {}).get(key) for p in policies]) for key, label in fields.items()]
    diagnostics = [recorded.get(p, {}).get("diagnostics") or {} for p in policies]
    names = dict.fromkeys(name for values in diagnostics for name in values)
    rows += [(name.replace("_", " "), [values.get(name) for values in diagnostics]) for name in names]
    return [row for row in rows if any(value is not None for value in row[1])]


def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "minus": _with_minus,
        "quantity": _quantity,
        "duration": _duration,
        "points": lambda difference: _with_minus(words.signed(difference)),
        "p": lambda p: "<0.001" if p < 0.001 else f"{p:.3f}",
        "whole": lambda rate: str(round(100 * rate)),
    }
    environment.globals |= {"condition": words.condition, "CLEAN": CLEAN, "BLIND": BLIND}
    return environment


@cache
def _read(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _with_minus(text: str) -> str:
    """Typographic minus signs; hyphens inside names, dates and ranges stay."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text)


def _quantity(value: Any) -> str:
    """A value of a table: grouped integers, three significant digits of a float, an en dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return _with_minus(f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}")
    return str(value)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"

"""The report: one HTML file that shows what broke, how sure that is, and what it looked like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from ..errors import UserError
from ..files import replacing_file
from . import charts, words
from .episodes import BLIND, CLEAN, EXPERT
from .layout import Anchors, capped, condition_major, quantity_in_words, scopes, with_minus
from .means import ALL
from .media import StripImage as StripImage
from .media import VideoClip as VideoClip
from .media import encoded_clips, gallery
from .records import Results

PAGE_LIMIT = 25_000_000
"""Bytes of a page, so that it can be sent by mail. Clips that do not fit are left out and counted, then images."""

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
        strip: in any order; grouped by task and shift.
        videos: in the order in which they are to be shown.

    Raises:
        UserError: the tables alone exceed `PAGE_LIMIT`, or the disk is full.
    """
    context = _context(results)
    template = environment().get_template("report.html.j2")
    context |= {"strip": gallery(strip, context["meta"]["shifts"] or []), "images_left_out": 0}
    context |= {"videos": [], "clips_left_out": len(videos)}
    page = template.render(context)
    if _size(page) > PAGE_LIMIT:
        context |= {"strip": [], "images_left_out": len(strip)}
        page = template.render(context)
    if _size(page) > PAGE_LIMIT:
        raise UserError(
            f"the tables alone take {_size(page) / 1e6:.0f} MB, and a report may take {PAGE_LIMIT / 1e6:.0f}; "
            "report fewer tasks in one page (--task)"
        )
    if videos and not context["images_left_out"]:
        rows, left_out = encoded_clips(videos, PAGE_LIMIT - _size(page))
        page = template.render(context | {"videos": rows, "clips_left_out": left_out})
    with replacing_file(path) as part:
        part.write_text(page, encoding="utf-8")


@cache
def environment() -> Environment:
    """What renders the pages of the bench."""
    return page_environment()


def page_environment() -> Environment:
    """Templates, filters and names of every page, to which a page may add its own."""
    made = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "minus": with_minus,
        "quantity": quantity_in_words,
        "duration": _duration,
        "points": lambda difference: with_minus(words.signed(difference)),
        "p": lambda p: "<0.001" if p < 0.001 else f"{p:.3f}",
        "whole": lambda rate: str(round(100 * rate)),
    }
    made.globals |= {
        "condition": words.condition,
        "factor": words.factor,
        "CLEAN": CLEAN,
        "BLIND": BLIND,
        "ALL": ALL,
        "EXPERT": EXPERT,
        "css": Markup(_read("report.css")),
        "js": Markup(_read("report.js")),
        "chart": charts,
    }
    return made


def _context(results: Results) -> dict[str, Any]:
    cells = results["cells"]
    # The control stands last, whatever the order of the episodes.
    policies = sorted(dict.fromkeys(cell["policy"] for cell in cells), key=lambda policy: policy == EXPERT)
    # Of several training seeds, the first stands for its policy.
    recorded = {str(policy.get("name")): policy for policy in reversed(results["meta"].get("policies") or [])}
    shifts = results["meta"].get("shifts") or []
    drops, drops_left_out = capped([d for d in condition_major(results["drops"]) if d["policy"] != EXPERT])
    differences, differences_left_out = capped(results["differences"])
    tasks = list(dict.fromkeys(cell["task"] for cell in cells))
    return {
        "results": results,
        "meta": dict.fromkeys(_META) | results["meta"],
        "policies": policies,
        "styles": ["sx" if policy == EXPERT else f"s{i % 6}" for i, policy in enumerate(policies)],
        "scopes": scopes(results, policies),
        "tasks": tasks,
        "several_tasks": len(tasks) > 1,
        "several_pairs": len({(d["a"], d["b"]) for d in results["differences"]}) > 1,
        "uneven": len({cell["n"] for cell in cells if cell["shift"] != BLIND}) > 1,
        "replicates": max(cell["training_seeds"] for cell in cells) > 1,
        "floored": {
            (cell["policy"], cell["task"], cell["shift"], cell["severity"]) for cell in cells if cell["at_floor"]
        },
        "expert": {
            (cell["task"], cell["shift"], cell["severity"]): cell for cell in cells if cell["policy"] == EXPERT
        },
        "any_panel": any(cell["shift"] not in (CLEAN, BLIND) for cell in cells),
        "drops": drops,
        "drops_left_out": drops_left_out,
        "differences": differences,
        "differences_left_out": differences_left_out,
        "longest_shift": max((len(shift.get("magnitudes") or []) for shift in shifts), default=0),
        "training": _training(policies, recorded),
        "longest_stage": max((stage["seconds"] for stage in results["meta"].get("stages") or []), default=0),
        "anchor": Anchors(),
    }


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

    def told(policy: str, key: str) -> Any:
        value = recorded.get(policy, {}).get(key)
        # A seed is a name and no quantity: 1000, not 1,000.
        return str(value) if key == "train_seed" and value is not None else value

    rows = [(label, [told(policy, key) for policy in policies]) for key, label in fields.items()]
    diagnostics = [recorded.get(p, {}).get("diagnostics") or {} for p in policies]
    names = dict.fromkeys(name for values in diagnostics for name in values)
    rows += [(name.replace("_", " "), [values.get(name) for values in diagnostics]) for name in names]
    return [row for row in rows if any(value is not None for value in row[1])]


@cache
def _read(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _size(page: str) -> int:
    return len(page.encode("utf-8"))


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"

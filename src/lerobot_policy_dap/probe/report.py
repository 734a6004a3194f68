"""The probe's report: one HTML file that works offline, in the style of the bench's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, FunctionLoader
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from ..bench.report import page_environment
from ..bench.video import data_uri, encode_webp
from ..files import replacing_file
from . import charts, phrases
from .factors import CLEAN, FACTORS
from .records import ProbeCell, ProbeResults
from .request import ALL_CAMERAS

STRIP_WIDTH = 224
"""Pixels to which example frames are made smaller, where they are larger."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """What a policy was shown: one frame, uint8 `[H, W, 3]`. The factor is `CLEAN` at severity 0."""

    camera: str
    factor: str
    severity: int
    image: NDArray[np.uint8]


def write_report(path: Path, results: ProbeResults, examples: Sequence[Example]) -> None:
    """Writes the report, whole or not at all. The page needs no network and no file beside it.

    Raises:
        UserError: the disk is full.
    """
    page = _environment().get_template("probe.html.j2").render(_context(results, examples))
    with replacing_file(path) as part:
        part.write_text(page, encoding="utf-8")


def _context(results: ProbeResults, examples: Sequence[Example]) -> dict[str, Any]:
    environment = _environment()
    assert environment.loader is not None
    css, js = (environment.loader.get_source(environment, name)[0] for name in ("report.css", "report.js"))
    cells = results["cells"]
    return {
        "results": results,
        "meta": results["meta"],
        "styles": [f"s{i % 6}" for i in range(1 + max(len(p["cameras"]) for p in results["policies"]))],
        "policies": [
            _policy(policy, [c for c in cells if c["policy"] == policy["name"]]) for policy in results["policies"]
        ],
        "several": len(results["policies"]) > 1,
        "factors": list(dict.fromkeys(cell["factor"] for cell in cells)),
        "strips": _strips(examples),
        "css": Markup(css + _own("probe.css")),
        "js": Markup(js),
        "charts": charts,
        "phrases": phrases,
        "FACTORS": FACTORS,
    }


def _policy(policy: Mapping[str, Any], cells: Sequence[ProbeCell]) -> dict[str, Any]:
    """The heat map, the curves and the rows of one policy."""
    cameras = list(dict.fromkeys(cell["camera"] for cell in cells))
    scale = charts.axis(cells)
    highest = max(cell["severity"] for cell in cells)
    top = [cell for cell in cells if cell["severity"] == highest]
    together = [cell for cell in cells if cell["camera"] == ALL_CAMERAS]
    return {
        "policy": policy,
        "cells": cells,
        "cameras": cameras,
        "highest": highest,
        "heat": {(cell["factor"], cell["camera"]): cell for cell in top},
        "hottest": charts.reach(top),
        "scale": scale,
        "panels": charts.panels(cells, cameras, scale),
        "most": max(together, key=lambda cell: cell["moved"]["estimate"]),
        "together": together,
        "farthest": max(
            (abs(x) for cell in cells for x in (cell["harm"]["low"], cell["harm"]["high"])), default=0.0
        )
        or 1.0,
    }


def _strips(examples: Sequence[Example]) -> dict[str, list[dict[str, Any]]]:
    """For each camera, example frames grouped by factor, the clean one first."""
    strips: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for example in examples:
        clean = example.factor == CLEAN
        image = _smaller(example.image)
        unit = "" if clean else FACTORS[example.factor].unit
        number = charts.magnitude(example.factor, example.severity) if not clean else ""
        caption = "clean" if clean else f"{number}{'' if unit.startswith('%') else ' '}{unit}"
        strips.setdefault(example.camera, {}).setdefault(example.factor, []).append(
            {
                "severity": example.severity,
                "caption": caption,
                "alt": f"{phrases.camera(example.camera)}, {phrases.condition(example.factor, example.severity)}",
                "uri": data_uri("image/webp", encode_webp(image, quality=90)),
                "width": image.shape[1],
                "height": image.shape[0],
            }
        )
    return {
        camera: [{"title": factor.replace("_", " "), "images": images} for factor, images in groups.items()]
        for camera, groups in strips.items()
    }


def _smaller(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if width <= STRIP_WIDTH:
        return image
    size = (STRIP_WIDTH, max(round(height * STRIP_WIDTH / width), 1))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


@cache
def _environment() -> Environment:
    environment = page_environment()
    assert environment.loader is not None
    environment.loader = ChoiceLoader([FunctionLoader(_found), environment.loader])
    environment.filters |= {
        "sigma": phrases.sigma,
        "signed_sigma": phrases.signed,
        "camera": phrases.camera,
    }
    return environment


def _found(name: str) -> str | None:
    return _own(name) if name.startswith("probe.") else None


@cache
def _own(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")

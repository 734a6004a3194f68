"""The files of a comparison."""

from __future__ import annotations

from pathlib import Path

from ..files import replacing_file, write_json
from .compare import Comparison
from .layout import Anchors
from .report import environment


def write_comparison(out: Path, found: Comparison, command: str = "") -> None:
    """Writes compare.html and compare.json into `out`, each whole or not at all.

    Raises:
        UserError: the disk is full.
    """
    page = (
        environment()
        .get_template("compare.html.j2")
        .render({"found": found, "command": command, "anchor": Anchors(), "several_tasks": False, "styles": []})
    )
    write_json(out / "compare.json", found)
    with replacing_file(out / "compare.html") as part:
        part.write_text(page, encoding="utf-8")

"""`dap gallery`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from ..progress import bars
from .options import typed, words


def gallery(
    out: Annotated[Path, typer.Option(help="Folder of the page.")],
    task: Annotated[str, typer.Option(help="Meta-World tasks, separated by commas; or `all`.")] = "drawer-open",
    seed: Annotated[int, typer.Option(help="The episode whose first frame is shown.")] = 0,
    camera: Annotated[str, typer.Option(help="The camera that looks.")] = "corner2",
    image_size: Annotated[int, typer.Option(help="Side of the frames in pixels.")] = 168,
) -> None:
    """Every factor of shift at every severity, with units and values, on one page."""
    from ..bench.gallery import write_gallery
    from ..worlds.rendering import RenderSettings
    from ..worlds.tasks import tasks

    names = tasks() if task == "all" else words(task)
    if not names:
        raise UserError("--task names no task; `dap collect --list-tasks` lists them")
    settings = RenderSettings(image_size, image_size, samples=4)
    command = typed()
    with bars() as bar:
        page = write_gallery(out, names, seed, settings, camera, command, bar)
    print(f"gallery: {page}")

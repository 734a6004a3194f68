"""`dap probe`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..progress import bars, console
from .options import Workers, chosen_device, numbers, typed, words


def probe(
    policy: Annotated[
        list[str], typer.Option(help="NAME=CHECKPOINT, or a checkpoint; several times for several.")
    ],
    root: Annotated[Path, typer.Option("--dataset.root", help="Folder of a LeRobotDataset.")],
    out: Annotated[Path, typer.Option(help="Folder for measurements and report.")],
    repo_id: Annotated[
        str | None, typer.Option("--dataset.repo-id", "--dataset.repo_id", help="Its name, for the report.")
    ] = None,
    episodes: Annotated[
        str, typer.Option(help="Held-out episodes, such as 3,40-49; a fraction takes the last ones.")
    ] = "0.1",
    frames: Annotated[int, typer.Option(help="Frames in all, spread evenly over the episodes.")] = 100,
    factor: Annotated[str, typer.Option(help="Factors, separated by commas, or `all`.")] = "all",
    severity: Annotated[str, typer.Option(help="Severities from 1 to 5, separated by commas.")] = "1,3,5",
    draws: Annotated[int, typer.Option(help="Noise draws on a clean frame, for the policy's own spread.")] = 4,
    batch: Annotated[int, typer.Option(help="Frames that share a policy call.")] = 16,
    seed: Annotated[int, typer.Option(help="Of the shifts' places and the policies' noise.")] = 0,
    device: Annotated[str | None, typer.Option(help="Where policies compute; a GPU if there is one.")] = None,
    workers: Workers = None,
) -> None:
    """How far image shifts move any policy's action chunks on a recorded dataset; no simulator needed."""
    from ..checkpoints import checkpoint_folder
    from ..probe.dataset import open_metadata, parse_episodes
    from ..probe.factors import FACTORS
    from ..probe.phrases import SHORT_VERDICTS
    from ..probe.publish import publish
    from ..probe.request import Named, Request
    from ..probe.run import run
    from ..processes import default_workers

    repo_id = repo_id or f"local/{root.resolve().name}"
    named = [_named(text) for text in policy]
    request = Request(
        policies=tuple(Named(name, checkpoint_folder(path)) for name, path in named),
        root=root,
        repo_id=repo_id,
        episodes=parse_episodes(episodes, open_metadata(root, repo_id).total_episodes),
        factors=tuple(FACTORS) if factor == "all" else tuple(words(factor)),
        severities=numbers(severity),
        frames=frames,
        draws=draws,
        batch=batch,
        seed=seed,
    )
    device = chosen_device(device)
    workers = workers or (default_workers() if device == "cpu" else 1)
    with bars() as bar:
        measured = run(request, out, workers, device, bar)
        results = publish(request, measured, out, command=typed())
    table = Table("policy", "factor", "severity", "moved", "own spread", "than its spread", box=None)
    for cell in results["cells"]:
        if cell["camera"] == "all" and cell["severity"] == max(request.severities):
            moved, spread = cell["moved"]["estimate"], cell["spread"]["estimate"]
            table.add_row(
                cell["policy"],
                cell["factor"],
                str(cell["severity"]),
                f"{moved:.2f} σ",
                f"{spread:.2f} σ",
                SHORT_VERDICTS[cell["verdict"]],
            )
    console.print(table)
    print(f"report: {out / 'report.html'}")


def _named(text: str) -> tuple[str, Path]:
    """NAME=CHECKPOINT; a checkpoint alone is named after the folder of its run."""
    from ..bench.checkpoints import run_name

    name, separator, path = text.partition("=")
    return (name, Path(path)) if separator else (run_name(Path(text)), Path(text))

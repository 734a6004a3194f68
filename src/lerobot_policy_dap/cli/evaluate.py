"""`dap eval`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..progress import StageTimes, bars, console
from .options import ALL, Workers, factors, numbers, typed


def evaluate(
    policy: Annotated[
        list[str], typer.Option(help="NAME=CHECKPOINT, or a checkpoint; several times for several.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for results and report.")],
    task: Annotated[str, typer.Option(help="Meta-World task.")] = "drawer-open",
    shift: Annotated[str, typer.Option(help="Shifts, separated by commas; `all`, or `none`.")] = "all",
    severity: Annotated[str, typer.Option(help="Severities from 1 to 5, separated by commas.")] = "2,4",
    episodes: Annotated[int, typer.Option(help="Held-out episodes of a shifted cell.")] = 20,
    clean_episodes: Annotated[
        int | None, typer.Option(help="Of the clean cell; as --episodes if not given.")
    ] = None,
    max_steps: Annotated[int, typer.Option(help="Steps after which an episode has failed.")] = 300,
    batch: Annotated[int, typer.Option(help="Episodes that share a policy call.")] = 10,
    first_seed: Annotated[int, typer.Option(help="First held-out seed.")] = 10_000,
    device: Annotated[str | None, typer.Option(help="Where policies compute; a GPU if there is one.")] = None,
    workers: Workers = None,
) -> None:
    """Any LeRobot checkpoint on held-out episodes, clean, blind and under visual shift, with a report."""
    from ..processes import default_device, default_workers, prepare

    prepare()
    from ..bench.checkpoints import read_policies
    from ..bench.episodes import write_episodes
    from ..bench.plan import make_plan
    from ..bench.present import present
    from ..bench.request import only
    from ..bench.run import check_plan, give_up, run
    from ..bench.store import open_results

    plan = make_plan(
        read_policies(policy),
        [task],
        factors(shift),
        numbers(severity),
        where_possible=shift == ALL,
        episodes=episodes,
        clean_episodes=clean_episodes or episodes,
        max_steps=max_steps,
        batch=batch,
        first_seed=first_seed,
        device=device or default_device(),
    )
    check_plan(plan)
    only(plan, out / "eval")
    workers = workers or default_workers()
    times = StageTimes(out / "stages.json")
    with bars() as bar:
        with times.stage("evaluate"):
            lost = run(plan, out / "eval", workers, partial(bar, "evaluating"), say=console.print, command=typed())
            give_up(lost)
        write_episodes(out / "episodes.parquet", open_results(out / "eval").episodes)
        results = present(
            out / "eval",
            out / "report.html",
            title=f"{plan.tasks[0].removesuffix('-v3')} under visual shift",
            command=typed(),
            stages=times.rows(),
            numbers=out / "results.json",
            workers=workers,
        )
    table = Table("policy", "shift", "severity", "success", "95 % interval", box=None)
    for cell in results["cells"]:
        rate = f"{cell['successes']}/{cell['n']}"
        interval = f"{100 * cell['low']:.0f} to {100 * cell['high']:.0f} %"
        table.add_row(cell["policy"], cell["shift"], str(cell["severity"]), rate, interval)
    console.print(table)
    print(f"report: {out / 'report.html'}")

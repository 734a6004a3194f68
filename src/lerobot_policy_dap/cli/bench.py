"""`dap bench`: the grid of policies, tasks, factors and severities."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ..progress import bars, console
from .options import ALL, Workers, factors, numbers, typed, words

if TYPE_CHECKING:
    from ..bench.episodes import Episode

bench = typer.Typer(
    help="What breaks a policy: any number of policies, tasks, factors and severities.", no_args_is_help=True
)


@bench.command()
def run(
    out: Annotated[Path, typer.Option(help="Folder of the results; one that has some is gone on with.")],
    policy: Annotated[
        list[str],
        typer.Option(
            help="NAME=CHECKPOINT (a folder, or an id on the Hub), or `expert`. One NAME several times: training "
            "replicates, numbered from 0, or by NAME@SEED=CHECKPOINT."
        ),
    ],
    task: Annotated[str, typer.Option(help="Meta-World tasks, separated by commas.")],
    factor: Annotated[str, typer.Option(help="Factors, separated by commas; `all`, or `none`.")] = ALL,
    severity: Annotated[str, typer.Option(help="Severities from 1 to 5, separated by commas.")] = "1,3,5",
    episodes: Annotated[int, typer.Option(help="Held-out episodes of a cell.")] = 50,
    clean_episodes: Annotated[
        int | None, typer.Option(help="Of the clean cell; as --episodes if not given.")
    ] = None,
    max_steps: Annotated[int, typer.Option(help="Steps after which an episode has failed.")] = 300,
    batch: Annotated[int, typer.Option(help="Episodes that share a policy call.")] = 10,
    films: Annotated[int, typer.Option(help="Episodes of each cell that can be seen again.")] = 1,
    first_seed: Annotated[int, typer.Option(help="First held-out seed.")] = 10_000,
    device: Annotated[str | None, typer.Option(help="Where policies compute; a GPU if there is one.")] = None,
    workers: Workers = None,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster to run on; `auto` finds this machine's.")
    ] = None,
) -> None:
    """Evaluate policies on the same held-out episodes: clean, blind, and under every factor and severity.

    Killed, it goes on where it was when run again; with more policies, tasks, factors, severities or episodes, it
    evaluates what is new.
    """
    from ..processes import default_device, prepare

    if ray is None:
        prepare()
    from ..bench.checkpoints import read_policies
    from ..bench.plan import make_plan
    from ..bench.run import give_up
    from ..bench.run import run as run_plan
    from ..bench.store import open_results

    plan = make_plan(
        read_policies(policy),
        words(task),
        factors(factor),
        numbers(severity),
        where_possible=factor == ALL,
        episodes=episodes,
        clean_episodes=episodes if clean_episodes is None else clean_episodes,
        max_steps=max_steps,
        batch=batch,
        films=films,
        first_seed=first_seed,
        device=device or default_device(),
    )
    for name, shift in plan.left_out:
        console.print(f"left out: {shift} cannot be applied to {name}")
    with bars() as bar:
        lost = run_plan(
            plan, out, workers, partial(bar, "evaluating"), ray=ray, say=console.print, command=typed()
        )
    finished = open_results(out)
    console.print(success_table(finished.episodes))
    if finished.missing:
        console.print(f"{len(finished.missing)} units of the folder's plan are not evaluated yet")
    print(f"results: {out}")
    give_up(lost)


def success_table(episodes: list[Episode]) -> Table:
    """Successes of every cell, training replicates together; a row a factor, a column a severity."""
    levels = sorted({e.severity for e in episodes})
    cells: dict[tuple[str, str, str], dict[int, list[bool]]] = {}
    for e in episodes:
        row = cells.setdefault((e.task, e.policy, e.shift), {})
        row.setdefault(e.severity, []).append(e.success)
    table = Table(
        "task", "policy", "factor", *(f"severity {level}" if level else "-" for level in levels), box=None
    )
    for (task, policy, shift), row in cells.items():
        counts = [f"{sum(row[level])}/{len(row[level])}" if level in row else "" for level in levels]
        table.add_row(task.removesuffix("-v3"), policy, "clean" if shift == "none" else shift, *counts)
    return table

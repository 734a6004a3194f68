"""`dap bench report` and `dap bench compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..errors import UserError
from .options import Workers, typed, words

if TYPE_CHECKING:
    from ..bench.compare import Comparison


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of `dap bench run`.")],
    out: Annotated[Path | None, typer.Option(help="The page; report.html in the folder if not given.")] = None,
    task: Annotated[str, typer.Option(help="Tasks of the page, separated by commas; all if not given.")] = "",
    pictures: Annotated[bool, typer.Option(help="Render the gallery of shifts and the videos.")] = True,
    workers: Workers = None,
) -> None:
    """One self-contained page: what broke, how sure that is, and what it looked like."""
    from ..bench.present import present
    from ..processes import default_workers

    page = out or folder / "report.html"
    command = typed()
    results = present(
        folder,
        page,
        command=command,
        workers=workers or default_workers(),
        pictures=pictures,
        tasks=words(task),
    )
    for sentence in results["summary"]:
        print(sentence)
    print(f"report: {page}")


def compare(
    a: Annotated[Path, typer.Argument(help="Earlier results: a folder, or a Parquet file of episodes.")],
    b: Annotated[Path, typer.Argument(help="Later results.")],
    out: Annotated[Path | None, typer.Option(help="Folder for compare.html and compare.json.")] = None,
    margin: Annotated[float, typer.Option(help="Share of episodes whose loss is no regression.")] = 0.05,
    fail_on_regression: Annotated[
        bool, typer.Option("--fail-on-regression", help="Leave with status 1 if anything regressed.")
    ] = False,
) -> None:
    """Two result sets on the episodes that both have: what has become better or worse, overall and by factor."""
    from ..bench.compare import compare as compare_sets
    from ..bench.compare_page import write_comparison
    from ..bench.reading import read_result_set

    sets = {a: read_result_set(a), b: read_result_set(b)}
    found = compare_sets(sets[a], sets[b], margin)
    # The answer goes to standard output, whole lines of it, so that a CI log or a pipe has it.
    answer = Console() if sys.stdout.isatty() else Console(width=140)
    answer.print(_table(found))
    for sentence in found["summary"]:
        print(sentence)
    if out is not None:
        write_comparison(out, found, typed())
        print(f"comparison: {out / 'compare.html'}")
    if not fail_on_regression:
        return
    if found["regressed"]:
        raise SystemExit(1)
    for path, results in sets.items():
        if results.unfinished:
            raise UserError(
                f"{path} is not finished, so that nothing says whether {b} has regressed: run it to its end"
            )


def _table(found: Comparison) -> Table:
    from ..bench import words as say
    from ..bench.episodes import CLEAN
    from ..bench.means import ALL
    from ..bench.statistics import Interval

    table = Table("policy", "factor", "A", "B", "B - A, points", "seeds", "p", "", box=None)
    for row in found["rows"]:
        factor = {ALL: "all conditions", CLEAN: "clean"}.get(row["shift"], say.factor(row["shift"]))
        change = say.points(Interval(row["difference"], row["low"], row["high"]))
        table.add_row(
            row["policy"],
            factor,
            say.percent(row["a"]),
            say.percent(row["b"]),
            change.replace(" points", "").replace(" point", ""),
            str(row["n"]),
            say.p_value(row["p"]).removeprefix("= "),
            "regression" if row["regressed"] else "",
        )
    return table

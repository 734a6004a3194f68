"""One arm minus another, of any rounds: `python benchmarks/method/difference.py budget/none_long converged/auxiliary`.

A round's table compares its main arm with each other one. What else the log and the documents compare comes from here:
over the tasks, training seeds and cells that both arms have, paired as in the tables. No adjustment for how many
comparisons are made.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))
from round_results import comparable, comparison, find, kept_episodes
from round_spec import Arm, Round, read_round

from lerobot_policy_dap.bench.episodes import Episode
from lerobot_policy_dap.cli.options import numbers
from lerobot_policy_dap.errors import UserError

FOLDER = Path(__file__).parent


def main(
    first: Annotated[str, typer.Argument(help="The arm that the other is subtracted from, as ROUND/ARM.")],
    second: Annotated[str, typer.Argument(help="The other arm, of the same round or of another.")],
    training_seeds: Annotated[
        str, typer.Option(help="Of these alone, separated by commas; by default all that both have.")
    ] = "",
) -> None:
    """Print the difference clean, under each factor and over all, with 95 % intervals."""
    try:
        wanted = {*numbers(training_seeds, "--training-seeds")}
        print(difference(first, second, wanted, FOLDER / "rounds", FOLDER / "results"))
    except UserError as error:
        sys.exit(str(error))


def difference(first: str, second: str, wanted: set[int], rounds: Path, results: Path) -> str:
    """What `main` prints: one line that says of what, and the comparison in Markdown.

    Args:
        wanted: training seeds; all that both have if empty.
        rounds, results: folders of the declarations and of the episodes that are kept.

    Raises:
        UserError: there is no such round or arm, or the two have no training seed and task in common.
    """
    asked, arm, one = _read(first, rounds, results)
    _, other, two = _read(second, rounds, results)
    if arm.name == other.name:
        raise UserError(f"{first} and {second} are one arm")
    runs = {(e.task, e.training_seed) for e in one} & {(e.task, e.training_seed) for e in two}
    if wanted:
        runs = {(task, seed) for task, seed in runs if seed in wanted}
    both = comparable([e for e in [*two, *one] if (e.task, e.training_seed) in runs])
    seeds = sorted({e.training_seed for e in both})
    if not seeds:
        raise UserError(f"{first} and {second} have no training seed in common, or not the tasks of one")
    own = replace(asked, arms=(other, arm), main=arm.name, training_seeds=tuple(seeds), lender=None, lent=())
    found = find(own, both, "")
    of = f"{found.tasks}; training seeds {', '.join(map(str, seeds))}; {found.episodes:,} episodes."
    return "\n".join([f"{first} minus {second}: {of}", "", *comparison(found.beside[other.name])])


def _read(which: str, rounds: Path, results: Path) -> tuple[Round, Arm, list[Episode]]:
    """A round, one of its arms and that arm's episodes, both under the name ROUND/ARM."""
    name, _, wanted = which.partition("/")
    asked = read_round(rounds / f"{name}.toml")
    arm = next((arm for arm in asked.arms if arm.name == wanted), None)
    if arm is None:
        raise UserError(f"{which}: the arms of {name} are {', '.join(arm.name for arm in asked.arms)}")
    kept = [replace(e, policy=which) for e in kept_episodes(results / name, asked) if e.policy == wanted]
    return asked, replace(arm, name=which), kept


if __name__ == "__main__":
    typer.run(main)

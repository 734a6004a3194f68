"""The round `ground` as a table with verdicts: `python benchmarks/method/ground_table.py` writes ground.md."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import tables

from lerobot_policy_dap.bench.episodes import BLIND, CLEAN, EXPERT, Episode, read_episodes
from lerobot_policy_dap.files import replacing_file
from lerobot_policy_dap.worlds.tasks import difficulty

FOLDER = Path(__file__).parent
BLIND_BELOW, LEARNED, CAN_BE_DONE = 0.15, (0.60, 0.95), 0.90
"""What PLAN.md asks of a task: success of the blind policy, of plain flow matching, and of the expert."""
DEMOS = (25, 50)

Rates = Mapping[tuple[str, str], float]
"""Success of one task by policy (`none-25`, `none-50`, `expert`) and shift (clean, blind)."""


def rates(episodes: Iterable[Episode]) -> dict[str, Rates]:
    """Success by task, in the episodes' order of tasks."""
    won: dict[str, dict[tuple[str, str], list[bool]]] = {}
    for e in episodes:
        won.setdefault(e.task, {}).setdefault((e.policy, e.shift), []).append(e.success)
    return {task: {cell: sum(found) / len(found) for cell, found in cells.items()} for task, cells in won.items()}


def verdict(found: Rates) -> str:
    """The smallest number of demonstrations with which a task is fit, or why it is with none that was measured."""
    if found.get((EXPERT, CLEAN), 0.0) < CAN_BE_DONE:
        return "the expert fails too often"
    why = []
    for n in DEMOS:
        learned = found.get((f"none-{n}", CLEAN))
        if learned is None:
            continue
        if found[f"none-{n}", BLIND] >= BLIND_BELOW:
            why.append("needs no image")
        elif learned < LEARNED[0]:
            why.append("half learned")
        elif learned > LEARNED[1]:
            why.append("no room above")
        else:
            return f"**fit, {n}**"
    return "; ".join(dict.fromkeys(why))


def markdown(found: Mapping[str, Rates]) -> str:
    """The tasks' rates in percent, and what follows from them."""
    columns = [(EXPERT, CLEAN), *((f"none-{n}", shift) for shift in (CLEAN, BLIND) for n in DEMOS)]
    head = [
        "task",
        "difficulty",
        EXPERT,
        *(f"{kind}, {n}" for kind in ("none", "blind") for n in DEMOS),
        "verdict",
    ]
    cells = [
        [
            task.removesuffix("-v3"),
            difficulty(task),
            *(f"{100 * one[column]:.0f}" if column in one else "" for column in columns),
            verdict(one),
        ]
        for task, one in found.items()
    ]
    about = (
        "Percent of 50 held-out episodes, one training each, by the number of demonstrations; settings in "
        "[rounds/ground.toml](rounds/ground.toml), the rule in [PLAN.md](PLAN.md). A Wilson interval reaches about 14 "
        f"points to either side at 50 %. {len(found)} of 50 tasks."
    )
    return "\n".join(["# The ground", "", about, "", *tables.markdown(head, cells), ""])


def write(episodes: Sequence[Episode]) -> None:
    """Beside this file."""
    with replacing_file(FOLDER / "ground.md") as part:
        part.write_text(markdown(rates(episodes)), encoding="utf-8")


if __name__ == "__main__":
    write(read_episodes(FOLDER / "results" / "ground" / "episodes.parquet"))

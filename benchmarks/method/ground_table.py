"""The ground as a table to read: `python benchmarks/method/ground_table.py` makes ground.md of ground.json."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import tables

from lerobot_policy_dap.files import read_json, replacing_file

FOLDER = Path(__file__).parent
STEPS = 4000
POLICY = {"coupling": "none", "encoder_width": 16, "image_shift": 2}
"""Plain flow matching, as all rounds have it (PLAN.md)."""
LABEL = "-".join(str(value) for value in POLICY.values())
BLIND_BELOW, LEARNED, CAN_BE_DONE = 0.15, (0.60, 0.95), 0.90
"""What PLAN.md asks of a task: success of the blind policy, of plain flow matching, and of the expert."""


def verdict(row: Mapping[str, Any], demos: Sequence[int]) -> str:
    """The smallest number of demonstrations with which a task is fit, or why it is with none."""
    if "error" in row:
        return str(row["error"])
    if _rate(row["expert"]) < CAN_BE_DONE:
        return "the expert fails too often"
    why = []
    for n in demos:
        blind, learned = _rate(row[f"blind, {n}"]), _rate(row[f"none, {n}"])
        if blind >= BLIND_BELOW:
            why.append("needs no image")
        elif learned < LEARNED[0]:
            why.append("half learned")
        elif learned > LEARNED[1]:
            why.append("no room above")
        else:
            return f"**fit, {n}**"
    return "; ".join(dict.fromkeys(why))


def markdown(rows: Sequence[Mapping[str, Any]], steps: int, demos: Sequence[int]) -> str:
    """The rows of `POLICY` after so many steps, in percent; those of earlier ones are in ground.json alone."""
    kept = [row for row in rows if (row["steps"], row["policy"]) == (steps, POLICY)]
    head = [
        "task",
        "difficulty",
        "expert",
        *(f"{kind}, {n}" for kind in ("none", "blind") for n in demos),
        "verdict",
    ]
    cells = [
        [
            row["task"],
            row.get("difficulty", ""),
            *(f"{100 * _rate(row[label]):.0f}" if label in row else "" for label in head[2:-1]),
            verdict(row, demos),
        ]
        for row in kept
    ]
    about = (
        f"Percent of 50 held-out episodes, one training of {steps} steps each "
        f"({', '.join(f'{option} {value}' for option, value in POLICY.items())}), by the number of demonstrations. "
        "A Wilson interval reaches about 14 points to either side at 50 %; counts and "
        f"intervals are in ground.json, the rule in PLAN.md. {len(kept)} of 50 tasks so far."
    )
    return "\n".join(["# The ground", "", about, "", *tables.markdown(head, cells), ""])


def write(table: Mapping[str, Any], steps: int, demos: Sequence[int]) -> None:
    """Beside ground.json."""
    with replacing_file(FOLDER / "ground.md") as part:
        part.write_text(markdown(table["rows"], steps, demos), encoding="utf-8")


def _rate(cell: Mapping[str, float]) -> float:
    return cell["successes"] / cell["episodes"]


if __name__ == "__main__":
    write(read_json(FOLDER / "ground.json"), STEPS, (25, 50))

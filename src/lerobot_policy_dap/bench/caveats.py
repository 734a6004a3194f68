"""What the results cannot say: what a careful reader has to know before quoting a number."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise

from . import words
from .episodes import BLIND, CLEAN, EXPERT
from .means import ALL, SIGNIFICANCE
from .records import Cell, Results

ONE_TRAINING_SEED = (
    "Each policy was trained once, from one training seed. Intervals and p values here are over episodes and do "
    "not include the luck of training, so a difference belongs to these checkpoints and not to the methods."
)


def caveats(results: Results) -> list[str]:
    """The limits of these results, most important first."""
    found = [*_training(results)]
    cells = [cell for cell in results["cells"] if cell["policy"] != EXPERT]
    found += _floors(cells)
    found += _multiplicity(results)
    conditions = defaultdict(set)
    for cell in filter(_is_shifted, cells):
        conditions[cell["policy"]].add((cell["task"], cell["shift"], cell["severity"]))
    if any(mine != other for mine, other in pairwise(conditions.values())):
        found.append(
            "The policies were not all run under the same shifts: their mean rates cannot be compared. Differences "
            "are on the conditions that both have."
        )
    by_task = defaultdict(set)
    for cell in filter(_is_shifted, cells):
        by_task[cell["task"]].add((cell["shift"], cell["severity"]))
    if any(mine != other for mine, other in pairwise(by_task.values())):
        found.append("Not every task has every factor: a mean over tasks takes those that have it.")
    if any(entry["kind"] == "drop" and entry["shift"] == ALL for entry in results["means"]):
        found.append(
            "A mean over shifted cells weighs every cell the same, and every task the same; another choice of shifts, "
            "severities or tasks would give another mean. It speaks of these tasks, and physical factors are not in it."
        )
    return found


def trained_once(results: Results) -> tuple[list[str], list[str]]:
    """Policies with one training seed, and with several, of those that were evaluated: a planned one says nothing."""
    runs = _runs(results)
    return [name for name, count in runs.items() if count == 1], [name for name in runs if runs[name] > 1]


def _runs(results: Results) -> dict[str, int]:
    """The most training seeds that a condition of each policy has."""
    runs: dict[str, int] = defaultdict(int)
    for cell in results["cells"]:
        if cell["policy"] != EXPERT:
            runs[cell["policy"]] = max(runs[cell["policy"]], cell["training_seeds"])
    return runs


def _training(results: Results) -> list[str]:
    single, several = trained_once(results)
    if not several:
        return [ONE_TRAINING_SEED] if single else []
    found = []
    if single:
        found.append(
            f"{words.listed(single)} {'was' if len(single) == 1 else 'were'} trained from one training seed: "
            "what is said of it belongs to that checkpoint and not to the method."
        )
    found.append(
        "Intervals of means and differences hold the luck of training where a policy has several training seeds; "
        "Wilson's intervals and p values are over episodes alone, of these checkpoints. With few training seeds that "
        "luck is itself poorly known."
    )
    if len(set(_runs(results).values())) > 1:
        found.append(
            "The policies have different numbers of training seeds: two of them are compared on equal ones where one "
            "has none that the other lacks, otherwise the first beside the first, as many as both have."
        )
    return found


def _floors(cells: list[Cell]) -> list[str]:
    if not cells:
        return []
    if all(cell["at_floor"] is None for cell in cells):
        unknown = (
            "No blind control was run on these seeds: success under shift may owe nothing to the images, and the "
            "numbers cannot tell."
        )
        return [unknown]
    found = [
        f"{cell['policy']} succeeds on {cell['task']} no more often with clean images than with none: it "
        "does not use them there, and its shifted cells measure nothing."
        for cell in cells
        if cell["shift"] == CLEAN and cell["at_floor"]
    ]
    found.append(
        "A cell marked as at the floor does not exceed the policy's blind success on the same seeds beyond the "
        "95% interval of the paired difference. It must not be read as robustness; a loss that ends there is a "
        "lower bound."
    )
    return found


def _multiplicity(results: Results) -> list[str]:
    found = []
    if results["drops"] or results["differences"]:
        found.append(
            "p values are adjusted by Holm's method within one question (the conditions, or the factors, of one policy "
            "or pair of policies on one task or on all); over several policies or tasks, some findings are expected "
            "to be chance. Intervals are 95% for one comparison and are not adjusted."
        )
    shifted = [difference for difference in results["differences"] if difference["shift"] != CLEAN]
    if shifted:
        first = shifted[0]
        family = sum(
            (d["a"], d["b"], d["task"]) == (first["a"], first["b"], first["task"]) for d in results["differences"]
        )
        n = max(difference["n"] for difference in shifted)
        # The sign test on k discordant pairs, all one way, has p = 2·0.5^k.
        least = math.ceil(math.log2(2 * family / SIGNIFICANCE))
        if least > n:
            found.append(
                f"With {words.counted(n, 'paired episode')} no single cell could establish any difference among "
                f"{words.counted(family, 'comparison')}, however large."
            )
        else:
            found.append(
                f"With {words.counted(n, 'paired episode')} the first cell to be established needs at least "
                f"{least} episodes that only one of the two policies solves, all in its favour "
                f"({words.percent(least / n)} of them): absence of an established difference is not evidence of "
                "equality."
            )
    return found


def _is_shifted(cell: Cell) -> bool:
    return cell["shift"] not in (CLEAN, BLIND)

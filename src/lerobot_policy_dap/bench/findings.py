"""What the results say in a few sentences, and what they cannot say."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from . import words
from .comparisons import SIGNIFICANCE
from .episodes import BLIND, CLEAN
from .records import Cell, Overall, Results
from .statistics import Interval

ONE_TRAINING_SEED = (
    "Each method was trained once, from one training seed. Intervals and p values here are over episodes and do "
    "not include the luck of training, so a difference belongs to these checkpoints and not to the methods."
)


def summary(results: Results) -> list[str]:
    """Sentences for a reader in a hurry: what was measured, the headline numbers, what is established."""
    sentences = [_measured(results)]
    tasks = _distinct(cell["task"] for cell in results["cells"])
    for task in tasks:
        sentences += _headlines(results, task, f" on {task}" if len(tasks) > 1 else "")
    if results["differences"]:
        sentences.append(_established(results))
    shifted = [cell for cell in results["cells"] if _is_shifted(cell)]
    floored = sum(cell["at_floor"] is True for cell in shifted)
    if floored:
        sentences.append(
            f"{floored} of {words.counted(len(shifted), 'shifted cell')} "
            f"{'does' if floored == 1 else 'do'} not rise above the policy's own blind floor, its success with "
            f"zeroed images, and {'says' if floored == 1 else 'say'} nothing of robustness."
        )
    if _training_seeds(results)[1] == []:
        sentences.append("One training seed for each method: the numbers belong to these checkpoints alone.")
    return sentences


def caveats(results: Results) -> list[str]:
    """What a careful reader has to know before quoting a number."""
    found: list[str] = []
    single, several = _training_seeds(results)
    if not several:
        found.append(ONE_TRAINING_SEED)
    elif single:
        found.append(
            f"{words.listed(single)} {'was' if len(single) == 1 else 'were'} trained from one training seed: "
            "what is said of it belongs to that checkpoint and not to the method."
        )
    else:
        found.append(
            "Each comparison is between two checkpoints. To compare methods, look at all their training seeds."
        )
    found += _floor_caveats(results["cells"])
    found += _multiplicity_caveats(results)
    conditions = defaultdict(set)
    for cell in filter(_is_shifted, results["cells"]):
        conditions[cell["policy"]].add((cell["task"], cell["shift"], cell["severity"]))
    if any(mine != other for mine, other in pairwise(conditions.values())):
        found.append(
            "The policies were not all run under the same shifts: their mean rates cannot be compared. Differences "
            "are on the conditions that both have."
        )
    if any(entry["kind"] == "drop" for entry in results["overall"]):
        found.append(
            "A mean over shifted cells weighs every cell the same; another choice of shifts or severities would "
            "give another mean. Its interval resamples seeds, since the cells of one seed are not independent."
        )
    return found


def _measured(results: Results) -> str:
    cells = results["cells"]
    policies = _distinct(cell["policy"] for cell in cells)
    tasks = _distinct(cell["task"] for cell in cells)
    subject = (
        f"The policy {policies[0]} was" if len(policies) == 1 else f"The policies {words.listed(policies)} were"
    )
    same = "" if len(policies) == 1 else "the same "
    sentence = f"{subject} run from {same}seeded initial states of {words.listed(tasks)}"
    clean = [cell["n"] for cell in cells if cell["shift"] == CLEAN]
    shifted = [cell for cell in cells if _is_shifted(cell)]
    parts = [f"{_span(clean)} clean episodes"] if clean else []
    if shifted:
        conditions = len({(cell["shift"], cell["severity"]) for cell in shifted})
        factors = len({cell["shift"] for cell in shifted})
        parts.append(
            f"{_span([cell['n'] for cell in shifted])} under each of "
            f"{words.counted(conditions, 'shifted condition')} ({words.counted(factors, 'visual factor')})"
        )
    blind = [cell["n"] for cell in cells if cell["shift"] == BLIND]
    if blind:
        parts.append(f"{_span(blind)} with zeroed images as the blind floor")
    each = " for each policy" if len(policies) > 1 else ""
    return f"{sentence}: {words.listed(parts)}{each}."


def _headlines(results: Results, task: str, on: str) -> list[str]:
    sentences = []
    clean = [cell for cell in results["cells"] if cell["task"] == task and cell["shift"] == CLEAN]
    if clean:
        rates = [f"{cell['policy']} {words.rate_of(cell)}" for cell in clean]
        sentences.append(f"Clean success{on}: {words.listed(rates)}.")
    overall = {
        kind: [entry for entry in results["overall"] if entry["task"] == task and entry["kind"] == kind]
        for kind in ("rate", "drop", "difference")
    }
    if overall["rate"]:
        rates = [f"{entry['policy']} {words.rate(_interval(entry))}" for entry in overall["rate"]]
        cells = _span([entry["cells"] for entry in overall["rate"]])
        sentences.append(f"Mean success over {cells} shifted conditions{on}: {words.listed(rates)}.")
    if overall["drop"]:
        lost = [f"{words.points(_interval(entry))} for {entry['policy']}" for entry in overall["drop"]]
        sentences.append(f"Paired by seed, clean minus shifted{on} is {words.listed(lost)}.")
    drops = [drop for drop in results["drops"] if drop["task"] == task]
    if len(drops) > 1:
        worst = max(drops, key=lambda drop: drop["drop"])
        lost_most = words.points(Interval(worst["drop"], worst["low"], worst["high"]))
        where = words.condition(worst["shift"], worst["severity"])
        sentences.append(f"The largest single loss{on} is {lost_most} (policy {worst['policy']}, {where}).")
    differences = overall["difference"]
    if len(differences) > 3:
        established = [entry for entry in differences if entry["established"]]
        sentences.append(
            f"Of {len(differences)} mean differences between policies over the shifted conditions{on}, "
            f"{len(established) or 'not one'} {'is' if len(established) < 2 else 'are'} established."
        )
        differences = established[:3]
    for entry in differences:
        verdict = "established for these checkpoints" if entry["established"] else "not established"
        sentences.append(
            f"Over the shifted conditions{on}, {entry['policy']} minus {entry['other']} is "
            f"{words.points(_interval(entry))}: {verdict}."
        )
    return sentences


def _established(results: Results) -> str:
    differences = results["differences"]
    established = [difference for difference in differences if difference["established"]]
    single = words.counted(len(differences), "single comparison")
    if not established:
        # Not "none is": a policy may well be called none.
        return f"Of {single} between policies, not one is established after correction for their number."
    named = [
        f"{d['a']} minus {d['b']} {words.under(d['shift'], d['severity'])} "
        f"({words.points(Interval(d['difference'], d['low'], d['high']))})"
        for d in established[:3]
    ]
    if len(established) > 3:
        named.append(f"{len(established) - 3} more")
    is_or_are = "is" if len(established) == 1 else "are"
    return (
        f"Of {single} between policies, {len(established)} {is_or_are} established after correction for their "
        f"number: {words.listed(named)}."
    )


def _floor_caveats(cells: list[Cell]) -> list[str]:
    found = []
    if all(cell["at_floor"] is None for cell in cells):
        found.append(
            "No blind control was run on these seeds: success under shift may owe nothing to the images, and the "
            "numbers cannot tell."
        )
        return found
    for cell in cells:
        if cell["shift"] == CLEAN and cell["at_floor"]:
            found.append(
                f"{cell['policy']} succeeds on {cell['task']} no more often with clean images than with none: it "
                "does not use them there, and its shifted cells measure nothing."
            )
    found.append(
        "A cell marked as at the floor does not exceed the policy's blind success on the same seeds beyond the "
        "95% interval of the paired difference. It must not be read as robustness; a loss that ends there is a "
        "lower bound."
    )
    return found


def _multiplicity_caveats(results: Results) -> list[str]:
    found = []
    families = [("losses from clean", len(results["drops"])), ("differences", len(results["differences"]))]
    sizes = [f"{size} {name}" for name, size in families if size]
    if sizes:
        found.append(
            f"p values are adjusted for their number by Holm's method ({words.listed(sizes)}, each its own "
            "family); intervals are 95% for one comparison and are not adjusted."
        )
    pairs = [difference["n"] for difference in results["differences"] if difference["shift"] != CLEAN]
    if pairs:
        # The sign test on k discordant pairs, all one way, has p = 2·0.5^k.
        least = math.ceil(math.log2(2 * len(results["differences"]) / SIGNIFICANCE))
        n = max(pairs)
        if least > n:
            found.append(
                f"With {words.counted(n, 'paired episode')} no single cell could establish any difference among "
                f"{words.counted(len(results['differences']), 'comparison')}, however large."
            )
        else:
            found.append(
                f"With {words.counted(n, 'paired episode')} the first cell to be established needs at least "
                f"{least} episodes that only one of the two policies solves, all in its favour "
                f"({words.percent(least / n)} of them): absence of an established difference is not evidence of "
                "equality."
            )
    return found


def _training_seeds(results: Results) -> tuple[list[str], list[str]]:
    """Methods (type and coupling) with one training seed, and with several; a policy without a record has one."""
    recorded = {str(policy.get("name")): policy for policy in results["meta"].get("policies") or []}
    seeds: dict[str, set[Any]] = defaultdict(set)
    for name in _distinct(cell["policy"] for cell in results["cells"]):
        policy = recorded.get(name, {})
        method = " ".join(str(policy[key]) for key in ("type", "coupling") if policy.get(key)) or name
        seeds[method].add(policy.get("train_seed"))
    single = [method for method, found in seeds.items() if len(found) == 1]
    return single, [method for method in seeds if method not in single]


def _is_shifted(cell: Cell) -> bool:
    return cell["shift"] not in (CLEAN, BLIND)


def _interval(entry: Overall) -> Interval:
    return Interval(entry["estimate"], entry["low"], entry["high"])


def _span(counts: list[int]) -> str:
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least} to {most}"


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))

"""What the results say in a few sentences."""

from __future__ import annotations

from collections.abc import Iterable

from . import words
from .caveats import trained_once
from .episodes import BLIND, CLEAN, EXPERT
from .means import ALL
from .records import Cell, Mean, Results
from .statistics import Interval


def summary(results: Results) -> list[str]:
    """Sentences for a reader in a hurry: what was measured, the headline numbers, what is established."""
    tasks = _distinct(cell["task"] for cell in results["cells"])
    scope = tasks[0] if len(tasks) == 1 else ALL
    sentences = [_measured(results), *_headlines(results, scope), *_weaknesses(results, scope)]
    sentences += _gains(results, scope)
    if results["differences"]:
        sentences.append(_established(results))
    sentences += _expert(results, scope)
    shifted = [cell for cell in results["cells"] if _is_shifted(cell)]
    floored = sum(cell["at_floor"] is True for cell in shifted)
    if floored:
        sentences.append(
            f"{floored} of {words.counted(len(shifted), 'shifted cell')} "
            f"{'does' if floored == 1 else 'do'} not rise above the policy's own blind floor, its success with "
            f"zeroed images, and {'says' if floored == 1 else 'say'} nothing of robustness."
        )
    single, several = trained_once(results)
    if single and not several:
        sentences.append("One training seed for each policy: the numbers belong to these checkpoints alone.")
    return sentences


def _measured(results: Results) -> str:
    cells = [cell for cell in results["cells"] if cell["policy"] != EXPERT] or results["cells"]
    policies = _distinct(cell["policy"] for cell in cells)
    tasks = _distinct(cell["task"] for cell in cells)
    subject = (
        f"The policy {policies[0]} was" if len(policies) == 1 else f"The policies {words.listed(policies)} were"
    )
    same = "" if len(policies) == 1 else "the same "
    where = words.listed(tasks) if len(tasks) < 6 else words.counted(len(tasks), "task")
    sentence = f"{subject} run from {same}seeded initial states of {where}"
    clean = [cell["n"] for cell in cells if cell["shift"] == CLEAN]
    shifted = [cell for cell in cells if _is_shifted(cell)]
    parts = [f"{_span(clean)} clean episodes"] if clean else []
    if shifted:
        physical = {str(s["name"]) for s in results["meta"].get("shifts") or [] if s.get("physical")}
        factors = {cell["shift"] for cell in shifted}
        kinds = [
            words.counted(len(names), f"{kind} factor")
            for kind, names in (("visual", factors - physical), ("physical", factors & physical))
            if names
        ]
        conditions = len({(cell["shift"], cell["severity"]) for cell in shifted})
        parts.append(
            f"{_span([cell['n'] for cell in shifted])} under each of "
            f"{words.counted(conditions, 'shifted condition')} ({words.listed(kinds)})"
        )
    blind = [cell["n"] for cell in cells if cell["shift"] == BLIND]
    if blind:
        parts.append(f"{_span(blind)} with zeroed images as the blind floor")
    each = " for each policy" if len(policies) > 1 else ""
    each += " and task" if each and len(tasks) > 1 else " for each task" if len(tasks) > 1 else ""
    runs = [cell["training_seeds"] for cell in cells if cell["shift"] == CLEAN]
    several = f", over {_span(runs)} training seeds" if runs and max(runs) > 1 else ""
    return f"{sentence}: {words.listed(parts)}{each}{several}."


def _headlines(results: Results, task: str) -> list[str]:
    sentences = []
    if task != ALL:
        clean = [
            c for c in results["cells"] if c["task"] == task and c["shift"] == CLEAN and c["policy"] != EXPERT
        ]
        rates = [f"{cell['policy']} {words.rate_of(cell)}" for cell in clean]
    else:
        rates = [f"{m['policy']} {words.rate(_interval(m))}" for m in _means(results, "rate", task, CLEAN)]
    if rates:
        sentences.append(f"Clean success: {words.listed(rates)}.")
    shifted = _means(results, "rate", task, ALL)
    if shifted:
        rates = [f"{entry['policy']} {words.rate(_interval(entry))}" for entry in shifted]
        cells = _span([entry["cells"] for entry in shifted])
        sentences.append(f"Mean success over {cells} visually shifted conditions: {words.listed(rates)}.")
    drops = _means(results, "drop", task, ALL)
    if drops:
        lost = [f"{words.points(_interval(entry))} for {entry['policy']}" for entry in drops]
        sentences.append(f"Paired by seed, clean minus shifted is {words.listed(lost)}.")
    return sentences


def _weaknesses(results: Results, task: str) -> list[str]:
    """The factor that costs each policy most."""
    found = []
    for policy in _distinct(cell["policy"] for cell in results["cells"] if cell["policy"] != EXPERT):
        drops = [
            m for m in results["means"]
            if (m["kind"], m["policy"], m["task"]) == ("drop", policy, task) and m["shift"] != ALL
        ]  # fmt: skip
        if len(drops) > 1:
            worst = max(drops, key=lambda drop: drop["estimate"])
            kept = "" if worst["established"] else ", which is not established"
            found.append(f"{policy} under {words.factor(worst['shift'])} ({words.points(_interval(worst))}{kept})")
    return [f"The factor that costs most, mean of its severities: {words.listed(found)}."] if found else []


def _gains(results: Results, task: str) -> list[str]:
    differences = _means(results, "difference", task, ALL)
    sentences = []
    if len(differences) > 3:
        established = [entry for entry in differences if entry["established"]]
        sentences.append(
            f"Of {len(differences)} mean differences between policies over the shifted conditions, "
            f"{len(established) or 'not one'} {'is' if len(established) < 2 else 'are'} established."
        )
        differences = established[:3]
    for entry in differences:
        checkpoints = " for these checkpoints" if entry["training_seeds"] == 1 else ""
        verdict = f"established{checkpoints}" if entry["established"] else "not established"
        sentences.append(
            f"Over the shifted conditions, {entry['policy']} minus {entry['other']} is "
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
    tasks = len({d["task"] for d in differences}) > 1
    named = [
        f"{d['a']} minus {d['b']} {words.under(d['shift'], d['severity'])}{' of ' + d['task'] if tasks else ''} "
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


def _expert(results: Results, task: str) -> list[str]:
    """Whether the shifted tasks can be solved at all."""
    cells = [cell for cell in results["cells"] if cell["policy"] == EXPERT]
    shifted = [cell for cell in cells if _is_shifted(cell)]
    if not shifted:
        return []
    clean = [cell for cell in cells if cell["shift"] == CLEAN]
    before = f"{words.percent(sum(c['rate'] for c in clean) / len(clean))} of clean and " if clean else ""
    worst = min(shifted, key=lambda cell: cell["rate"])
    where = f" of {worst['task']}" if task == ALL else ""
    shown = words.percent(sum(cell["rate"] for cell in shifted) / len(shifted))
    least = f"{words.under(worst['shift'], worst['severity'])}{where} ({words.percent(worst['rate'])})"
    solves = f"solves {before}{shown} of shifted episodes, and least {least}"
    return [f"The scripted expert, which sees no images, {solves}."]


def _means(results: Results, kind: str, task: str, shift: str) -> list[Mean]:
    return [
        m for m in results["means"]
        if (m["kind"], m["task"], m["shift"]) == (kind, task, shift) and m["policy"] != EXPERT
    ]  # fmt: skip


def _is_shifted(cell: Cell) -> bool:
    return cell["shift"] not in (CLEAN, BLIND)


def _interval(entry: Mean) -> Interval:
    return Interval(entry["estimate"], entry["low"], entry["high"])


def _span(counts: list[int]) -> str:
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least} to {most}"


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))

"""What a round has found so far: a table of episodes; what it says in Markdown, as a figure, as the bench's report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import machine
from round_figure import Row, draw
from round_play_figure import Shown
from round_play_figure import draw as draw_play
from round_spec import Round
from tables import markdown

from lerobot_policy_dap.bench import words
from lerobot_policy_dap.bench.episodes import BLIND, CLEAN, EXPERT, Episode, read_episodes, write_episodes
from lerobot_policy_dap.bench.hierarchy import HierarchicalMean, hierarchical_mean
from lerobot_policy_dap.bench.means import ALL, SIGNIFICANCE, means_of
from lerobot_policy_dap.bench.pairing import Pairing
from lerobot_policy_dap.bench.records import Mean
from lerobot_policy_dap.bench.report import write_report
from lerobot_policy_dap.bench.results import summarise
from lerobot_policy_dap.bench.statistics import Interval, holm
from lerobot_policy_dap.files import replacing_file
from lerobot_policy_dap.worlds.shifts import SHIFTS
from lerobot_policy_dap.worlds.tasks import resolve_task

EPISODES, TABLE, FIGURE, REPORT = "episodes.parquet", "table.md", "figure.svg", "report.html"
PLAY_FIGURE = "play.svg"


def kept_episodes(folder: Path, asked: Round) -> list[Episode]:
    """The episodes that were kept there before, behind those that another round, kept beside it, lends."""
    lent = _read(folder.parent / asked.lender) if asked.lender is not None else []
    tasks = {*map(resolve_task, asked.tasks)}
    counts = [
        e for e in lent if e.policy in asked.lent and e.task in tasks and e.training_seed in asked.training_seeds
    ]
    return [*counts, *_read(folder)]


def _read(folder: Path) -> list[Episode]:
    return read_episodes(folder / EPISODES) if (folder / EPISODES).exists() else []


def keep(folder: Path, asked: Round, episodes: Sequence[Episode], command: str) -> None:
    """Writes episodes and table into the folder, and the figure where there are shifts; none names a path of here.

    Lent episodes count, but stay with the round that lends them.
    """
    compared = comparable(episodes)
    found = find(asked, compared, command) if compared else None  # refuses a mixture before anything is written
    write_episodes(folder / EPISODES, [e for e in episodes if e.policy not in asked.lent])
    if found is None:
        return
    texts = {TABLE: table(found)}
    if asked.factors:
        texts[FIGURE] = figure(found)
    if len({asked.play_of(arm) for arm in asked.arms}) > 2:  # the round asks how much play there should be
        texts[PLAY_FIGURE] = play_figure(found)
    for name, text in texts.items():
        with replacing_file(folder / name) as part:
            part.write_text(text, encoding="utf-8")


def keep_report(folder: Path, asked: Round, episodes: Sequence[Episode], command: str) -> None:
    """Writes the bench's report of the episodes, without pictures."""
    compared = comparable(episodes)
    if compared:
        write_report(folder / REPORT, summarise(compared, _meta(asked, _policies(asked), command)))


def comparable(episodes: Sequence[Episode]) -> list[Episode]:
    """The most episodes of two policies or more whose training seeds have all been on the same tasks.

    A round that is still running, was resumed on another machine or has got an arm more lacks tasks of some arms and
    training seeds; means over unlike tasks would not compare. So either the tasks that an arm lacks are left out, or
    the arm is; where both keep as many episodes, the tasks.
    """
    tasks_of: dict[str, set[str]] = {}
    trained_on: dict[tuple[str, int], set[str]] = {}
    for episode in episodes:
        tasks_of.setdefault(episode.policy, set()).add(episode.task)
        trained_on.setdefault((episode.policy, episode.training_seed), set()).add(episode.task)

    def kept(tasks: frozenset[str]) -> list[Episode]:
        whole = {run for run, on in trained_on.items() if on >= tasks}
        alone = len({policy for policy, _ in whole}) < min(2, len(tasks_of))
        return [] if alone else [e for e in episodes if e.task in tasks and (e.policy, e.training_seed) in whole]

    shared = set.intersection(*tasks_of.values()) if tasks_of else set()
    # Each set of tasks once: most arms have the same.
    choices = dict.fromkeys(map(frozenset, [shared, *tasks_of.values()]))
    return max(map(kept, choices), key=len)


@dataclass(frozen=True, slots=True)
class Found:
    """What the episodes of a round say, computed once for table and figure."""

    asked: Round
    command: str
    episodes: int
    pairing: Pairing
    means: Sequence[Mean]
    beside: dict[str, list[Mean]]
    """The main arm minus each other one: over all factors, clean, and under each factor."""
    rows: dict[str, Row]
    """What the figures draw of each arm."""

    @property
    def scope(self) -> str:
        """The task that means of the whole round stand under."""
        return _scope(self.pairing)

    @property
    def tasks(self) -> str:
        """The tasks, in words."""
        return ", ".join(task.removesuffix("-v3") for task in self.pairing.tasks)


def find(asked: Round, episodes: Sequence[Episode], command: str) -> Found:
    """Means and paired differences of the episodes."""
    pairing = Pairing(episodes, _meta(asked, _policies(asked), command))
    others = [arm for arm in pairing.learned if arm != asked.main and asked.main in pairing.learned]
    beside = _adjusted({other: _differences(asked, episodes, other, command) for other in others})
    means = means_of(pairing)
    rows = {arm: _row(pairing, means, beside.get(arm, []), arm) for arm in pairing.learned}
    return Found(asked, command, len(episodes), pairing, means, beside, rows)


def table(found: Found) -> str:
    """The arms, and the main arm beside each other, in Markdown.

    Rates and drops are means over tasks; intervals are the hierarchical bootstrap's over training seeds and episodes.
    A comparison is paired over training seeds and episodes. Its p values are adjusted by Holm over clean and the
    factors, that over all factors over the arms that the main one is compared with.
    """
    asked, pairing, means, scope = found.asked, found.pairing, found.means, found.scope
    seeds = {arm: len(pairing.training_seeds(arm)) for arm in pairing.policies}
    about = (
        f"Tasks: {found.tasks}. Demonstrations: {_own(asked, 'demos')}. Play: {_played(asked)}. "
        f"Training steps: {_own(asked, 'steps')}. "
        f"Severities: {', '.join(map(str, asked.severities)) or 'none'}. {found.episodes} episodes so far; "
        f"{words.counted(len(asked.training_seeds), 'training seed')} planned. "
        "Percent, with 95% intervals over training seeds and episodes."
    )
    if any(seeds[arm] < 2 for arm in pairing.learned):
        about += (
            " **Of an arm with one training seed, the intervals are of that one checkpoint's episodes: another training"
            " may differ by more.**"
        )
    lines = [
        f"# Round {asked.name}",
        "",
        about,
        "",
        *markdown(
            ["arm", "seeds", "clean", "shifted", "drop", "blind", *map(words.factor, pairing.shifts)],
            [
                [
                    arm,
                    str(seeds[arm]),
                    _of(found.rows[arm].clean),
                    _mean(means, "rate", arm, scope, ALL),
                    _mean(means, "drop", arm, scope, ALL),
                    _of(_unshifted(pairing, arm, BLIND)),
                    *(_shift_rate(pairing, arm, shift) for shift in pairing.shifts),
                ]
                for arm in pairing.learned
            ],
        ),
    ]
    for other, differences in found.beside.items():
        lines += ["", f"## {asked.main} minus {other}", "", *comparison(differences)]
    if len(pairing.tasks) > 1:
        lines += ["", "## By task: clean / shifted", "", *_by_task(pairing, means)]
    made = " ".join([f"`{found.command}`, {machine()}; {pairing.versions}.", *asked.notes])
    return "\n".join([*lines, "", made, ""])


def figure(found: Found) -> str:
    """The arms clean and shifted, and the main arm beside each under shift, as SVG: the numbers of the table."""
    return draw([*found.rows.values()], found.asked.main, _about(found))


def play_figure(found: Found) -> str:
    """Success against the amount of play, as SVG: the numbers of the table."""
    arms = [arm for arm in found.asked.arms if arm.name in found.rows]
    shown = [Shown(arm.kind, found.asked.play_of(arm), found.rows[arm.name]) for arm in arms]
    return draw_play(shown, _about(found))


def _row(pairing: Pairing, means: Iterable[Mean], beside: Iterable[Mean], arm: str) -> Row:
    shifted = next((_drawn(m) for m in means if _key(m) == ("rate", arm, _scope(pairing), ALL)), None)
    gain = next((_drawn(m) for m in beside if m["shift"] == ALL), None)
    return Row(arm, _unshifted(pairing, arm, CLEAN), shifted, gain)


def _about(found: Found) -> list[str]:
    """Lines below a figure."""
    asked, pairing = found.asked, found.pairing
    runs = [len(pairing.training_seeds(arm)) for arm in pairing.learned]
    fewest, most = min(runs), max(runs)
    alone = "intervals are of that checkpoint alone"
    if most == 1:
        seeds = f"One training seed: {alone}"
    else:
        seeds = f"{most if fewest == most else f'{fewest} to {most}'} training seeds an arm"
        seeds += f" (with one, {alone})" if fewest == 1 else ""
    return [
        f"{found.tasks}; {asked.demos} demonstrations; {found.episodes:,} held-out episodes.",
        f"Shifted: mean of {len(pairing.shifts)} factors, severity {', '.join(map(str, asked.severities))}. {seeds}.",
    ]


def _key(m: Mean) -> tuple[str, str, str, str]:
    return m["kind"], m["policy"], m["task"], m["shift"]


def _drawn(m: Mean) -> Interval:
    return Interval(m["estimate"], m["low"], m["high"])


def _scope(pairing: Pairing) -> str:
    return ALL if len(pairing.tasks) > 1 else pairing.tasks[0]


def _differences(asked: Round, episodes: Iterable[Episode], other: str, command: str) -> list[Mean]:
    both = [e for e in episodes if e.policy in (other, asked.main)]
    # A difference is the later policy's minus the earlier one's, wherever the declaration has the main arm.
    policies = [policy for name in (other, asked.main) for policy in _policies(asked) if policy["name"] == name]
    pairing = Pairing(both, _meta(asked, policies, command))
    return [m for m in means_of(pairing) if m["kind"] == "difference" and m["task"] == _scope(pairing)]


def _adjusted(beside: Mapping[str, list[Mean]]) -> dict[str, list[Mean]]:
    """The comparisons, those over all factors adjusted by Holm as one family: one question is asked of every arm."""
    whole = {other: m for other, means in beside.items() for m in means if m["shift"] == ALL}
    by_arm = dict(zip(whole, holm([m["p"] or 0.0 for m in whole.values()]), strict=True))

    def adjusted(other: str, m: Mean) -> Mean:
        if m["shift"] != ALL:
            return m
        p_holm = float(by_arm[other])
        return {**m, "p_holm": p_holm, "established": p_holm <= SIGNIFICANCE and _drawn(m).excludes_zero()}

    return {other: [adjusted(other, m) for m in means] for other, means in beside.items()}


def comparison(differences: Iterable[Mean]) -> list[str]:
    """Differences of two arms as a table in Markdown."""
    return markdown(
        ["under", "points", "p", "p (Holm)", "established"],
        [
            [
                {ALL: "all factors", CLEAN: "clean"}.get(m["shift"], words.factor(m["shift"])),
                _interval(m, signed=True),
                f"{m['p'] or 0.0:.3f}",
                f"{m['p_holm'] or 0.0:.3f}",
                "yes" if m["established"] else "",
            ]
            for m in differences
        ],
    )


def _by_task(pairing: Pairing, means: Sequence[Mean]) -> list[str]:
    def cell(arm: str, task: str) -> str:
        clean = pairing.common([(arm, task, CLEAN, 0)])
        wanted = ("rate", arm, task, ALL)
        shifted = [m["estimate"] for m in means if _key(m) == wanted]
        parts = [f"{100 * clean.mean():.0f}" if clean.size else "", *(f"{100 * rate:.0f}" for rate in shifted)]
        return " / ".join(parts)

    rows = [[arm, *(cell(arm, task) for task in pairing.tasks)] for arm in pairing.learned]
    return markdown(["arm", *(task.removesuffix("-v3") for task in pairing.tasks)], rows)


def _unshifted(pairing: Pairing, arm: str, shift: str) -> HierarchicalMean | None:
    """Success clean, or blind."""
    blocks = [pairing.common([(arm, task, shift, 0)])[:, :, 0] for task in pairing.tasks]
    return _mean_of([block for block in blocks if block.size])


def _shift_rate(pairing: Pairing, arm: str, shift: str) -> str:
    blocks = []
    for task in pairing.tasks:
        keys = [(arm, task, shift, severity) for severity in pairing.severities(shift, task, arm)]
        if keys:
            blocks.append(pairing.common(keys).mean(axis=2))
    return _of(_mean_of(blocks))


def _mean_of(blocks: Sequence[Any]) -> HierarchicalMean | None:
    """The mean over tasks, or nothing where two episodes are not there yet."""
    if not blocks or min(block.shape[1] for block in blocks) < 2:
        return None
    runs = min(len(block) for block in blocks)
    return hierarchical_mean([block[:runs] for block in blocks])


def _of(mean: Interval | None) -> str:
    return "" if mean is None else f"{100 * mean.estimate:.0f} [{100 * mean.low:.0f}, {100 * mean.high:.0f}]"


def _mean(means: Iterable[Mean], kind: str, arm: str, task: str, shift: str) -> str:
    for m in means:
        if _key(m) == (kind, arm, task, shift) and m["severity"] is None:
            return _interval(m)
    return ""


def _interval(found: Mean, signed: bool = False) -> str:
    low, high = 100 * found["low"], 100 * found["high"]
    mark = "+" if signed else ""
    return f"{100 * found['estimate']:{mark}.1f} [{low:{mark}.1f}, {high:{mark}.1f}]"


def _played(asked: Round) -> str:
    if asked.play is None:
        return "none"
    seen = f", {asked.play.varied_share:.0%} under " + ", ".join(map(words.factor, asked.play.varied))
    seen = seen if asked.play.varied else ""
    return f"{asked.play.episodes} episodes ({', '.join(asked.play.kinds)}){seen}"


def _own(asked: Round, what: str) -> str:
    """The round's `what`, and the arms that have, or whose weights have, another one."""
    others: dict[int, list[str]] = {}
    for arm in asked.arms:
        own = getattr(asked.weights_of(arm), what)
        if own not in (None, getattr(asked, what)):
            others.setdefault(own, []).append(arm.name)
    told = "; ".join(f"{', '.join(names)}: {own}" for own, names in others.items())
    return f"{getattr(asked, what)}" + (f" ({told})" if told else "")


def _policies(asked: Round) -> list[dict[str, Any]]:
    """What is said of the arms of a round, and of its expert."""
    told: list[dict[str, Any]] = []
    for arm in asked.arms:
        made = {"name": arm.name, "type": arm.type} | ({"coupling": arm.kind} if arm.type == "dap" else {})
        told += [made | {"train_seed": seed} for seed in asked.training_seeds]
    return told + ([{"name": EXPERT, "type": "scripted expert"}] if asked.expert else [])


def _meta(asked: Round, policies: Sequence[dict[str, Any]], command: str) -> dict[str, Any]:
    return {
        "title": f"Round {asked.name}",
        "command": command,
        "hardware": machine(),
        "max_steps": asked.max_steps,
        "policies": list(policies),
        "shifts": [
            {
                "name": shift.name,
                "quantity": shift.quantity,
                "unit": shift.unit,
                "magnitudes": list(shift.magnitudes),
                "physical": shift.physical,
            }
            for shift in SHIFTS.values()
            if shift.name in asked.factors
        ],
        "notes": list(asked.notes),
    }

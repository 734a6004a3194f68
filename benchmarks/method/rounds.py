"""Runs a declared round of method experiments: `python benchmarks/method/rounds.py benchmarks/method/rounds/NAME.toml`.

Collects demonstrations and play, trains every arm, seed by seed and task by task, `--workers` trainings at once, and
evaluates a task and training seed as soon as its arms are trained, so that what there is at any time is balanced over
the arms, and nearly over the tasks. Killed at any moment and started again, it goes on; what is finished is in
results/NAME/ after every evaluation. A round that is given more arms, training seeds, factors or episodes afterwards
is extended by these. On another machine it goes on too: an arm whose episodes of a task and training seed are all in
results/NAME/ is not trained again for them. A round may be like another one, and count episodes that are in that one's
folder (`read_round`).
"""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))
from measuring import train_flags
from round_costs import Costs
from round_results import keep, keep_report, kept_episodes
from round_spec import Arm, Round, read_round

from lerobot_policy_dap.bench.episodes import EXPERT, Episode
from lerobot_policy_dap.bench.plan import FIRST_SEED, Plan, Policy, make_plan
from lerobot_policy_dap.bench.run import give_up, run, versions
from lerobot_policy_dap.bench.store import open_results
from lerobot_policy_dap.checkpoints import checkpoint_folder
from lerobot_policy_dap.configuration_dap import DAPConfig
from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.files import read_json, replacing_folder, write_json
from lerobot_policy_dap.processes import each
from lerobot_policy_dap.train.checkpoint import point_last
from lerobot_policy_dap.train.command import run as train
from lerobot_policy_dap.train.request import last_checkpoint
from lerobot_policy_dap.worlds.collect import collect
from lerobot_policy_dap.worlds.tasks import resolve_task

FOLDER = Path(__file__).parent
SAVE_EVERY = 500
Training = tuple[Arm, str, int]
"""An arm, a task and a training seed."""
Kept = dict[tuple[str, str, int], list[Episode]]
"""Episodes by policy, task and training seed."""
Missing = dict[tuple[str, int], list[str]]
"""Policies that are yet to be evaluated, by task and training seed, seed by seed."""


def main(
    declared: Annotated[Path, typer.Argument(help="The round's TOML file.")],
    data: Annotated[Path, typer.Option(help="Folder for datasets, checkpoints and rows.")] = Path(
        "outputs/rounds"
    ),
    results: Annotated[Path, typer.Option(help="Folder of what is kept.")] = FOLDER / "results",
    workers: Annotated[int, typer.Option(help="Trainings, and processes of the bench, at once.")] = 1,
    device: str = "cpu",
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what is to do and what it will cost, and leave.")
    ] = False,
) -> None:
    """Run what of the round is not finished."""
    try:
        asked = read_round(declared)
        work = data / asked.name
        if plan:
            print(_to_do(asked, work, workers, _kept(asked, results / asked.name)))
        else:
            _run(asked, work, results / asked.name, workers, device, _command(declared))
    except UserError as error:
        sys.exit(f"error: {error}")


def _run(asked: Round, work: Path, results: Path, workers: int, device: str, command: str) -> None:
    costs = Costs(work / "costs.jsonl")
    kept = _kept(asked, results)
    missing = _missing(asked, kept)
    others = {e.versions for episodes in kept.values() for e in episodes} - {versions()}
    if missing and others:
        raise UserError(
            f"{results} holds episodes of {others.pop()}, and here is {versions()}: episodes of different software "
            "cannot be compared; go on with that software"
        )
    for (task, seed), lacking in missing.items():
        _claim(asked, work, task, seed, lacking)
    left = _untrained(asked, work, missing)
    to_train = Counter((task, seed) for _, task, seed in left)
    for task in dict.fromkeys(task for task, _ in missing):
        print(f"collecting {task}", flush=True)
        collect(asked.collection(task), _dataset(work, task), lambda what, done, total: None, workers)

    def evaluate(task: str, seed: int) -> None:
        _evaluate(asked, work, task, seed, missing.pop((task, seed)), workers, device, command, costs)
        finished = _all(kept, asked, work)
        keep(results, asked, finished, command)
        print(f"evaluated seed {seed} on {task}", flush=True)
        if seed not in {of for _, of in missing}:
            keep_report(results, asked, finished, command)

    for task, seed in [*missing]:
        if not to_train[task, seed]:
            evaluate(task, seed)
    for (arm, task, seed), seconds in each(partial(_train, asked, work, device), left, workers):
        costs.trained(arm.kind, asked.steps_of(arm), seconds)
        print(f"trained {arm.name} on {task}, seed {seed}: {seconds / 60:.1f} min", flush=True)
        to_train[task, seed] -= 1
        if not to_train[task, seed]:  # beside it the next arms are trained
            evaluate(task, seed)
    print(f"results: {results}")


def _kept(asked: Round, results: Path) -> Kept:
    """What needs not be run: complete episodes that are kept, or lent.

    Raises:
        UserError: the round that lends an arm lacks episodes of it.
    """
    kept = _complete(asked, kept_episodes(results, asked))
    for (task, seed), missing in _missing(asked, kept).items():
        for name in {*missing} & {*asked.lent}:
            lender = results.parent / str(asked.lender)
            raise UserError(
                f"{lender} lacks episodes of {name}, which it lends, on {task} with training seed {seed}; run the "
                f"round {asked.lender} first"
            )
    return kept


def _complete(asked: Round, episodes: Iterable[Episode]) -> Kept:
    """The kept episodes of each policy, task and training seed of which none is missing."""
    by_run: Kept = {}
    for episode in episodes:
        by_run.setdefault((episode.policy, episode.task, episode.training_seed), []).append(episode)
    whole: Kept = {}
    for task in asked.tasks:
        for seed in asked.training_seeds:
            for policy in _named(asked, seed):
                wanted = {
                    (cell.shift, cell.severity, FIRST_SEED + i)
                    for cell in _grid(asked, [policy], task, "cpu").cells()
                    for i in range(cell.episodes)
                }
                there = by_run.get((policy.name, resolve_task(task), seed), [])
                if wanted <= {(e.shift, e.severity, e.seed) for e in there}:
                    whole[policy.name, task, seed] = there
    return whole


def _missing(asked: Round, kept: Kept) -> Missing:
    lacking: Missing = {}
    for seed in asked.training_seeds:
        names = [policy.name for policy in _named(asked, seed)]
        for task in asked.tasks:
            left = [name for name in names if (name, task, seed) not in kept]
            if left:
                lacking[task, seed] = left
    return lacking


def _claim(asked: Round, work: Path, task: str, seed: int, missing: Sequence[str]) -> None:
    """Notes beside each checkpoint of the missing policies what it is of.

    Raises:
        UserError: there is one of an arm that was declared otherwise.
    """
    for arm in asked.arms:
        if arm.name not in missing:
            continue
        of = asked.weights_of(arm)
        made = {"steps": asked.steps_of(of), **asked.train_flags(of), "acts": arm.policy if arm.weights else {}}
        checkpoints = _trained(work, arm, task, seed)
        note = checkpoints.with_name(f"{checkpoints.name}.json")
        if note.exists() and read_json(note) != made:
            raise UserError(
                f"{checkpoints} is of an arm {arm.name} that was declared otherwise (see {note.name} beside it); give "
                "the arm another name, or delete both"
            )
        write_json(note, made)


def _untrained(asked: Round, work: Path, missing: Missing) -> list[Training]:
    """What has yet to be trained for the missing policies, in their order."""
    found = []
    for (task, seed), lacking in missing.items():
        for arm in asked.trained:
            shown = {other.name for other in asked.arms if arm.name in (other.name, other.weights)}
            if shown & {*lacking} and not _is_trained(asked, work, (arm, task, seed)):
                found.append((arm, task, seed))
    return found


def _all(kept: Kept, asked: Round, work: Path) -> list[Episode]:
    """Every finished episode, task by task: of earlier machines and of this one."""
    found = []
    for task in asked.tasks:
        for (_, of, _), episodes in kept.items():
            found += episodes if of == task else []
        if _bench(work, task).exists():
            done = open_results(_bench(work, task)).episodes
            found += [e for e in done if (e.policy, task, e.training_seed) not in kept]
    return found


def _train(asked: Round, work: Path, device: str, training: Training) -> float:
    """One training, and the seconds it took; runs in a worker process."""
    arm, task, seed = training
    out = _trained(work, arm, task, seed)
    started = time.monotonic()
    flags = asked.train_flags(arm) | {
        "seed": seed, "save_freq": SAVE_EVERY, "log_freq": 50, "policy.device": device,
    }  # fmt: skip
    dataset = _dataset(work, task)
    train(train_flags(dataset, out, asked.steps_of(arm), **flags), frames_dir=work / "frames", quiet=True)
    last = last_checkpoint(out)
    for checkpoint in (out / "checkpoints").glob("[0-9]*"):
        if checkpoint != last:
            shutil.rmtree(checkpoint)
    return time.monotonic() - started


def _is_trained(asked: Round, work: Path, training: Training) -> bool:
    last = last_checkpoint(_trained(work, *training))
    if last is None or int(last.name) < asked.steps_of(training[0]):
        return False
    point_last(last)  # the run may have been killed just before it did
    return True


def _evaluate(
    asked: Round,
    work: Path,
    task: str,
    seed: int,
    missing: Sequence[str],
    workers: int,
    device: str,
    command: str,
    costs: Costs,
) -> None:
    """The missing policies of one training seed on one task."""
    out = _bench(work, task)
    before = _episodes(out)
    started = time.monotonic()
    arms = [arm for arm in asked.arms if arm.name in missing]
    policies = [Policy(arm.name, _checkpoint(asked, work, arm, task, seed), seed) for arm in arms]
    policies += [control for control in _control(asked, seed) if control.name in missing]
    grid = _grid(asked, policies, task, device)
    give_up(run(grid, out, workers, lambda done, total: None, command=command))
    fresh = _episodes(out) - before
    if fresh:
        costs.evaluated(fresh, time.monotonic() - started, workers)


def _grid(asked: Round, policies: list[Policy], task: str, device: str) -> Plan:
    return make_plan(
        policies,
        [task],
        asked.factors,
        asked.severities,
        where_possible=True,
        episodes=asked.episodes,
        clean_episodes=asked.clean_episodes,
        max_steps=asked.max_steps,
        films=0,
        device=device,
    )


def _checkpoint(asked: Round, work: Path, arm: Arm, task: str, seed: int) -> Path:
    """What an arm acts with: its own training, or another's weights under its own configuration."""
    if arm.weights is None:
        return _trained(work, arm, task, seed)
    out = _trained(work, arm, task, seed)
    if not out.exists():
        source = checkpoint_folder(_trained(work, asked.weights_of(arm), task, seed))
        with replacing_folder(out) as part:
            shutil.copytree(source, part, dirs_exist_ok=True)
            coupling = {} if "coupling" in arm.policy else {"coupling": arm.name}
            config = read_json(source / "config.json")
            known = config.keys() | {field.name for field in fields(DAPConfig)}  # some came after the checkpoint
            unknown = sorted(arm.policy.keys() - known)
            if unknown:
                raise UserError(f"arm {arm.name} sets policy.{unknown[0]}, which there is not")
            write_json(part / "config.json", config | coupling | arm.policy)
    return out


def _episodes(out: Path) -> int:
    return len(open_results(out).episodes) if (out / "plan.json").exists() else 0


def _to_do(asked: Round, work: Path, workers: int, kept: Kept) -> str:
    costs = Costs(work / "costs.jsonl")
    trainings = len(asked.training_seeds) * len(asked.trained) * len(asked.tasks)
    left = _untrained(asked, work, _missing(asked, kept))
    lines = [f"{len(left)} of {trainings} trainings to do"]
    seconds = 0.0
    for arm in asked.trained:
        each_one = costs.training(arm.kind, asked.steps_of(arm))
        number = sum(training[0] is arm for training in left)
        seconds += number * each_one
        lines.append(f"  {arm.name}: {number} x {asked.steps_of(arm)} steps, {each_one / 60:.1f} min")
    planned = _planned(asked)
    episodes = planned - len(_all(kept, asked, work))
    rate = costs.episodes_per_second()
    seconds += episodes / rate
    lines.append(f"{episodes} of {planned} episodes to do, at {rate:.1f} a second and process")
    lines.append(f"about {seconds / workers / 3600:.1f} h with {workers} at once ({costs.source})")
    return "\n".join(lines)


def _planned(asked: Round) -> int:
    """Episodes of the whole round; nothing need be trained to count them."""
    grids = [
        _grid(asked, _named(asked, seed), task, "cpu") for task in asked.tasks for seed in asked.training_seeds
    ]
    return sum(cell.episodes for grid in grids for cell in grid.cells())


def _named(asked: Round, seed: int) -> list[Policy]:
    """The policies of one training seed by their names alone."""
    return [*(Policy(arm.name, Path(arm.name), seed) for arm in asked.arms), *_control(asked, seed)]


def _control(asked: Round, seed: int) -> list[Policy]:
    """The scripted expert, beside the first training seed."""
    return [Policy(EXPERT, None, seed)] if asked.expert and seed == asked.training_seeds[0] else []


def _dataset(work: Path, task: str) -> Path:
    return work / "data" / task


def _trained(work: Path, arm: Arm, task: str, seed: int) -> Path:
    return work / "train" / f"{task}-{arm.name}-{seed}"


def _bench(work: Path, task: str) -> Path:
    return work / "bench" / task


def _command(declared: Path) -> str:
    """As the user typed it, without the places of this machine."""
    name = declared.name if declared.is_absolute() else str(declared)
    return shlex.join(["python", "benchmarks/method/rounds.py", name])


if __name__ == "__main__":
    typer.run(main)

"""The ground: for each Meta-World task, what the expert, a policy that sees nothing, and plain flow matching achieve.

One `none` policy a task and number of demonstrations, one training seed, final checkpoint, held-out seeds. `blind` is
the trained policy with its images blacked out: a task on which it succeeds cannot show what an image is good for.
Finished tasks are kept in ground.json, and as a table in ground.md, as they come; started again, the script goes on
with the next one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from filelock import FileLock

sys.path.insert(0, str(Path(__file__).parents[1]))
import ground_table
from measuring import machine, train_flags

from lerobot_policy_dap.bench.episodes import Episode
from lerobot_policy_dap.bench.plan import Policy, make_plan
from lerobot_policy_dap.bench.run import give_up, run, versions
from lerobot_policy_dap.bench.statistics import wilson
from lerobot_policy_dap.bench.store import open_results
from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.files import read_json, write_json
from lerobot_policy_dap.processes import each
from lerobot_policy_dap.train.command import run as train
from lerobot_policy_dap.train.request import last_checkpoint
from lerobot_policy_dap.worlds.collect import CollectRequest, collect
from lerobot_policy_dap.worlds.tasks import difficulty, resolve_task, tasks

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "ground.json"


def main(
    only: Annotated[str, typer.Option("--tasks", help="Separated by commas; all 50 if not given.")] = "",
    data: Annotated[Path, typer.Option(help="Folder for datasets, checkpoints and rows.")] = Path(
        "outputs/ground"
    ),
    demos: str = "25,50",
    steps: int = ground_table.STEPS,
    episodes: int = 50,
    workers: int = 1,
) -> None:
    """Measure every task that is not in ground.json yet with such a training."""
    numbers = [int(n) for n in demos.split(",")]
    data.mkdir(parents=True, exist_ok=True)
    for name in only.split(",") if only else tasks():
        task = resolve_task(name).removesuffix("-v3")
        training = {"task": task, "steps": steps, "policy": ground_table.POLICY}
        if any(row.items() >= training.items() for row in _table()["rows"]):
            continue
        print(task, flush=True)
        try:
            row = training | _measure(task, numbers, data, steps, episodes, workers)
        except UserError as error:  # one task's failure is a row too
            row = training | {"error": str(error).strip().splitlines()[-1]}
        print(json.dumps(row), flush=True)
        # The versions decide what an episode does; the machine does not, so several may fill one table.
        made = {"episodes": episodes, "max_steps": 300, "image": 84, "versions": versions()}
        with FileLock(data / "ground.lock"):  # another process may measure other tasks
            table = _table()
            rows = sorted([*table["rows"], row | {"hardware": machine()}], key=lambda r: (r["task"], r["steps"]))
            table |= made | {"rows": rows}
            write_json(RESULTS, table)
            ground_table.write(table, steps, numbers)


def _table() -> dict[str, Any]:
    """What has been measured so far."""
    return read_json(RESULTS) if RESULTS.exists() else {"rows": []}


def _measure(task: str, numbers: list[int], data: Path, steps: int, episodes: int, workers: int) -> dict[str, Any]:
    dataset = data / f"{task}-{max(numbers)}"
    collect(CollectRequest(task, max(numbers)), dataset, lambda what, done, total: None, workers)
    trained = {n: data / "train" / ground_table.LABEL / f"{task}-{n}-{steps}" for n in numbers}
    for _ in each(partial(_train, dataset, steps), trained.items(), workers):
        pass
    policies = [*(Policy(f"none-{n}", folder) for n, folder in trained.items()), Policy("expert", None)]
    out = data / "bench" / ground_table.LABEL / f"{task}-{steps}"
    plan = make_plan(policies, [task], [], [], episodes=episodes, clean_episodes=episodes, max_steps=300, films=0)
    give_up(run(plan, out, workers, lambda done, total: None))
    done = open_results(out).episodes
    row: dict[str, Any] = {"difficulty": difficulty(f"{task}-v3")}
    row["expert"] = _cell(e for e in done if e.policy == "expert" and e.shift == "none")
    for n in numbers:
        for shift, label in (("none", f"none, {n}"), ("blind", f"blind, {n}")):
            row[label] = _cell(e for e in done if e.policy == f"none-{n}" and e.shift == shift)
    return row


def _train(dataset: Path, steps: int, asked: tuple[int, Path]) -> None:
    """One policy on the first demonstrations; runs in a worker process."""
    n, out = asked
    if checkpoint_of(out, steps):
        return
    flags = {f"policy.{option}": value for option, value in ground_table.POLICY.items()}
    flags |= {"save_freq": steps, "dataset.episodes": json.dumps(list(range(n))).replace(" ", "")}
    train(train_flags(dataset, out, steps, **flags), frames_dir=dataset.parent / "frames", quiet=True)


def checkpoint_of(folder: Path, steps: int) -> Path | None:
    """The run's checkpoint after `steps` steps, if it has come so far."""
    last = last_checkpoint(folder)
    return last if last is not None and int(last.name) >= steps else None


def _cell(episodes: Iterable[Episode]) -> dict[str, float]:
    won = [e.success for e in episodes]
    limits = wilson(sum(won), len(won))
    return {
        "successes": sum(won),
        "episodes": len(won),
        "low": round(limits.low, 3),
        "high": round(limits.high, 3),
    }


if __name__ == "__main__":
    typer.run(main)

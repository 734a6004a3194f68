"""What a monitor notices: false alarms on clean successes, failures, and shift, by score; three Meta-World tasks.

Two steps. The first rolls a two_way policy out and keeps what it told of every chunk, a file a unit of ten episodes:
clean episodes to calibrate on, other clean ones, and every factor at two severities. The second fits, calibrates and
judges all scores on the same episodes. Started again, the script rolls out only what is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).parent))
from measuring import demonstrations, report, train_flags
from monitor_figures import Rollout, figures

from lerobot_policy_dap.bench.policies import Planner, environment_for
from lerobot_policy_dap.bench.rollout import roll_out
from lerobot_policy_dap.bench.watching import Recorder
from lerobot_policy_dap.checkpoints import checkpoint_folder
from lerobot_policy_dap.files import replacing_file
from lerobot_policy_dap.monitor.demonstrations import read_demonstrations
from lerobot_policy_dap.monitor.scores import Plan
from lerobot_policy_dap.monitor.signals import Signal, Signals
from lerobot_policy_dap.processes import each
from lerobot_policy_dap.train.command import run as train
from lerobot_policy_dap.train.request import last_checkpoint
from lerobot_policy_dap.worlds.shifts import CLEAN, SHIFTS
from lerobot_policy_dap.worlds.world import World, supports

MAX_STEPS = 300
BATCH = 10
CALIBRATION_SEED, TEST_SEED = 20_000, 10_000
KINDS = frozenset(Signal)


class Unit(NamedTuple):
    """Some episodes of one condition."""

    task: str
    checkpoint: Path
    shift: str
    severity: int
    first_seed: int
    count: int

    def file(self, data: Path) -> Path:
        return data / "signals" / self.task / f"{self.shift}-{self.severity}-{self.first_seed}-{self.count}.npz"


def main(
    tasks: str = "drawer-open,hammer,coffee-push",
    data: Annotated[Path, typer.Option(help="Folder for datasets, checkpoints and signals.")] = Path(
        "outputs/monitor"
    ),
    demos: int = 50,
    steps: int = 1500,
    clean: Annotated[int, typer.Option(help="Clean episodes a task, to calibrate on and again to judge.")] = 150,
    episodes: Annotated[int, typer.Option(help="Of a shifted condition.")] = 20,
    severities: str = "2,4",
    workers: int = 2,
    judge: Annotated[bool, typer.Option(help="Whether to write the result.")] = True,
) -> None:
    """Roll out what is missing, and judge."""
    names = tasks.split(",")
    checkpoints = {task: _trained(task, data, demos, steps) for task in names}
    levels = [int(level) for level in severities.split(",")]
    units = list(_units(checkpoints, clean, episodes, levels))
    todo = [unit for unit in units if not unit.file(data).exists()]
    for done, _ in enumerate(each(partial(_record, data=data), todo, workers), start=1):
        print(f"{done} of {len(todo)} units", flush=True)
    if not judge:
        return
    found = {task: [_read(unit, data) for unit in units if unit.task == task] for task in names}
    rows, more = figures(
        {
            task: (_demonstrations(checkpoints[task], data / f"{task}-{demos}"), _flat(found[task], CALIBRATION_SEED),
                   _flat(found[task], TEST_SEED))
            for task in names
        }
    )  # fmt: skip
    report("monitor", "A monitor at 5 % false alarms an episode: what it notices, by score", rows, **more)


def _trained(task: str, data: Path, demos: int, steps: int) -> Path:
    out = data / "train" / f"{task}-two_way-{steps}"
    last = last_checkpoint(out)
    if last is None or int(last.name) < steps:
        dataset = demonstrations(task, demos, data)
        flags = {"policy.coupling": "two_way", "policy.outcome_offsets": "[8,16]", "save_freq": steps}
        train(train_flags(dataset, out, steps, **flags), frames_dir=data / "frames", quiet=True)
    return checkpoint_folder(out)


def _units(checkpoints: dict[str, Path], clean: int, episodes: int, levels: Sequence[int]) -> Iterator[Unit]:
    """Clean ones first, and task by task within a factor: what is there early says something of all tasks."""
    for first in (CALIBRATION_SEED, TEST_SEED):
        for task, checkpoint in checkpoints.items():
            for start in range(0, clean, BATCH):
                yield Unit(task, checkpoint, CLEAN, 0, first + start, min(BATCH, clean - start))
    for level in reversed(levels):
        for shift in SHIFTS:
            for task, checkpoint in checkpoints.items():
                if supports(task, shift) is None:
                    for start in range(0, episodes, BATCH):
                        count = min(BATCH, episodes - start)
                        yield Unit(task, checkpoint, shift, level, TEST_SEED + start, count)


@lru_cache(maxsize=1)
def _actor(task: str, checkpoint: Path) -> tuple[Planner, list[World]]:
    env = environment_for(checkpoint, task, MAX_STEPS)
    return Planner(checkpoint, env), [World(task, env.cameras, env.settings) for _ in range(BATCH)]


def _record(unit: Unit, data: Path) -> None:
    """Rolls one unit out, in a worker process."""
    planner, worlds = _actor(unit.task, unit.checkpoint)
    worlds = worlds[: unit.count]
    for world in worlds:
        world.set_shift(unit.shift, unit.severity)
    recorder = Recorder(KINDS)
    seeds = range(unit.first_seed, unit.first_seed + unit.count)
    outcomes, _ = roll_out(planner, worlds, seeds, MAX_STEPS, False, recorder)
    plans = [(row, plan) for row in range(unit.count) for plan in recorder.plans[row]]
    with replacing_file(unit.file(data)) as part, part.open("wb") as file:
        np.savez(
            file,
            row=np.array([row for row, _ in plans]),
            step=np.array([plan.step for _, plan in plans]),
            success=np.array([outcome.success for outcome in outcomes]),
            length=np.array([outcome.steps for outcome in outcomes]),
            **{
                name: np.stack([getattr(plan.signals, name) for _, plan in plans])
                for name in Signals._fields
            },
        )  # fmt: skip


def _read(unit: Unit, data: Path) -> list[Rollout]:
    with np.load(unit.file(data)) as kept:
        arrays: dict[str, Any] = dict(kept)
    plans: list[list[Plan]] = [[] for _ in range(unit.count)]
    for i, (row, step) in enumerate(zip(arrays["row"], arrays["step"], strict=True)):
        plans[row].append(Plan(int(step), Signals(*(arrays[name][i] for name in Signals._fields))))
    return [
        Rollout(unit.shift, unit.severity, unit.first_seed + row, bool(success), int(length), plans[row])
        for row, (success, length) in enumerate(zip(arrays["success"], arrays["length"], strict=True))
    ]


def _flat(units: Sequence[Sequence[Rollout]], first_seed: int) -> list[Rollout]:
    """Those whose seeds begin at `first_seed`."""
    return [rollout for unit in units for rollout in unit if 0 <= rollout.seed - first_seed < 10_000]


def _demonstrations(checkpoint: Path, dataset: Path) -> tuple[list[list[Plan]], tuple[int, ...]]:
    """What scores are fitted to, and the policy's offsets."""
    planner = Planner(checkpoint, environment_for(checkpoint, dataset.name.rpartition("-")[0], MAX_STEPS))
    read = read_demonstrations(planner.policy, planner.preprocess, dataset, None, KINDS, lambda done, total: None)
    return list(read), planner.config.outcome_offsets


if __name__ == "__main__":
    typer.run(main)

"""`dap demo`: from demonstrations to a robustness report, in one command."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from .bench.episodes import write_episodes
from .bench.plan import Plan, Policy, make_plan
from .bench.present import present
from .bench.run import give_up, run, versions
from .bench.store import open_results
from .files import claim_folder
from .processes import default_device, default_workers, each
from .progress import StageTimes, bars, console
from .train.checkpoint import point_last
from .train.request import LOG_FILE, last_checkpoint
from .worlds.collect import CollectRequest, collect
from .worlds.tasks import resolve_task

ARMS = ("none", "two_way")
_LOG_EVERY = 25


@dataclass(frozen=True)
class Demo:
    """What the demonstration does. The defaults take four to eleven minutes on two cores."""

    task: str = "drawer-open"
    demonstrations: int = 40
    steps: int = 1500
    batch_size: int = 64
    train_seed: int = 1000
    shifts: tuple[str, ...] = ("light_intensity", "light_direction", "table_color", "object_color", "distractors")
    severities: tuple[int, ...] = (2, 4)
    episodes: int = 20
    clean_episodes: int = 50
    max_steps: int = 300


def demo(asked: Demo, out: Path, workers: int | None = None) -> Path:
    """Collects, trains both arms, evaluates them, and returns the path of the report.

    Interrupted anywhere and started again, it goes on where it was; finished, it does nothing.

    Raises:
        UserError: `out` holds something else, or bad input.
    """
    workers = workers or default_workers()
    resolve_task(asked.task)
    plan = _plan(asked, out)
    claim_folder(out, "demo.json", {**asdict(asked), "versions": versions()}, "a demo")
    report = out / "report.html"
    times = StageTimes(out / "stages.json")
    if report.exists():
        console.print(f"finished before; delete {out} to start afresh. Then it took:")
        times.print()
        return report
    with bars() as bar:
        with times.stage("collect"):
            collect(CollectRequest(asked.task, asked.demonstrations), out / "data" / asked.task, bar, workers)
        with times.stage("train"):
            _train(asked, out, workers, bar)
        with times.stage("evaluate"):
            give_up(run(plan, out / "eval", workers, partial(bar, "evaluating"), command="dap demo"))
        with times.stage("report"):
            write_episodes(out / "episodes.parquet", open_results(out / "eval").episodes)
            present(
                out / "eval",
                report,
                title=f"{asked.task} under visual shift: plain flow matching and DAP",
                command="dap demo",
                stages=times.rows(),
                numbers=out / "results.json",
                workers=workers,
            )
    times.print()
    return report


def _plan(asked: Demo, out: Path) -> Plan:
    return make_plan(
        [Policy(arm, out / "train" / arm) for arm in ARMS],
        [asked.task],
        asked.shifts,
        asked.severities,
        episodes=asked.episodes,
        clean_episodes=asked.clean_episodes,
        max_steps=asked.max_steps,
        device=default_device(),
    )


def _train(asked: Demo, out: Path, workers: int, bar: Callable[[str, int, int], None]) -> None:
    """Both arms side by side, with one budget, where there are cores for both."""
    side_by_side = min(workers, len(ARMS))
    with _watched(asked, out, bar):
        for _ in each(partial(_train_arm, asked, out), ARMS, side_by_side, max(1, workers // side_by_side)):
            pass


def _train_arm(asked: Demo, out: Path, arm: str) -> None:
    """Trains one arm; runs in a worker process."""
    from .train.command import run as train

    folder = out / "train" / arm
    last = last_checkpoint(folder)
    if last is not None and int(last.name) >= asked.steps:
        point_last(last)  # the run may have been killed just before it did
        return
    data = out / "data" / asked.task
    train(
        [
            f"--dataset.repo_id=local/{asked.task}",
            f"--dataset.root={data}",
            "--policy.type=dap",
            f"--policy.coupling={arm}",
            f"--policy.device={default_device()}",
            "--policy.push_to_hub=false",
            f"--output_dir={folder}",
            f"--seed={asked.train_seed}",
            f"--batch_size={asked.batch_size}",
            f"--steps={asked.steps}",
            f"--save_freq={max(1, asked.steps // 5)}",
            f"--log_freq={_LOG_EVERY}",
        ],
        frames_dir=out / "frames",
        quiet=True,
    )


@contextmanager
def _watched(asked: Demo, out: Path, bar: Callable[[str, int, int], None]) -> Iterator[None]:
    """Moves a bar for each arm by what its log says, while the block runs."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(1.0):
            show()

    def show() -> None:
        for arm in ARMS:
            log = out / "train" / arm / LOG_FILE
            lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
            step = json.loads(lines[-1])["step"] if lines and lines[-1].endswith("}") else 0
            bar(f"training {arm}", step, asked.steps)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
        show()
    finally:
        over.set()
        watcher.join()

"""Evaluation episodes per second: `dap eval`'s runner against `lerobot-eval`; and 2 workers against 1.

The same checkpoint, task, image size, seeds and step limit. `lerobot-eval` is given the same environment
(`--env.type=metaworld_shift`) and reports its own seconds, without its imports; ours are those of the whole
run of the plan, with the start of its workers and the making of their worlds, but without the imports that a
process pays once.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from measuring import demonstrations, report, run, train_flags

from lerobot_policy_dap.bench.plan import Policy, make_plan
from lerobot_policy_dap.bench.run import run as run_plan
from lerobot_policy_dap.bench.store import open_results

TASK = "drawer-open"


def main(
    data: Annotated[Path, typer.Option(help="Folder for dataset and checkpoint.")] = Path("outputs/benchmarks"),
    steps: Annotated[int, typer.Option(help="Training steps of the checkpoint.")] = 1500,
    episodes: int = 150,
    lerobot_episodes: int = 10,
    repeats: int = 3,
) -> None:
    checkpoint = data / f"{TASK}-two_way-{steps}"
    run(
        "dap", "train", *train_flags(demonstrations(TASK, 50, data), checkpoint, steps, save_freq=steps),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        theirs = Path(scratch) / "lerobot"
        run(
            "lerobot-eval",
            f"--policy.path={checkpoint / 'checkpoints/last/pretrained_model'}",
            "--policy.device=cpu",
            "--env.type=metaworld_shift",
            f"--env.task={TASK}",
            "--env.episode_length=300",
            f"--eval.n_episodes={lerobot_episodes}",
            f"--eval.batch_size={lerobot_episodes}",
            "--eval.use_async_envs=false",
            "--seed=10000",
            f"--output_dir={theirs}",
        )
        info = json.loads((theirs / "eval_info.json").read_text(encoding="utf-8"))["overall"]
        speed = {"lerobot-eval": 1 / info["eval_ep_s"]}
        success = {"lerobot-eval": f"{info['pc_success']:.0f} %"}
        plan = make_plan(
            [Policy("dap", checkpoint)], [TASK], [], [],
            episodes=episodes, clean_episodes=episodes, max_steps=300, films=0,
        )  # fmt: skip
        rates: dict[int, list[float]] = {1: [], 2: []}
        for repeat in range(repeats):
            for workers, seen in rates.items():
                out = Path(scratch) / f"{workers}-{repeat}"
                started = time.perf_counter()
                run_plan(plan, out, workers, lambda done, total: None)
                spent = time.perf_counter() - started
                rows = open_results(out).episodes
                seen.append(len(rows) / spent)
                clean = [row.success for row in rows if row.shift == "none"]
                success[_label(workers)] = f"{100 * sum(clean) / len(clean):.0f} %"
    speed |= {_label(workers): statistics.median(seen) for workers, seen in rates.items()}
    base = speed["lerobot-eval"]
    report(
        "evaluation",
        f"Evaluation of one checkpoint on {TASK}: episodes per second",
        [
            {"runner": name, "episodes/s": rate, "ratio": f"{rate / base:.1f}x", "clean success": success[name]}
            for name, rate in speed.items()
        ],
        two_workers_against_one=round(speed[_label(2)] / speed[_label(1)], 3),
        episodes_per_s_by_workers={str(workers): seen for workers, seen in rates.items()},
    )


def _label(workers: int) -> str:
    return f"dap, {workers} worker{'s' if workers > 1 else ''}"


if __name__ == "__main__":
    typer.run(main)

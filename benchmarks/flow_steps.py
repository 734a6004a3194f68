"""Success at K flow steps against K = 10: the same weights, the same held-out seeds, several tasks.

Trains one `two_way` policy a task (final checkpoint), copies its checkpoint with other values of
`num_inference_steps`, and evaluates the copies on clean episodes. Differences are paired over seeds; the interval
over tasks and episodes together takes each (task, seed) as one pair.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer
from measuring import demonstrations, report, run, train_flags

from lerobot_policy_dap.bench.plan import Policy, make_plan
from lerobot_policy_dap.bench.run import run as run_plan
from lerobot_policy_dap.bench.statistics import paired_difference, wilson
from lerobot_policy_dap.bench.store import open_results
from lerobot_policy_dap.checkpoints import checkpoint_folder
from lerobot_policy_dap.files import read_json, write_json
from lerobot_policy_dap.processes import default_workers


def main(
    tasks: Annotated[str, typer.Option(help="Separated by commas.")] = "drawer-open,hammer,sweep-into",
    data: Annotated[Path, typer.Option(help="Folder for datasets and checkpoints.")] = Path("outputs/benchmarks"),
    steps: Annotated[int, typer.Option(help="Training steps.")] = 2000,
    episodes: int = 100,
    flow_steps: str = "1,2,4,10",
) -> None:
    ks = [int(k) for k in flow_steps.split(",")]
    won: dict[int, dict[tuple[str, int], bool]] = {k: {} for k in ks}
    rows = []
    for task in tasks.split(","):
        trained = data / f"{task}-two_way-{steps}"
        run("dap", "train", *train_flags(demonstrations(task, 50, data), trained, steps, save_freq=steps))
        policies = [Policy(f"K{k}", _with_steps(trained, k, data)) for k in ks]
        plan = make_plan(
            policies, [task], [], [], episodes=1, clean_episodes=episodes, max_steps=300, films=0,
        )  # fmt: skip
        out = data / f"flow-steps-{task}-{steps}"
        run_plan(plan, out, default_workers(), _say)
        done = open_results(out).episodes
        for k in ks:
            own = {r.seed: r.success for r in done if r.policy == f"K{k}" and r.shift == "none"}
            won[k] |= {(task, seed): success for seed, success in own.items()}
            rows.append(_row(task, k, sum(own.values()), len(own)))
    reference = won[max(ks)]
    for k in ks:
        row = _row("all", k, sum(won[k].values()), len(won[k]))
        difference = paired_difference([won[k][key] for key in reference], list(reference.values()))
        row["against K = 10, points"] = (
            f"{100 * difference.estimate:+.1f} [{100 * difference.low:.1f}, {100 * difference.high:.1f}]"
        )
        rows.append(row)
    columns = {name: "" for row in rows for name in row}
    report("flow_steps", "Success by flow steps K", [{**columns, **row} for row in rows], training_steps=steps)


def _row(task: str, k: int, successes: int, n: int) -> dict[str, object]:
    limits = wilson(successes, n)
    interval = f"[{100 * limits.low:.0f}, {100 * limits.high:.0f}]"
    return {"task": task, "K": k, "success": f"{successes}/{n}", "95 % interval": interval}


def _with_steps(trained: Path, k: int, data: Path) -> Path:
    """A copy of the last checkpoint that generates with K steps."""
    out = data / f"{trained.name}-K{k}"
    if not out.exists():
        shutil.copytree(checkpoint_folder(trained), out)
        write_json(out / "config.json", {**read_json(out / "config.json"), "num_inference_steps": k})
    return out


def _say(done: int, total: int) -> None:
    print(f"\r{done}/{total} episodes", end="" if done < total else "\n", flush=True)


if __name__ == "__main__":
    typer.run(main)

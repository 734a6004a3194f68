"""Real-time chunks against fresh ones: success, and the jump of the action where a new chunk takes over.

The world goes on while a chunk is planned: with a delay of d, a plan asked for at one step is executed from d steps
later on, and until then the arm lives on what is left of the last chunk. A fresh chunk knows nothing of that left-over,
a real-time chunk continues it. Held-out episodes, the same seeds for both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from measuring import demonstrations, report, run, train_flags

from lerobot_policy_dap.bench.plan import FIRST_SEED
from lerobot_policy_dap.bench.policies import Planner, environment_for
from lerobot_policy_dap.bench.statistics import wilson
from lerobot_policy_dap.checkpoints import checkpoint_folder
from lerobot_policy_dap.worlds.world import World

MOST_STEPS = 300


def main(
    task: str = "drawer-open",
    data: Annotated[Path, typer.Option(help="Folder for dataset and checkpoint.")] = Path("outputs/benchmarks"),
    steps: Annotated[int, typer.Option(help="Training steps.")] = 1500,
    every: Annotated[int, typer.Option(help="Control steps from one plan to the next.")] = 6,
    delays: str = "0,2,4",
    episodes: int = 50,
) -> None:
    """Train one policy, drive it both ways."""
    trained = data / f"{task}-two_way-{steps}"
    run("dap", "train", *train_flags(demonstrations(task, 50, data), trained, steps, save_freq=steps))
    folder = checkpoint_folder(trained)
    env = environment_for(folder, task, MOST_STEPS)
    planner = Planner(folder, env)
    rows = []
    for delay in map(int, delays.split(",")):
        for real_time in (False, True):
            done = [
                _drive(planner, World(task, planner.cameras, env.settings), seed, delay, every, real_time)
                for seed in range(FIRST_SEED, FIRST_SEED + episodes)
            ]
            won = sum(success for success, _ in done)
            limits = wilson(won, episodes)
            rows.append(
                {
                    "delay, steps": delay,
                    "chunks": "real-time" if real_time else "fresh",
                    "success": f"{won}/{episodes}",
                    "95 % interval": f"[{100 * limits.low:.0f}, {100 * limits.high:.0f}]",
                    "jump": f"{np.mean([jump for _, jumps in done for jump in jumps]):.3f}",
                }
            )
            print(rows[-1], flush=True)
    report("realtime", "Real-time chunks against fresh ones", rows, task=task, planned_every=every)


@torch.inference_mode()
def _drive(
    planner: Planner, world: World, seed: int, delay: int, every: int, real_time: bool
) -> tuple[bool, list[float]]:
    """Whether the episode succeeded, and the mean change of the action, in the robot's units, at each new chunk."""

    def chunk(**guidance: Any) -> torch.Tensor:
        batch = planner.preprocess(planner.observe([world], [True]))
        planned: torch.Tensor = planner.policy.predict_action_chunk(batch, **guidance)
        return planned[0]

    world.reset(seed)
    planner.reset([seed])
    plan, at, coming, last = chunk(), 0, None, None
    jumps: list[float] = []
    for step in range(MOST_STEPS):
        if coming is None and at >= every:
            guidance = {"inference_delay": delay, "prev_chunk_left_over": plan[at:]} if real_time else {}
            coming = (step + delay, chunk(**guidance))
        arrives = coming is not None and coming[0] == step
        if coming is not None and arrives:
            plan, at, coming = coming[1], delay, None
        action = planner.postprocess(plan[min(at, len(plan) - 1)].unsqueeze(0))[0].numpy()
        if arrives and last is not None:
            jumps.append(float(np.abs(action - last).mean()))
        last, at = action, at + 1
        if world.step(action).success:
            return True, jumps
    return False, jumps


if __name__ == "__main__":
    typer.run(main)

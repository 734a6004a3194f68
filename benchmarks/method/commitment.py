"""Whether a policy that was shown two ways takes one of them, or goes between: on held-out episodes as they begin.

    python benchmarks/method/commitment.py CHECKPOINT ... --task push

For policies that learned from demonstrations with a detour (`dap collect --detour`). For the first frame of each
episode, the way across of many chunks is compared with that of the expert by the right (1) and by the left (-1):

    between    share of the chunks that end less than half as far to either side as the expert
    right      share of the others that go to the right
    way        mean of their way across, to the side to which they go
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from lerobot_policy_dap.bench.plan import FIRST_SEED
from lerobot_policy_dap.bench.policies import Planner, environment_for
from lerobot_policy_dap.checkpoints import checkpoint_folder
from lerobot_policy_dap.worlds.record import by_way_of, record
from lerobot_policy_dap.worlds.tasks import expert, resolve_task
from lerobot_policy_dap.worlds.world import MAX_STEPS, World

X = 0


def main(
    checkpoints: Annotated[list[Path], typer.Argument(help="Checkpoints or training runs.")],
    task: Annotated[str, typer.Option(help="Meta-World task.")],
    detour: Annotated[float, typer.Option(help="Of the demonstrations, metres.")] = 0.15,
    episodes: Annotated[int, typer.Option(help="Held-out episodes, from the first on.")] = 20,
    draws: Annotated[int, typer.Option(help="Chunks an episode.")] = 64,
    steps: Annotated[str, typer.Option(help="Flow steps K, separated by commas.")] = "1,2,4,10",
) -> None:
    """Print a row a checkpoint and number of flow steps."""
    counts = [int(k) for k in steps.split(",")]
    table = Table("checkpoint", "K", "between", "right", "way", box=None)
    for path in checkpoints:
        for k, ways in zip(counts, look(path, task, detour, episodes, draws, counts), strict=True):
            decided = ways[np.abs(ways) >= 0.5]
            figures = (np.mean(np.abs(ways) < 0.5), np.mean(decided > 0), np.mean(np.abs(decided)))
            table.add_row(path.name, str(k), *(f"{figure:.2f}" for figure in figures))
    Console(width=120).print(table)


def look(
    path: Path, task: str, detour: float, episodes: int, draws: int, counts: list[int]
) -> list[NDArray[np.float64]]:
    """The ways `[episodes * draws]` of a checkpoint's chunks, of each number of flow steps."""
    folder = checkpoint_folder(path)
    task = resolve_task(task)
    env = environment_for(folder, task, MAX_STEPS)
    planner = Planner(folder, env)
    world = World(task, env.cameras, env.settings)
    ways: list[list[float]] = [[] for _ in counts]
    for seed in range(FIRST_SEED, FIRST_SEED + episodes):
        sides = [
            record(world, by_way_of(expert(task), side), seed, planner.config.n_action_steps).action[:, X].sum()
            for side in (detour, -detour)
        ]
        world.reset(seed)
        shown = planner.observe([world] * draws, [True] * draws)
        for k, found in zip(counts, ways, strict=True):
            planner.config.num_inference_steps = k
            planner.reset([seed])
            across = np.clip(planner.plan(shown), -1, 1)[:, :, X].sum(axis=1)
            found.extend((across - np.mean(sides)) / (np.ptp(sides) / 2))
    return [np.array(found) for found in ways]


if __name__ == "__main__":
    typer.run(main)

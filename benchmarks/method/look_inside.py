"""What the two models of a trained checkpoint know, and what they do to each other, on demonstrations it has not seen.

For every eighth frame of the held-out episodes, with the same noise for all comparisons:

    skill      1 - error of the outcome expected of the demonstrated chunk / error of "nothing changes"
    gain       error of the outcome expected of another frame's chunk / error given the demonstrated one
    moved      root mean square change of the estimated chunk between flow steps, in normalised actions
    feedback   root mean square difference between the chunks with and without feedback, same weights and noise
    one way    the same between chunks whose dynamics sees â and the draft alone (`coupling=one_way`)
    spread     root mean square deviation of chunks of one frame over eight draws of noise
    action     root mean square error of the chunk, with and without feedback, against the demonstrated one
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from lerobot.policies import make_pre_post_processors
from lerobot.utils.constants import ACTION
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lerobot_policy_dap import quiet  # noqa: F401
from lerobot_policy_dap.checkpoints import checkpoint_folder, policy_config
from lerobot_policy_dap.data.batches import BatchSource
from lerobot_policy_dap.data.demonstrations import open_dataset
from lerobot_policy_dap.data.frames import FrameStore
from lerobot_policy_dap.modeling_dap import DAPPolicy

DRAWS = 8


def main(
    checkpoints: Annotated[list[Path], typer.Argument(help="Checkpoints or training runs, of any arm but none.")],
    dataset: Annotated[Path, typer.Option(help="Demonstrations that no checkpoint was trained on.")],
    episodes: Annotated[int, typer.Option(help="Episodes to look at, from the first on.")] = 20,
) -> None:
    """Print a row a checkpoint."""
    rows = [{"checkpoint": path.name, **look(path, dataset, episodes)} for path in checkpoints]
    table = Table(*rows[0], box=None)
    for row in rows:
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=160).print(table)


@torch.no_grad()
def look(path: Path, dataset: Path, episodes: int) -> dict[str, float | str]:
    """The figures of one checkpoint."""
    folder = checkpoint_folder(path)
    config = policy_config(folder)
    config.device = "cpu"
    policy = DAPPolicy.from_pretrained(folder, config=config).eval()
    before, _ = make_pre_post_processors(config, pretrained_path=str(folder))
    batch = before(_frames(policy, dataset, episodes))
    whole = ~(batch[f"{ACTION}_is_pad"].any(dim=1) | batch[f"{policy._observing.keys[0]}_is_pad"].any(dim=1))
    batch = {
        key: value[whole] for key, value in batch.items() if isinstance(value, Tensor) and len(value) == len(whole)
    }
    truth = policy._by_offset(policy._outcome(batch, policy.context(batch))[0])
    action = batch[ACTION]
    n = len(action)
    torch.manual_seed(0)
    noise, outcome_noise = torch.randn_like(action), torch.randn(n, *policy.outcome_shape)

    def error(outcome: Tensor) -> float:
        return float((outcome - truth).square().mean())

    expected = error(policy.expected_outcome(batch, action, outcome_noise))
    permuted = error(policy.expected_outcome(batch, action[torch.randperm(n)], outcome_noise))
    unchanged = error(policy.observed_outcome(batch).unsqueeze(1).expand_as(truth))
    draws = torch.stack([policy.generate(batch, torch.randn_like(action)).action for _ in range(DRAWS)])
    with_feedback = policy.generate(batch, noise, outcome_noise)

    def acting_as(coupling: str) -> Tensor:
        config.coupling = coupling
        return policy.generate(batch, noise, outcome_noise).action

    one_way, without = acting_as("one_way"), acting_as("auxiliary")
    moved = with_feedback.estimates.diff(dim=0).square().mean(dim=(1, 2, 3)).sqrt()
    return {
        "skill": 1 - expected / unchanged,
        "gain": permuted / expected,
        "moved": " ".join(f"{float(step):.3f}" for step in moved),
        "feedback": _rms(with_feedback.action - without),
        "one way": _rms(with_feedback.action - one_way),
        "spread": _rms(draws - draws.mean(dim=0)),
        "action": _rms(with_feedback.action - action),
        "action, no feedback": _rms(without - action),
    }


def _rms(difference: Tensor) -> float:
    return float(difference.square().mean().sqrt())


def _frames(policy: DAPPolicy, dataset: Path, episodes: int) -> dict[str, Tensor]:
    """Every eighth frame of the first episodes, with what comes after it."""
    data = open_dataset(dataset)
    cameras = list(policy.config.image_features)
    deltas = dict.fromkeys(policy.config.input_features, policy.config.observation_delta_indices)
    deltas[ACTION] = policy.config.action_delta_indices
    source = BatchSource(data, FrameStore(data, cameras), cameras, deltas)
    last = source.ends[min(episodes, len(source.ends)) - 1]
    batch = source.batch(torch.arange(0, int(last), 8).numpy())
    return {key: value.float() / 255 if key in cameras else value for key, value in batch.items()}


if __name__ == "__main__":
    typer.run(main)

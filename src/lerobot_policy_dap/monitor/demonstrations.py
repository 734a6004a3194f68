"""The signals of recorded episodes: what the policy makes of demonstrations, at the steps at which it would plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.utils.constants import ACTION

from ..data.batches import BatchSource
from ..data.demonstrations import by_imitation, open_dataset
from ..data.frames import FrameStore
from ..data.trained_on import TrainedOn, trained_on
from ..errors import UserError
from ..observing import shown_inputs, spelled_out
from .scores import Plan
from .signals import Signal, read_signals

_BATCH = 32


def check_held_out(
    folder: Path, policy_config: Any, root: Path, episodes: Sequence[int], reference: Path | None = None
) -> str | None:
    """Raises `UserError` if the checkpoint was trained on one of the episodes: it knows those too well.

    Args:
        root: the dataset of the episodes.
        reference: where the training data lies now, if no longer where it was.

    Returns:
        What to see to, where the checkpoint does not tell.
    """
    trained = trained_on(folder)
    if trained is None:
        return f"{folder} does not say what it was trained on: see that these episodes are none of it"
    same = trained.is_at(root)
    if same is None and reference is not None:
        same = reference.resolve() == root.resolve()
    if same is None:
        return (
            f"{folder} was trained on {trained.root or trained.repo_id}, and whether that is {root} cannot be told: "
            "see that these episodes are none of it"
        )
    known = sorted({*episodes} & trained.known(open_dataset(root).meta, policy_config)) if same else []
    if known:
        raise UserError(
            f"{folder} was trained on episode {known[0]} of {root}: calibrate on episodes that it has not seen "
            "(train with --dataset.episodes and leave some out), or on --rollouts"
        )
    return None


def reference_episodes(
    trained: TrainedOn | None,
    policy_config: Any,
    root: Path,
    dataset: Path | None = None,
    calibrating: Sequence[int] = (),
) -> list[int]:
    """The episodes of `root` that a score is fitted to: those of the training, where it has them; all otherwise.

    Args:
        trained: what the checkpoint was trained on; `root` may be a copy of it.
        dataset: the dataset of the episodes that calibrate.
        calibrating: those episodes. To a score that was fitted to them too nothing of them is strange.

    Raises:
        UserError: `root` cannot be read, or no episode is left.
    """
    meta = open_dataset(root).meta
    chosen = list(range(meta.total_episodes))
    if trained is not None and max(trained.episodes or (0,)) < meta.total_episodes:
        chosen = sorted(trained.known(meta, policy_config))
    if dataset is not None and dataset.resolve() == root.resolve():
        chosen = [episode for episode in chosen if episode not in set(calibrating)]
    if not chosen:
        raise UserError(
            f"every episode of {root} calibrates, and none is left that the score could be fitted to: name fewer "
            "with --episodes"
        )
    return chosen


def read_demonstrations(
    policy: Any,
    preprocess: Callable[[dict[str, Any]], dict[str, Any]],
    root: Path,
    episodes: Sequence[int] | None,
    needs: frozenset[Signal],
    report: Callable[[int, int], None],
    frames_dir: Path | None = None,
) -> Iterator[list[Plan]]:
    """The plans of each demonstration of a LeRobotDataset, with the demonstrated chunk in the planned one's place.

    Args:
        policy: a policy that plans from one observation, or a DAP with a history.
        preprocess: its preprocessor.
        episodes: which; all if None. Those that the policy does not imitate (`dynamics_only_tasks`) are left out.
        report: called with the episodes done and the episodes in all, decoding counted.
        frames_dir: where decoded frames are kept.

    Raises:
        UserError: the dataset cannot be read, lacks an episode or a feature of the policy.
    """
    config = policy.config
    dataset = open_dataset(root)
    total = dataset.meta.total_episodes
    chosen = list(range(total)) if episodes is None else list(episodes)
    for episode in chosen:
        if not 0 <= episode < total:
            raise UserError(f"{root} has no episode {episode}; it has {total}, from 0 on")
    chosen, _ = by_imitation(dataset.meta, config, chosen)
    inputs = shown_inputs(config)
    cameras = sorted(inputs.keys() & config.image_features.keys())
    for key in inputs:
        if key not in dataset.meta.features:
            known = ", ".join(key for key in dataset.meta.features if key.startswith("observation"))
            raise UserError(f"{root} has no {key}, which the policy looks at; it has: {known}")
    store = FrameStore(dataset, cameras, frames_dir, report)
    deltas: dict[str, Sequence[int]] = {ACTION: range(len(config.action_delta_indices))}
    if config.n_obs_steps > 1:
        deltas |= dict.fromkeys(inputs, range(1 - config.n_obs_steps, 1))
    source = BatchSource(dataset, store, cameras, deltas)
    features = [*inputs, ACTION]
    shapes = {key: dataset.meta.features[key]["shape"] for key in features}
    for done, episode in enumerate(chosen):
        report(done, len(chosen))
        steps = np.arange(0, source.ends[episode] - source.starts[episode], config.n_action_steps)
        plans: list[Plan] = []
        for part in np.array_split(steps, -(-len(steps) // _BATCH)):
            found = source.batch(source.starts[episode] + part)
            batch = spelled_out({key: found[key] for key in (*features, "task")}, shapes)
            batch |= {camera: found[camera].float() / 255 for camera in cameras}
            with torch.inference_mode():
                batch = preprocess(batch)
                signals = read_signals(policy, batch, batch[ACTION], needs)
            plans += [Plan(int(step), row) for step, row in zip(part, signals.rows(), strict=True)]
        yield plans
    report(len(chosen), len(chosen))

"""The signals of recorded episodes: what the policy makes of demonstrations, at the steps at which it would plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lerobot.utils.constants import ACTION

from ..data.batches import BatchSource
from ..data.demonstrations import by_imitation, open_dataset
from ..data.frames import FrameStore
from ..errors import UserError
from ..files import read_json
from ..observing import spelled_out
from .scores import Plan
from .signals import Signal, read_signals

_BATCH = 32


class Reference(NamedTuple):
    """The demonstrations that a checkpoint was trained on."""

    root: Path
    episodes: tuple[int, ...] | None
    """None for all."""


def training_data(folder: Path) -> Reference | None:
    """What the checkpoint in `folder` says it was trained on; None where it does not say."""
    file = folder / "train_config.json"
    dataset = read_json(file).get("dataset", {}) if file.exists() else {}
    if not dataset.get("root"):
        return None
    episodes = dataset.get("episodes")
    return Reference(Path(dataset["root"]), None if episodes is None else tuple(episodes))


def check_held_out(folder: Path, root: Path, episodes: Sequence[int], reference: Path | None = None) -> None:
    """Raises `UserError` if the checkpoint was trained on one of the episodes: it knows those too well.

    Args:
        reference: where the training data lies now, if no longer where it was.
    """
    trained = training_data(folder)
    if trained is None:
        return
    now = trained.root if reference is None or trained.root.exists() else reference
    if now.resolve() != root.resolve():
        return
    known = [e for e in episodes if trained.episodes is None or e in trained.episodes]
    if known:
        raise UserError(
            f"{folder} was trained on episode {known[0]} of {root}: calibrate on episodes that it has not seen "
            "(train with --dataset.episodes and leave some out), or on --rollouts"
        )


def reference_episodes(
    trained: Reference | None, root: Path, dataset: Path | None = None, calibrating: Sequence[int] = ()
) -> list[int]:
    """The episodes of `root` that a score is fitted to: those of the training, where it has them; all otherwise.

    Args:
        trained: what the checkpoint was trained on; `root` may be a copy of it.
        dataset: the dataset of the episodes that calibrate.
        calibrating: those episodes. To a score that was fitted to them too nothing of them is strange.

    Raises:
        UserError: `root` cannot be read, or no episode is left.
    """
    total = open_dataset(root).meta.total_episodes
    chosen = list(range(total))
    if trained is not None and trained.episodes is not None:
        own = trained.episodes
        chosen = list(own) if root == trained.root or max(own, default=0) < total else chosen
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
    cameras = sorted(config.image_features)
    for key in config.input_features:
        if key not in dataset.meta.features:
            known = ", ".join(key for key in dataset.meta.features if key.startswith("observation"))
            raise UserError(f"{root} has no {key}, which the policy looks at; it has: {known}")
    store = FrameStore(dataset, cameras, frames_dir, report)
    deltas: dict[str, Sequence[int]] = {ACTION: range(len(config.action_delta_indices))}
    if config.n_obs_steps > 1:
        deltas |= dict.fromkeys(config.input_features, range(1 - config.n_obs_steps, 1))
    source = BatchSource(dataset, store, cameras, deltas)
    features = [*config.input_features, ACTION]
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

"""What a checkpoint says of the data that it was trained on: which episodes it knows, and which were held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..files import read_json
from .demonstrations import by_imitation


class TrainedOn(NamedTuple):
    """The dataset of a training, as `train_config.json` has it."""

    root: Path | None
    """Where it lay; None where LeRobot found it by its name."""
    episodes: tuple[int, ...] | None
    """None for all."""
    repo_id: str | None = None
    eval_split: float = 0.0
    """Share of each task's episodes that was held out."""

    def known(self, meta: Any, policy_config: Any) -> set[int]:
        """The episodes that the policy learned from.

        Args:
            meta: of the dataset.
            policy_config: of the policy.
        """
        total = meta.total_episodes
        episodes = list(range(total)) if self.episodes is None else [e for e in self.episodes if e < total]
        imitated, _ = by_imitation(meta, policy_config, episodes)
        return {*episodes} - last_of_each_task(meta, imitated, self.eval_split)

    def is_at(self, root: Path, repo_id: str | None = None) -> bool | None:
        """Whether a dataset is the one of the training; None where that cannot be told.

        Args:
            root: of the dataset.
            repo_id: its name, where somebody gave one.
        """
        named = self.repo_id is not None and self.repo_id == repo_id
        here = root.resolve()
        if self.root is not None and self.root.exists():
            return named or self.root.resolve() == here
        # LeRobot keeps what it fetched from the Hub under its name; and a root may be of another folder's view.
        ends = {Path(text) for text in (self.repo_id, self.root) if text is not None}
        moved = any(
            here.parts[-len(end.parts) :] == end.parts for end in ends if end.parts and not end.is_absolute()
        )
        return True if named or moved else None


def trained_on(folder: Path) -> TrainedOn | None:
    """What the checkpoint in `folder` was trained on; None where it does not say."""
    file = folder / "train_config.json"
    dataset = (read_json(file).get("dataset") or {}) if file.exists() else {}
    if not dataset.get("root") and not dataset.get("repo_id"):
        return None
    root, episodes = dataset.get("root"), dataset.get("episodes")
    return TrainedOn(
        Path(root) if root else None,
        None if episodes is None else tuple(episodes),
        dataset.get("repo_id"),
        float(dataset.get("eval_split") or 0),
    )


def last_of_each_task(meta: Any, episodes: Sequence[int], share: float) -> set[int]:
    """The episodes that a training holds out, as LeRobot does: the last ones of each task.

    Args:
        meta: of the dataset.
        share: of each task's episodes, rounded up.
    """
    by_task: dict[str, list[int]] = {}
    for episode in episodes if share else ():
        by_task.setdefault(next(iter(meta.episodes["tasks"][episode]), ""), []).append(episode)
    return {e for those in by_task.values() for e in those[len(those) - math.ceil(len(those) * share) :]}

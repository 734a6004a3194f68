"""Which episodes of a dataset a training uses, and for what."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from lerobot.configs.train import TrainPipelineConfig
from lerobot.datasets import EpisodeAwareSampler

from ..data.batches import BatchOrder, BatchSource, JoinedOrder
from ..data.demonstrations import by_imitation
from ..data.trained_on import last_of_each_task
from ..errors import UserError

log = logging.getLogger(__name__)


class Selection(NamedTuple):
    """Episodes by what they are for."""

    held_out: list[int]
    """Demonstrations that only the evaluation loss sees."""
    learned: list[int]
    """Demonstrations, or whatever else the policy learns from."""
    dynamics_only: list[int]
    """Episodes of tasks from which the policy's configuration lets it learn dynamics alone."""


def select(meta: Any, config: TrainPipelineConfig) -> Selection:
    """The episodes that `--dataset.episodes` names, or all.

    As in LeRobot, the last ones of each task are held out; those that teach dynamics alone never are.

    Args:
        meta: of the dataset.

    Raises:
        UserError: an episode does not exist, or none is left to learn from.
    """
    total = meta.total_episodes
    episodes = config.dataset.episodes if config.dataset.episodes is not None else list(range(total))
    if not episodes:
        raise UserError("--dataset.episodes names no episode; leave it out for all")
    unknown = [e for e in episodes if e >= total]
    if unknown:
        raise UserError(f"--dataset.episodes names episode {unknown[0]}; the dataset has {total}")
    imitated, dynamics_only = by_imitation(meta, config.policy, episodes)
    if not imitated:
        only = sorted(set(getattr(config.policy, "dynamics_only_tasks", ())))
        raise UserError(
            f"no episode is left to imitate: the tasks of all are in dynamics_only_tasks ({', '.join(only)})"
        )
    held_out = last_of_each_task(meta, imitated, config.dataset.eval_split)
    learned = [episode for episode in imitated if episode not in held_out]
    if not learned:
        raise UserError(f"--dataset.eval_split={config.dataset.eval_split} leaves no episode to learn from")
    if dynamics_only and not config.policy.dynamics_only_rows(config.batch_size):
        log.warning(
            "%d episodes of %s, which teach a dynamics alone, are left out: policy.coupling is %s, "
            "policy.dynamics_only_ratio %g",
            len(dynamics_only), ", ".join(config.policy.dynamics_only_tasks), config.policy.coupling,
            config.policy.dynamics_only_ratio,
        )  # fmt: skip
    return Selection(sorted(held_out), learned, dynamics_only)


def order_of(
    selection: Selection,
    source: BatchSource,
    config: TrainPipelineConfig,
    num_processes: int,
    rank: int,
    step: int,
    before: tuple[int, int] | None = None,
) -> JoinedOrder:
    """`batch_size` frames to imitate, as if there were nothing else, and behind them those for the dynamics alone.

    Args:
        before: batch size and processes of the steps up to `step`, where they were others.
    """
    dynamics_only_rows = getattr(config.policy, "dynamics_only_rows", lambda batch_size: 0)
    then, processes_then = before or (config.batch_size, num_processes)
    parts = [
        (selection.learned, config.batch_size, then),
        (selection.dynamics_only, dynamics_only_rows(config.batch_size), max(1, dynamics_only_rows(then))),
    ]
    return JoinedOrder(
        *(
            BatchOrder(
                EpisodeAwareSampler(
                    source.starts.tolist(),
                    source.ends.tolist(),
                    episode_indices_to_use=episodes,
                    drop_n_last_frames=getattr(config.policy, "drop_n_last_frames", 0),
                    shuffle=True,
                    seed=config.seed or 0,
                ),
                size,
                num_processes,
                rank,
                step,
                (size_then, processes_then),
            )
            for episodes, size, size_then in parts
            if episodes and size
        )
    )
